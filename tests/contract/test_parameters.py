"""The parameter record: packing, unpacking and its ranges."""

import numpy as np
import pytest
from amaranth.lib import data

from coprune_hw.contract.arithmetic import MAX_POST_SHIFT, MAX_PRE_SHIFT, MULTIPLIER_BITS
from coprune_hw.contract.parameters import (
    PARAMETER_BYTES,
    ChannelParameters,
    pack_parameters,
    unpack_parameters,
)

RANGES = {
    "bias": (-(1 << 31), (1 << 31) - 1),
    "multiplier": (0, (1 << MULTIPLIER_BITS) - 1),
    "pre_shift": (0, MAX_PRE_SHIFT),
    "post_shift": (0, MAX_POST_SHIFT),
}


def random_parameters(*, channels: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = {}
    for name, (low, high) in RANGES.items():
        values[name] = rng.integers(low, high + 1, channels)
        values[name][:2] = low, high
    return values


def test_unpacks_what_it_packed():
    values = random_parameters(channels=100, seed=1)
    image = pack_parameters(**values)
    assert len(image) == 100 * PARAMETER_BYTES
    unpacked = unpack_parameters(image)
    assert set(unpacked) == set(values)
    for name, expected in values.items():
        assert unpacked[name].dtype == np.int64
        assert np.array_equal(unpacked[name], expected), name


def test_is_the_layout_that_gateware_decodes():
    values = random_parameters(channels=20, seed=2)
    image = pack_parameters(**values)
    layout = data.Layout.cast(ChannelParameters)
    assert layout.size <= 8 * PARAMETER_BYTES
    for channel in range(20):
        record = {name: int(value[channel]) for name, value in values.items()}
        raw = int.from_bytes(image[channel * PARAMETER_BYTES :][:PARAMETER_BYTES], "little")
        assert raw == layout.const(record).as_value().value


@pytest.mark.parametrize("name", RANGES)
def test_refuses_what_does_not_fit(name):
    low, high = RANGES[name]
    for value in (low - 1, high + 1):
        values = random_parameters(channels=4, seed=3)
        values[name][3] = value
        message = rf"^{name} must be in {low}\.\.{high}, not {value}$"
        with pytest.raises(OverflowError, match=message):
            pack_parameters(**values)
