"""The register map: addresses, widths and meanings."""

import pytest
from amaranth.lib import data

from coprune_hw.contract.registers import (
    COUNTERS,
    ERROR_MEANING,
    IDENTITY,
    REGISTERS,
    ErrorCode,
    address_of,
)

NAMES = [name for name, _ in REGISTERS]


def test_addresses_are_unique_and_aligned():
    addresses = [address_of(name) for name in NAMES]
    assert addresses == list(range(0, 4 * len(NAMES), 4))


@pytest.mark.parametrize("name", NAMES)
def test_a_register_has_32_bits(name):
    layout = data.Layout.cast(REGISTERS[name].shape)
    assert layout.size == 32
    fields = sorted((field.offset, field.width) for _, field in layout)
    assert sum(width for _, width in fields) == 32


def test_every_error_has_a_meaning():
    assert set(ERROR_MEANING) == set(ErrorCode)
    assert len(set(ERROR_MEANING.values())) == len(ErrorCode)


def test_every_counter_is_recorded_at_marks():
    for name in COUNTERS:
        assert {name, f"mark_{name}"} <= set(NAMES)


def test_identity_reads_as_letters_in_memory():
    assert IDENTITY.to_bytes(4, "little") == b"COPR"


def test_an_unknown_register_has_no_address():
    with pytest.raises(KeyError):
        address_of("colour")
