"""The slot word: one cycle of array work.

From bit 0: `lanes` fields of 12 bits (`LaneField`), then 24 control bits (`SlotControl`). The slot
memory holds it as two memories, control and lanes, because the control bits are needed earlier.
"""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import signed
from amaranth.lib import data

LANE_BITS = 12
CONTROL_BITS = 24
OFFSET_BITS = 12
SHIFT_MIN, SHIFT_MAX = -8, 7


class LaneField(data.Struct):
    """Weight and channel index of one lane. In a diagonal slot all 12 bits are a signed weight."""

    weight: signed(8)
    index: 4


class SlotControl(data.Struct):
    """Control bits of a slot.

    `new_block` starts a block: the array takes the words at plane `offset`, shifted by (`dy`,
    `dx`). `short_row` and `short_column` say that the plane has one row or column less than the
    instruction's input size (the later phases of an odd image). The first slot of a stream must
    begin a block.
    """

    new_block: 1
    diagonal: 1
    short_row: 1
    short_column: 1
    offset: OFFSET_BITS
    dy: signed(4)
    dx: signed(4)


@dataclass(frozen=True)
class SlotStream:
    """Slots of one tile of output channels, as arrays of equal length `n`.

    Parameters
    ----------
    weight : int16 array [n, lanes]
        8-bit values, 12-bit ones in diagonal slots.
    index : uint8 array [n, lanes]
        Channel within the word; ignored in diagonal slots.
    new_block, diagonal, short_row, short_column : bool arrays [n]
    offset : uint16 array [n]
    dy, dx : int8 arrays [n]
    """

    weight: np.ndarray
    index: np.ndarray
    new_block: np.ndarray
    diagonal: np.ndarray
    short_row: np.ndarray
    short_column: np.ndarray
    offset: np.ndarray
    dy: np.ndarray
    dx: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)


def slot_bits(lanes: int) -> int:
    """Bits of a slot word: 216 at 16 lanes."""
    return lanes * LANE_BITS + CONTROL_BITS


def slot_bytes(lanes: int) -> int:
    """Bytes of a slot word in DRAM, without padding: 27 at 16 lanes."""
    return slot_bits(lanes) // 8


def pack_slots(stream: SlotStream, *, lanes: int) -> bytes:
    """Pack a slot stream into its DRAM image, `slot_bytes` bytes a slot.

    Raises
    ------
    OverflowError
        A value does not fit its field.
    """
    diagonal = stream.diagonal.astype(bool)
    wide = stream.weight.astype(np.int64)
    _check_range("weight", wide[~diagonal], -128, 127)
    _check_range("diagonal weight", wide[diagonal], -2048, 2047)
    _check_range("index", stream.index, 0, lanes - 1)
    _check_range("offset", stream.offset, 0, (1 << OFFSET_BITS) - 1)
    _check_range("dy", stream.dy, SHIFT_MIN, SHIFT_MAX)
    _check_range("dx", stream.dx, SHIFT_MIN, SHIFT_MAX)
    sparse_field = (wide & 0xFF) | (stream.index.astype(np.int64) << _offset(LaneField, "index"))
    lane_field = np.where(diagonal[:, None], wide & 0xFFF, sparse_field)
    lane_bits = (lane_field[:, :, None] >> np.arange(LANE_BITS)) & 1
    control = np.zeros(len(stream), np.int64)
    for name, width in _control_fields():
        value = getattr(stream, name).astype(np.int64) & ((1 << width) - 1)
        control |= value << _offset(SlotControl, name)
    control_bits = (control[:, None] >> np.arange(CONTROL_BITS)) & 1
    bits = np.concatenate([lane_bits.reshape(len(stream), lanes * LANE_BITS), control_bits], axis=1)
    return np.packbits(bits.astype(np.uint8), axis=1, bitorder="little").tobytes()


def unpack_slots(image: bytes, *, lanes: int) -> SlotStream:
    """Decode what `pack_slots` packed.

    Raises
    ------
    ValueError
        The image is not a whole number of slot words.
    """
    size = slot_bytes(lanes)
    if len(image) % size:
        raise ValueError(f"slot image must be a multiple of {size} bytes, not {len(image)}")
    rows = np.frombuffer(image, np.uint8).reshape(-1, size)
    bits = np.unpackbits(rows, axis=1, bitorder="little").astype(np.int64)
    lane_bits = bits[:, : lanes * LANE_BITS].reshape(-1, lanes, LANE_BITS)
    lane_field = (lane_bits << np.arange(LANE_BITS)).sum(axis=2)
    control = (bits[:, lanes * LANE_BITS :] << np.arange(CONTROL_BITS)).sum(axis=1)
    fields = {}
    for name, width in _control_fields():
        value = (control >> _offset(SlotControl, name)) & ((1 << width) - 1)
        fields[name] = value
    for name in ("new_block", "diagonal", "short_row", "short_column"):
        fields[name] = fields[name].astype(bool)
    for name in ("dy", "dx"):
        fields[name] = _sign_extend(fields[name], 4).astype(np.int8)
    fields["offset"] = fields["offset"].astype(np.uint16)
    narrow, wide = _sign_extend(lane_field & 0xFF, 8), _sign_extend(lane_field, LANE_BITS)
    weight = np.where(fields["diagonal"][:, None], wide, narrow)
    index = lane_field >> _offset(LaneField, "index")
    index = np.where(fields["diagonal"][:, None], np.arange(lanes), index)
    return SlotStream(weight=weight.astype(np.int16), index=index.astype(np.uint8), **fields)


def begins_block(image: bytes, *, lanes: int) -> np.ndarray:
    """Which slots of what `pack_slots` packed begin a block: a bool array [slots]."""
    bit = lanes * LANE_BITS + _offset(SlotControl, "new_block")
    rows = np.frombuffer(image, np.uint8).reshape(-1, slot_bytes(lanes))
    return (rows[:, bit // 8] >> bit % 8 & 1).astype(bool)


def _offset(struct: type[data.Struct], name: str) -> int:
    return data.Layout.cast(struct)[name].offset


def _control_fields() -> list[tuple[str, int]]:
    return [(name, field.width) for name, field in data.Layout.cast(SlotControl)]


def _sign_extend(value: np.ndarray, bits: int) -> np.ndarray:
    return np.where(value >> (bits - 1) & 1, value - (1 << bits), value)


def _check_range(name: str, values: np.ndarray, low: int, high: int) -> None:
    values = np.asarray(values)
    bad = values[(values < low) | (values > high)]
    if bad.size:
        raise OverflowError(f"slot {name} must be in {low}..{high}, not {bad.flat[0]}")
