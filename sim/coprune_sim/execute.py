"""EXECUTE as the instruction simulator does it: a slot stream over all tiles of pixels at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from coprune_hw.contract.arithmetic import requantize
from coprune_hw.contract.instructions import RAW_WORDS
from coprune_hw.contract.program import DrainedWords
from coprune_hw.contract.slots import OFFSET_BITS, SlotStream
from coprune_hw.contract.work import output_pixel

from .memories import Memories, check_bank_columns, require_address

PLANE_ADDRESS_MASK = (1 << OFFSET_BITS) - 1
"""Read addresses are computed with as many bits as a slot's plane offset has."""

STALE_BYTE = 0x55
"""Stands for what is in a word register of the array before the first block."""


def execute(instruction: dict, *, memories: Memories) -> DrainedWords:
    """Run an EXECUTE, drain included.

    All reads precede all writes. On the machine they interleave, so a program may overwrite a word
    only with results that need no later read of it; for those programs the two are the same.

    Parameters
    ----------
    instruction : dict
        As `coprune_hw.contract.instructions.decode_instruction` gives it.
    memories : Memories
        The outputs are written to its activation memory.

    Returns
    -------
    DrainedWords
        In the order of the hardware: tile by tile, column by column, byte by byte.

    Raises
    ------
    MachineError
        A field or an address is outside a memory.
    """
    _check_fields(instruction, memories=memories)
    array = _Array(instruction, memories)
    accumulators = array.maximum() if instruction["maximum"] else array.sum()
    return array.drain(accumulators)


def _check_fields(instruction: dict, *, memories: Memories) -> None:
    config = memories.config
    for name in ("slot_count", "tile_rows", "tile_columns"):
        require_address(instruction[name] >= 1, message=f"{name} must be at least 1, not 0")
    for what, end, depth in (
        ("slot", instruction["slot_base"] + instruction["slot_count"], config.slot_depth),
        ("parameter", instruction["parameter_base"] + config.lanes, config.parameter_depth),
    ):
        require_address(
            end <= depth, message=f"{what} address must be below {depth}, not {end - 1}"
        )
    require_address(
        not instruction["tabulated"] or instruction["table"] < config.tables,
        message=f"table must be below {config.tables}, not {instruction['table']}",
    )
    check_bank_columns(instruction["log2_bank_columns"], columns=config.columns)
    require_address(
        not (instruction["raw"] and instruction["output"]["log2_stride"]),
        message="raw sums must be written with stride 1",
    )


def _split_bytes(accumulators: np.ndarray) -> np.ndarray:
    """Bytes as int64 [pixels * RAW_WORDS, lanes] of int64 [pixels, lanes]."""
    raw = accumulators.astype("<i4").view(np.int8).reshape(*accumulators.shape, RAW_WORDS)
    return raw.transpose(0, 2, 1).reshape(-1, accumulators.shape[1]).astype(np.int64)


