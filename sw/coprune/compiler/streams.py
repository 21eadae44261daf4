"""Weights to slot streams.

First `build_streams` turns a layer's non-zero weights into slots, for all its channel tiles at once
and without knowing where tensors lie; their number decides how tensors are best placed. Then
`place_streams` adds plane offsets and shifts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from coprune_hw.contract.arithmetic import DIAGONAL_WEIGHT_MAX, WEIGHT_MAX
from coprune_hw.contract.planes import Placement
from coprune_hw.contract.slots import OFFSET_BITS, SHIFT_MAX, SHIFT_MIN, SlotStream
from coprune_sim.graph import Layer


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
    """Weights that get slots, in stream order.

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


def build_streams(layer: Layer, *, lanes: int, skip_zeros: bool = True) -> LayerStreams:
    """Turn a layer's weights into slots.

    The blocks of a tile come in the order of sources, taps, channel groups; blocks without weights
    are left out. A block takes as many slots as its busiest lane has weights. One whose weights are
    all on the diagonal takes one diagonal slot; in others, weights beyond +-127 are split into
    several of the same channel. A tile without any weights has one slot of zeros.

    Parameters
    ----------
    layer : Layer
    lanes : int
    skip_zeros : bool
        False gives the zero weights of convolutions slots as well, as dense hardware would. A
        source that picks at most one pixel for an output is a copy, and no convolution.

    Raises
    ------
    ValueError
        A weight does not fit a diagonal slot, or a maximum is not taken over whole diagonal slots
        of ones.
    """
    blocks = list_blocks(layer, lanes=lanes)
    entries = _list_entries(layer, lanes=lanes, skip_zeros=skip_zeros)
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


def place_streams(
    streams: LayerStreams, *, layer: Layer, placements: list[Placement]
) -> tuple[SlotStream, ...]:
    """Resolve blocks to plane offsets and shifts: the finished stream of every channel tile.

    Parameters
    ----------
    streams : LayerStreams
    layer : Layer
    placements : list of Placement
        Of the tensor that each source reads. They share bank shape and pitch.

    Raises
    ------
    ValueError
        A tap is out of reach.
    """
    blocks = streams.blocks
    rows, columns = reach_blocks(blocks, layer=layer, placements=placements)
    for block in np.unique(streams.block):
        if not (rows.within_reach[block] and columns.within_reach[block]):
            source = layer.sources[blocks.source[block]]
            raise ValueError(
                f"layer {layer.name!r}: a tap at distance "
                f"({blocks.row[block]}, {blocks.column[block]}) of {source.tensor!r} is out of "
                f"reach: shifts must be in {SHIFT_MIN}..{SHIFT_MAX} pixels of a plane"
            )
    plane = [
        placements[source].plane_offset(group, phase_row, phase_column)
        for source, group, phase_row, phase_column in zip(
            blocks.source, blocks.group, rows.phase, columns.phase, strict=True
        )
    ]
    offset = np.array(plane) + rows.bank_steps * placements[0].pitch + columns.bank_steps
    offset = (offset % (1 << OFFSET_BITS)).astype(np.uint16)
    ends = np.cumsum(streams.counts)
    placed = []
    for begin, end in zip(ends - streams.counts, ends, strict=True):
        block = streams.block[begin:end]
        placed.append(
            SlotStream(
                weight=streams.weight[begin:end],
                index=streams.index[begin:end],
                new_block=streams.new_block[begin:end],
                diagonal=streams.diagonal[begin:end],
                short_row=rows.short[block],
                short_column=columns.short[block],
                offset=offset[block],
                dy=rows.shift.astype(np.int8)[block],
                dx=columns.shift.astype(np.int8)[block],
            )
        )
    return tuple(placed)


@dataclass(frozen=True)
class Reach:
    """How the blocks of a layer are reached along one axis. Arrays [blocks].

    Parameters
    ----------
    phase, shift, bank_steps : int arrays
        Phase of the plane, shift of the slot, and whole tiles that its offset adds.
    short : bool array
        The plane has a pixel less than the first phase.
    within_reach : bool array
        `shift` fits the slot.
    folded : bool array
        The true shift does not fit the slot. Where no output reads outside the plane, its remainder
        in a tile does as well, as it finds the same banks; pixels of a tile that are beyond the
        output may then read up to one tile behind the plane.
    """

    phase: np.ndarray
    shift: np.ndarray
    bank_steps: np.ndarray
    short: np.ndarray
    within_reach: np.ndarray
    folded: np.ndarray


