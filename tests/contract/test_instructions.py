"""Instruction layouts: what is encoded is decoded, and nothing is truncated."""

import re

import numpy as np
import pytest
from amaranth.hdl import Shape
from amaranth.lib import data, enum

from coprune_hw.contract.instructions import (
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    LAYOUTS,
    Opcode,
    Prefix,
    decode_instruction,
    encode_instruction,
    prefix,
)
from coprune_hw.contract.layout import decode, encode

OPCODE_BITS = 4


def leaves(layout, path=()):
    """Path and shape of every number in a layout, structures opened."""
    for name, field in data.Layout.cast(layout):
        if isinstance(field.shape, type) and issubclass(field.shape, data.Struct):
            yield from leaves(field.shape, (*path, name))
        else:
            yield (*path, name), Shape.cast(field.shape)


def value_range(shape: Shape) -> tuple[int, int]:
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    return low, low + (1 << shape.width) - 1


def assign(values: dict, path: tuple[str, ...], value: int) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


def random_values(opcode: Opcode, rng: np.random.Generator) -> dict:
    values = {}
    for path, shape in leaves(LAYOUTS[opcode]):
        low, high = value_range(shape)
        # Ends of the range are where sign and truncation errors show.
        choices = (low, high, int(rng.integers(low, high + 1)))
        assign(values, path, choices[rng.integers(3)])
    values["prefix"]["opcode"] = opcode
    return values


FIELDS = [
    (opcode, path, shape)
    for opcode, layout in LAYOUTS.items()
    for path, shape in leaves(layout)
    if path != ("prefix", "opcode")
]


@pytest.mark.parametrize("opcode", Opcode)
def test_decodes_what_it_encoded(opcode):
    rng = np.random.default_rng(int(opcode))
    for _ in range(100):
        values = random_values(opcode, rng)
        raw = encode_instruction(values)
        assert len(raw) == INSTRUCTION_BYTES
        assert decode_instruction(raw) == values


@pytest.mark.parametrize("opcode", Opcode)
def test_agrees_with_amaranths_own_constants(opcode):
    """The gateware sees the same bits as `Layout.const` puts there."""
    layout = data.Layout.cast(LAYOUTS[opcode])
    values = random_values(opcode, np.random.default_rng(10 + int(opcode)))
    assert layout.const(values).as_value().value == encode(layout, values)


@pytest.mark.parametrize("opcode", Opcode)
def test_fits_and_starts_with_the_prefix(opcode):
    layout = data.Layout.cast(LAYOUTS[opcode])
    assert layout.size <= INSTRUCTION_BITS
    assert layout["prefix"].offset == 0
    assert layout["prefix"].shape is Prefix
    assert data.Layout.cast(Prefix)["opcode"].offset == 0


@pytest.mark.parametrize(
    ("opcode", "path", "shape"), FIELDS, ids=[f"{f[0].name}-{'.'.join(f[1])}" for f in FIELDS]
)
def test_names_the_field_that_overflows(opcode, path, shape):
    low, high = value_range(shape)
    for value in (low - 1, high + 1):
        values = random_values(opcode, np.random.default_rng(3))
        assign(values, path, value)
        message = f"{'.'.join(path)} must be in {low}..{high}, not {value}"
        with pytest.raises(OverflowError, match=f"^{re.escape(message)}$"):
            encode_instruction(values)


def test_refuses_a_missing_field():
    values = {"prefix": prefix(Opcode.END)}
    del values["prefix"]["mark"]
    with pytest.raises(KeyError, match=r"fields of prefix must be .*check \['mark'\]"):
        encode_instruction(values)


def test_refuses_an_unknown_field():
    with pytest.raises(KeyError, match=r"fields of the structure must be .*check \['colour'\]"):
        encode_instruction({"prefix": prefix(Opcode.END), "colour": 1})


@pytest.mark.parametrize("opcode", [0, *range(max(Opcode) + 1, 1 << OPCODE_BITS)])
def test_refuses_an_unknown_opcode(opcode):
    with pytest.raises(ValueError, match=rf"opcode must be one of \[1, .*\], not {opcode}"):
        decode_instruction(bytes([opcode]) + bytes(INSTRUCTION_BYTES - 1))


def test_prefix_names_tokens():
    values = prefix(Opcode.LOAD, mark=7, wait_next=True)
    assert values["wait_next"] == 1
    assert values["wait_previous"] == values["signal_next"] == values["signal_previous"] == 0
    assert (values["mark_valid"], values["mark"]) == (1, 7)
    assert prefix(Opcode.LOAD)["mark_valid"] == 0
    with pytest.raises(ValueError, match="unknown token 'wait': must be one of wait_previous"):
        prefix(Opcode.LOAD, wait=True)


def test_decodes_nested_and_signed_fields():
    class Colour(enum.IntEnum, shape=2):
        RED = 2

    inner = data.StructLayout({"a": 3, "b": Shape(4, signed=True)})
    layout = data.StructLayout({"inner": inner, "colour": Colour, "c": Shape(2, signed=True)})
    values = {"inner": {"a": 5, "b": -8}, "colour": Colour.RED, "c": -1}
    assert encode(layout, values) == 5 | 8 << 3 | 2 << 7 | 3 << 9
    assert decode(layout, encode(layout, values)) == values