@dataclass(frozen=True)
class _Array:
    """The PE array at work on one EXECUTE. Pixels are in drain order: tile by tile, row by row."""

    instruction: dict
    memories: Memories

    @cached_property
    def bank_columns(self) -> int:
        return 1 << self.instruction["log2_bank_columns"]

    @cached_property
    def bank_rows(self) -> int:
        return self.memories.config.columns >> self.instruction["log2_bank_columns"]

    @cached_property
    def stream(self) -> SlotStream:
        fields = self.instruction
        return self.memories.slot_stream(fields["slot_base"], count=fields["slot_count"])

    @cached_property
    def grid(self) -> tuple[np.ndarray, ...]:
        """Tile row, tile column, and row and column in the tile: open axes of one 4-D grid."""
        shape = (self.instruction["tile_rows"], self.instruction["tile_columns"])
        return np.ix_(*map(np.arange, (*shape, self.bank_rows, self.bank_columns)))

    @cached_property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column in the image, of shapes that broadcast to the grid."""
        i, j, r, c = self.grid
        y = self.instruction["row_begin"] + i * self.bank_rows + r
        return y, j * self.bank_columns + c

    @cached_property
    def tile_address(self) -> np.ndarray:
        i, j, _, _ = self.grid
        return self.instruction["tile_base"] + i * self.instruction["pitch"] + j

    def sum(self) -> np.ndarray:
        """Accumulate by addition, int64 [pixels, lanes].

        A block is one matrix product of words [pixels, channels] with weights [channels, lanes],
        where weights of one lane that read the same channel add up. That is what its slots do one
        by one, and float64 does it exactly: no partial sum of at most 65535 slots reaches
        ``65535 * 2**11 * 2**7 < 2**34``. Wrapping the total wraps every step, as addition modulo
        ``2**accumulator_bits`` is associative.
        """
        lanes = self.memories.config.lanes
        lane = np.arange(lanes)
        total = 0
        for slots, words in self._blocks():
            matrix = np.zeros((lanes, lanes))
            np.add.at(
                matrix, (self.stream.index[slots] % lanes, lane[None]), self.stream.weight[slots]
            )
            total += words.astype(np.float64) @ matrix
        half = 1 << (self.memories.config.accumulator_bits - 1)
        return (total.astype(np.int64) + half) % (2 * half) - half

    def maximum(self) -> np.ndarray:
        """Product of the largest channel, the first of equal ones: int64 [pixels, lanes]."""
        lanes = self.memories.config.lanes
        largest, products = np.iinfo(np.int64).min, 0
        for slots, words in self._blocks():
            for slot in range(slots.start, slots.stop):
                channel = words[:, self.stream.index[slot] % lanes].astype(np.int64)
                larger = channel > largest
                products = np.where(larger, channel * self.stream.weight[slot], products)
                largest = np.where(larger, channel, largest)
        return products

    def drain(self, accumulators: np.ndarray) -> DrainedWords:
        """Requantize the pixels inside the output and write them to the activation memory."""
        fields, memories = self.instruction, self.memories
        y, x = output_pixel(fields, *self.pixels)
        inside = (y < fields["output_height"]) & (x < fields["output_width"])
        y, x = (np.broadcast_to(axis, inside.shape)[inside] for axis in (y, x))
        place, values = fields["output"], accumulators[inside.ravel()]
        tiles = fields["tile_rows"] * fields["tile_columns"]
        tile = np.repeat(np.arange(tiles), memories.config.columns)
        ages = (tiles - tile)[inside.ravel()]
        if fields["raw"]:
            # Of every pixel byte 0 of all lanes, then byte 1...
            values = _split_bytes(values)
            located = [
                memories.locate(
                    {**place, "base": place["base"] + byte * place["plane_words"]}, y=y, x=x
                )
                for byte in range(RAW_WORDS)
            ]
            bank, address = (
                np.stack(parts, axis=1).ravel() for parts in zip(*located, strict=True)
            )
        else:
            bank, address = memories.locate(place, y=y, x=x)
        word = requantize(
            values,
            **memories.channel_parameters(fields["parameter_base"]),
            **{name: fields[name] for name in ("zero", "low", "high")},
        ).astype(np.int8)
        if fields["tabulated"]:
            word = memories.table(fields["table"])[word.view(np.uint8)]
        memories.activation[bank, address] = word
        if fields["barrier"]:
            memories.unwritten[:] = 0
        memories.unwritten[memories.unwritten > 0] += tiles
        memories.unwritten[bank, address] = np.repeat(ages, len(bank) // len(ages))
        return DrainedWords(bank=bank, address=address, word=word)

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Slots and words [pixels, lanes] of every block.

        Slots before the first block multiply what the array's word registers happen to hold.
        """
        begins = np.flatnonzero(self.stream.new_block).tolist()
        leading = slice(0, begins[0] if begins else len(self.stream))
        if leading.stop:
            rows, columns = self.instruction["tile_rows"], self.instruction["tile_columns"]
            pixels = rows * columns * self.memories.config.columns
            yield leading, np.full((pixels, self.memories.config.lanes), STALE_BYTE, np.int8)
        for begin, end in pairwise([*begins, len(self.stream)]):
            yield slice(begin, end), self._read(begin)

    def _read(self, slot: int) -> np.ndarray:
        """The words [pixels, lanes] that the array takes at a slot with `new_block`."""
        fields, memories = self.instruction, self.memories
        depth = memories.config.activation_depth
        dy, dx = int(self.stream.dy[slot]), int(self.stream.dx[slot])
        y, x = (pixel + shift for pixel, shift in zip(self.pixels, (dy, dx), strict=True))
        height = fields["input_height"] - int(self.stream.short_row[slot])
        width = fields["input_width"] - int(self.stream.short_column[slot])
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)

        _, _, r, c = self.grid
        bank_row, bank_column = (r + dy) % self.bank_rows, (c + dx) % self.bank_columns
        carry = (bank_row < dy % self.bank_rows) * fields["pitch"]
        carry = carry + (bank_column < dx % self.bank_columns)
        address = self.tile_address + int(self.stream.offset[slot]) + carry
        address = np.where(inside, address & PLANE_ADDRESS_MASK, 0)
        require_address(
            not (address >= depth).any(),
            message=f"activation address must be below {depth}, not {address.max()}",
        )
        place = (bank_row * self.bank_columns + bank_column) * depth + address
        words = memories.activation.reshape(-1, memories.config.lanes).take(place.ravel(), axis=0)
        age = memories.unwritten.reshape(-1).take(place.ravel())
        stale = age > 0
        if fields["barrier"]:
            # All but the last tiles are there, and behind the first tile they are, too.
            stale &= age < fields["barrier"]
            stale[memories.config.columns :] = False
        words[stale] = ~words[stale]
        words[~inside.ravel()] = fields["pad"]
        return words
