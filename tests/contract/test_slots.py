"""The slot word: packing, unpacking and its ranges."""

from dataclasses import fields, replace

import numpy as np
import pytest
from amaranth.lib import data

from coprune_hw.contract.slots import (
    CONTROL_BITS,
    LANE_BITS,
    LaneField,
    SlotControl,
    SlotStream,
    pack_slots,
    slot_bits,
    slot_bytes,
    unpack_slots,
)


def random_stream(*, slots: int, lanes: int, seed: int) -> SlotStream:
    rng = np.random.default_rng(seed)
    diagonal = rng.random(slots) < 0.5
    limit = np.where(diagonal, 2048, 128)[:, None]
    weight = rng.integers(-limit, limit, (slots, lanes))
    weight[0], weight[-1] = -limit[0], limit[-1] - 1
    index = np.where(diagonal[:, None], np.arange(lanes), rng.integers(0, lanes, (slots, lanes)))
    return SlotStream(
        weight=weight.astype(np.int16),
        index=index.astype(np.uint8),
        new_block=rng.random(slots) < 0.5,
        diagonal=diagonal,
        short_row=rng.random(slots) < 0.5,
        short_column=rng.random(slots) < 0.5,
        offset=rng.integers(0, 4096, slots).astype(np.uint16),
        dy=rng.integers(-8, 8, slots).astype(np.int8),
        dx=rng.integers(-8, 8, slots).astype(np.int8),
    )


@pytest.mark.parametrize("lanes", [8, 16])
def test_unpacks_what_it_packed(lanes):
    stream = random_stream(slots=300, lanes=lanes, seed=lanes)
    image = pack_slots(stream, lanes=lanes)
    assert len(image) == 300 * slot_bytes(lanes)
    unpacked = unpack_slots(image, lanes=lanes)
    for field in fields(SlotStream):
        expected, actual = getattr(stream, field.name), getattr(unpacked, field.name)
        assert actual.dtype == expected.dtype
        assert np.array_equal(actual, expected), field.name


@pytest.mark.parametrize("lanes", [8, 16])
def test_is_the_layout_that_gateware_decodes(lanes):
    """Bit for bit what Amaranth's structures put there: lanes first, then control."""
    stream = random_stream(slots=40, lanes=lanes, seed=1)
    image = pack_slots(stream, lanes=lanes)
    control = data.Layout.cast(SlotControl)
    for slot in range(len(stream)):
        raw = int.from_bytes(image[slot * slot_bytes(lanes) :][: slot_bytes(lanes)], "little")
        expected = 0
        for lane in range(lanes):
            weight = int(stream.weight[slot, lane])
            values = {"weight": weight, "index": int(stream.index[slot, lane])}
            field = data.Layout.cast(LaneField).const(values).as_value().value
            if stream.diagonal[slot]:
                field = weight & 0xFFF
            expected |= field << (LANE_BITS * lane)
        values = {name: int(getattr(stream, name)[slot]) for name, _ in control}
        expected |= control.const(values).as_value().value << (LANE_BITS * lanes)
        assert raw == expected


def test_widths():
    assert data.Layout.cast(LaneField).size == LANE_BITS
    assert data.Layout.cast(SlotControl).size == CONTROL_BITS
    assert (slot_bits(16), slot_bytes(16)) == (216, 27)
    assert (slot_bits(8), slot_bytes(8)) == (120, 15)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight", 128, r"slot weight must be in -128\.\.127, not 128"),
        ("weight", -129, r"slot weight must be in -128\.\.127, not -129"),
        ("index", 8, r"slot index must be in 0\.\.7, not 8"),
        ("offset", 4096, r"slot offset must be in 0\.\.4095, not 4096"),
        ("dy", 8, r"slot dy must be in -8\.\.7, not 8"),
        ("dx", -9, r"slot dx must be in -8\.\.7, not -9"),
    ],
)
def test_refuses_what_does_not_fit(name, value, message):
    stream = random_stream(slots=4, lanes=8, seed=2)
    stream.diagonal[2], stream.weight[2] = False, 0
    getattr(stream, name)[2] = value
    with pytest.raises(OverflowError, match=f"^{message}$"):
        pack_slots(stream, lanes=8)


@pytest.mark.parametrize("value", [-2049, 2048])
def test_refuses_a_diagonal_weight_of_13_bits(value):
    stream = random_stream(slots=4, lanes=8, seed=2)
    stream.diagonal[2], stream.weight[2, 3] = True, value
    message = rf"^slot diagonal weight must be in -2048\.\.2047, not {value}$"
    with pytest.raises(OverflowError, match=message):
        pack_slots(stream, lanes=8)


def test_refuses_a_part_of_a_slot():
    with pytest.raises(ValueError, match="slot image must be a multiple of 27 bytes, not 28"):
        unpack_slots(bytes(28), lanes=16)


def test_packs_no_slots():
    stream = random_stream(slots=2, lanes=8, seed=3)
    empty = replace(stream, **{f.name: getattr(stream, f.name)[:0] for f in fields(SlotStream)})
    assert pack_slots(empty, lanes=8) == b""
    assert len(unpack_slots(b"", lanes=8)) == 0
