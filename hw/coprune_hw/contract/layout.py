"""Encoding and decoding of Amaranth structures on the host, with range checks.

`amaranth.lib.data.Layout.const` silently truncates values that do not fit; `encode` refuses them.
"""

from amaranth.hdl import Shape
from amaranth.lib import data


def encode(layout: data.StructLayout, values: dict, *, path: str = "") -> int:
    """Pack `values` into the bits of `layout`.

    Parameters
    ----------
    layout : data.StructLayout
    values : dict
        Every field's integer, or a nested dict where the field is a structure.

    Returns
    -------
    int

    Raises
    ------
    KeyError
        A field is missing, or is none of the layout's.
    OverflowError
        A value does not fit its field; the message names field, value and range.
    """
    names = [name for name, _ in layout]
    if set(values) != set(names):
        odd = sorted(set(values) ^ set(names))
        raise KeyError(f"fields of {path or 'the structure'} must be {names}; check {odd}")
    bits = 0
    for name, field in layout:
        value = values[name]
        full_name = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            raw = encode(data.Layout.cast(field.shape), value, path=full_name)
        else:
            raw = _encode_number(Shape.cast(field.shape), int(value), full_name)
        bits |= raw << field.offset
    return bits


def decode(layout: data.StructLayout, raw: int) -> dict:
    """Unpack the bits of `layout` into a dict of integers; structures become nested dicts."""
    values = {}
    for name, field in layout:
        shape = Shape.cast(field.shape)
        bits = (raw >> field.offset) & ((1 << shape.width) - 1)
        nested = field.shape
        if isinstance(nested, type) and issubclass(nested, data.Struct):
            nested = data.Layout.cast(nested)
        if isinstance(nested, data.StructLayout):
            values[name] = decode(nested, bits)
        elif shape.signed and bits >> (shape.width - 1):
            values[name] = bits - (1 << shape.width)
        else:
            values[name] = bits
    return values


def _encode_number(shape: Shape, value: int, name: str) -> int:
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    high = low + (1 << shape.width) - 1
    if not low <= value <= high:
        raise OverflowError(f"{name} must be in {low}..{high}, not {value}")
    return value & ((1 << shape.width) - 1)
