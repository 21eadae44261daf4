"""The parameter record: bias and requantization of one output channel, 64 bits."""

import numpy as np
from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from .arithmetic import MULTIPLIER_BITS

PARAMETER_BYTES = 8

IDENTITY = {"bias": 0, "multiplier": 1, "pre_shift": 0, "post_shift": 0}
"""A record with which `arithmetic.requantize` changes no int8 number."""


class ChannelParameters(data.Struct):
    """What the drain applies to one output channel; see `arithmetic.requantize`."""

    bias: signed(32)
    multiplier: unsigned(MULTIPLIER_BITS)
    pre_shift: unsigned(4)
    post_shift: unsigned(5)


def pack_parameters(**fields: np.ndarray) -> bytes:
    """Pack `bias`, `multiplier`, `pre_shift`, `post_shift` arrays of equal length.

    Raises
    ------
    OverflowError
        A value does not fit its field.
    """
    packed = np.zeros(len(fields["bias"]), np.uint64)
    for name, field in data.Layout.cast(ChannelParameters):
        values = np.asarray(fields[name], np.int64)
        signed_field = name == "bias"
        low = -(1 << (field.width - 1)) if signed_field else 0
        high = low + (1 << field.width) - 1
        bad = values[(values < low) | (values > high)]
        if bad.size:
            raise OverflowError(f"{name} must be in {low}..{high}, not {bad.flat[0]}")
        raw = (values & ((1 << field.width) - 1)).astype(np.uint64)
        packed |= raw << np.uint64(field.offset)
    return packed.astype("<u8").tobytes()


def unpack_parameters(image: bytes) -> dict[str, np.ndarray]:
    """Decode what `pack_parameters` packed into int64 arrays."""
    packed = np.frombuffer(image, "<u8")
    fields = {}
    for name, field in data.Layout.cast(ChannelParameters):
        mask = np.uint64((1 << field.width) - 1)
        raw = ((packed >> np.uint64(field.offset)) & mask).astype(np.int64)
        if name == "bias":
            raw = np.where(raw >> (field.width - 1), raw - (1 << field.width), raw)
        fields[name] = raw
    return fields