def reach_blocks(
    blocks: Blocks, *, layer: Layer, placements: list[Placement]
) -> tuple[Reach, Reach]:
    """Find how blocks are reached along rows and columns, given where the sources' tensors lie."""
    stride = np.array([placement.stride for placement in placements])[blocks.source]
    height = np.array([placement.height for placement in placements])[blocks.source]
    width = np.array([placement.width for placement in placements])[blocks.source]
    return (
        _reach(
            blocks.row,
            stride=stride,
            size=height,
            bank_size=placements[0].bank_rows,
            outputs=layer.computed[0],
        ),
        _reach(
            blocks.column,
            stride=stride,
            size=width,
            bank_size=placements[0].bank_columns,
            outputs=layer.computed[1],
        ),
    )


def _reach(distance, *, stride, size, bank_size: int, outputs: int) -> Reach:
    phase, shift = distance % stride, distance // stride
    plane_size = (size - phase + stride - 1) // stride
    near = (shift >= SHIFT_MIN) & (shift <= SHIFT_MAX)
    inside = (shift >= 0) & (shift + outputs <= plane_size)
    remainder = shift % bank_size
    return Reach(
        phase=phase,
        shift=np.where(near, shift, remainder),
        bank_steps=shift // bank_size,
        short=plane_size < -(-size // stride),
        within_reach=near | (inside & (remainder <= SHIFT_MAX)),
        folded=~near,
    )


def _list_entries(layer: Layer, *, lanes: int, skip_zeros: bool) -> _Entries:
    """List the weights that get slots, and one zero for every tile without any."""
    outputs = layer.output.channels
    tiles = -(-outputs // lanes)
    parts, first_block = [], 0
    for source in layer.sources:
        weight = source.weight
        group_inputs, rows, columns = weight.shape[1:]
        groups = -(-group_inputs * source.groups // lanes)
        listed = weight != 0
        if not skip_zeros and listed.sum(axis=(1, 2, 3)).max() > 1:
            listed = np.ones_like(listed)
        output, group_input, row, column = np.nonzero(listed)
        channel = group_input + output // (outputs // source.groups) * group_inputs
        parts.append(
            _Entries(
                tile=output // lanes,
                lane=output % lanes,
                block=first_block + (row * columns + column) * groups + channel // lanes,
                channel=channel % lanes,
                value=weight[output, group_input, row, column].astype(np.int64),
            )
        )
        first_block += rows * columns * groups
    empty = np.setdiff1d(np.arange(tiles), np.concatenate([part.tile for part in parts]))
    zeros = np.zeros(len(empty), np.int64)
    parts.append(_Entries(tile=empty, lane=zeros, block=zeros, channel=zeros, value=zeros))
    entries = _Entries(
        *(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0]))
    )
    order = (entries.tile * first_block + entries.block) * lanes + entries.lane
    return entries.take(np.argsort(order * lanes + entries.channel, kind="stable"))


def _split_wide(
    entries: _Entries, *, run: np.ndarray, keep: np.ndarray
) -> tuple[_Entries, np.ndarray]:
    """Split weights beyond `WEIGHT_MAX` into parts, except in the runs to `keep`."""
    magnitude = np.abs(entries.value)
    parts = np.where(keep[run], 1, np.maximum(-(-magnitude // WEIGHT_MAX), 1))
    whole = np.repeat(np.arange(len(run)), parts)
    part = np.arange(len(whole)) - np.repeat(np.cumsum(parts) - parts, parts)
    split = entries.take(whole)
    rest = split.value - np.sign(split.value) * WEIGHT_MAX * part
    value = np.where(keep[run][whole], rest, rest.clip(-WEIGHT_MAX, WEIGHT_MAX))
    return replace(split, value=value), run[whole]


def _check_diagonals(layer: Layer, entries: _Entries, *, diagonal: np.ndarray) -> None:
    wide = entries.value[diagonal & (np.abs(entries.value) > DIAGONAL_WEIGHT_MAX)]
    if len(wide):
        raise ValueError(
            f"layer {layer.name!r}: a diagonal weight must be within +-{DIAGONAL_WEIGHT_MAX}, "
            f"not {wide[0]}"
        )


def _check_maximum(layer: Layer, entries: _Entries, *, begins, sizes, diagonal, lanes) -> None:
    """A lane that idles in a slot would take the maximum with zero."""
    tile_outputs = np.minimum(layer.output.channels - entries.tile[begins] * lanes, lanes)
    if not (diagonal.all() and (entries.value == 1).all() and (sizes == tile_outputs).all()):
        raise ValueError(
            f"layer {layer.name!r}: a maximum must be taken over taps with weight 1 in every "
            "channel"
        )


def _run_begins(values: np.ndarray) -> np.ndarray:
    """Indices at which a value differs from the one before."""
    return np.flatnonzero(np.diff(values, prepend=values[0] - 1))


def _rank_in_runs(values: np.ndarray) -> np.ndarray:
    """Each element's place among the equal ones next to it."""
    begins = _run_begins(values)
    lengths = np.diff(begins, append=len(values))
    return np.arange(len(values)) - np.repeat(begins, lengths)
