"""Weights to slot streams.

First `build_streams` turns a layer's non-zero weights into slots, for all its channel tiles at once
and without knowing where tensors lie; their number decides how tensors are best placed. Then
`place_stream` adds the plane offsets and shifts of one channel tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from coprune_hw.contract.arithmetic import DIAGONAL_WEIGHT_MAX, WEIGHT_MAX
from coprune_hw.contract.planes import Placement
from coprune_hw.contract.slots import SHIFT_MAX, SHIFT_MIN, SlotStream
from coprune_sim.graph import IntegerGraph, Layer


@dataclass(frozen=True)
class Blocks:
    """What the blocks of a layer read: for each, one tap of one channel group of one source.

    Parameters
    ----------
    source, group : int arrays [blocks]
        Index of the source in the layer, and channel group of its tensor.
    row, column : int arrays [blocks]
        Distance of the pixel read from ``stride`` times the output pixel.
    """

    source: np.ndarray
    group: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class LayerStreams:
    """Slots of all channel tiles of a layer, one tile after the other.

    Parameters
    ----------
    blocks : Blocks
    counts : int array [tiles]
        Slots of each tile.
    weight : int16 array [slots, lanes]
    index : uint8 array [slots, lanes]
    new_block, diagonal : bool arrays [slots]
    block : int array [slots]
        Index in `blocks`.
    """

    blocks: Blocks
    counts: np.ndarray
    weight: np.ndarray
    index: np.ndarray
    new_block: np.ndarray
    diagonal: np.ndarray
    block: np.ndarray


@dataclass(frozen=True)
class _Entries:
    """Weights that are not zero, in the order of the arrays.

    Parameters
    ----------
    tile, lane, block, channel : int arrays [entries]
        `channel` is the index within the word.
    value : int array [entries]
    """

    tile: np.ndarray
    lane: np.ndarray
    block: np.ndarray
    channel: np.ndarray
    value: np.ndarray

    def take(self, selection: np.ndarray) -> _Entries:
        return _Entries(**{name: array[selection] for name, array in vars(self).items()})


def build_streams(layer: Layer, *, lanes: int) -> LayerStreams:
    """Turn a layer's weights into slots.

    The blocks of a tile come in the order of sources, taps, channel groups; blocks without weights
    are left out. A block takes as many slots as its busiest lane has weights. One whose weights are
    all on the diagonal takes one diagonal slot; in others, weights beyond +-127 are split into
    several of the same channel. A tile without any weights has one slot of zeros.

    Parameters
    ----------
    layer : Layer
    lanes : int

    Raises
    ------
    ValueError
        A weight does not fit a diagonal slot, or a maximum is not taken over whole diagonal slots
        of ones.
    """
    blocks = list_blocks(layer, lanes=lanes)
    entries = _list_entries(layer, lanes=lanes)
    tile_block = entries.tile * len(blocks) + entries.block
    begins = _run_begins(tile_block)
    sizes = np.diff(begins, append=len(tile_block))
    diagonal = ~np.logical_or.reduceat(entries.channel != entries.lane, begins)
    _check_diagonals(layer, entries, diagonal=np.repeat(diagonal, sizes))
    if layer.maximum:
        _check_maximum(layer, entries, begins=begins, sizes=sizes, diagonal=diagonal, lanes=lanes)

    entries, run = _split_wide(entries, run=np.repeat(np.arange(len(begins)), sizes), keep=diagonal)
    rank = _rank_in_runs(run * lanes + entries.lane)
    run_begins = _run_begins(run)
    run_slots = np.maximum.reduceat(rank, run_begins) + 1
    run_first = np.cumsum(run_slots) - run_slots
    slot = run_first[run] + rank
    slots = int(run_slots.sum())

    weight = np.zeros((slots, lanes), np.int16)
    index = np.zeros((slots, lanes), np.uint8)
    new_block = np.zeros(slots, bool)
    weight[slot, entries.lane] = entries.value
    index[slot, entries.lane] = entries.channel
    new_block[run_first] = True
    return LayerStreams(
        blocks=blocks,
        counts=np.bincount(entries.tile[run_begins], weights=run_slots).astype(np.int64),
        weight=weight,
        index=index,
        new_block=new_block,
        diagonal=np.repeat(diagonal, run_slots),
        block=np.repeat(entries.block[run_begins], run_slots),
    )


def list_blocks(layer: Layer, *, lanes: int) -> Blocks:
    """List the blocks that a layer can have, in stream order."""
    parts = []
    for number, source in enumerate(layer.sources):
        rows, columns = source.weight.shape[2:]
        groups = -(-source.weight.shape[1] * source.groups // lanes)
        row, column, group = np.indices((rows, columns, groups)).reshape(3, -1)
        parts.append(
            (
                np.full(len(row), number),
                group,
                row * source.dilation[0] - source.padding[0],
                column * source.dilation[1] - source.padding[1],
            )
        )
    return Blocks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def place_stream(
    streams: LayerStreams, *, tile: int, layer: Layer, placements: list[Placement]
) -> SlotStream:
    """Resolve the blocks of one channel tile to plane offsets and shifts.

    Parameters
    ----------
    streams : LayerStreams
    tile : int
    layer : Layer
    placements : list of Placement
        Of the tensor of each source.

    Raises
    ------
    ValueError
        A tap is too far away for a slot's shift.
    """
    end = int(streams.counts[: tile + 1].sum())
    slots = slice(end - int(streams.counts[tile]), end)
    block = streams.block[slots]
    row = _place_taps(streams.blocks, layer=layer, placements=placements, axis=0)
    column = _place_taps(streams.blocks, layer=layer, placements=placements, axis=1)
    plane = np.array(
        [
            placements[source].plane_offset(group, phase_row, phase_column)
            for source, group, phase_row, phase_column in zip(
                streams.blocks.source, streams.blocks.group, row.phase, column.phase, strict=True
            )
        ]
    )
    return SlotStream(
        weight=streams.weight[slots],
        index=streams.index[slots],
        new_block=streams.new_block[slots],
        diagonal=streams.diagonal[slots],
        short_row=row.short[block],
        short_column=column.short[block],
        offset=offset.astype(np.uint16)[block],
        dy=row.shift.astype(np.int8)[block],
        dx=column.shift.astype(np.int8)[block],
    )
