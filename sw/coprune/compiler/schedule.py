"""Which instructions every unit carries out, in its order, and what each of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import BARRIER_BITS, RAW_WORDS, TABLE_BYTES, LoadKind
from coprune_hw.contract.parameters import PARAMETER_BYTES
from coprune_hw.contract.planes import Placement
from coprune_hw.contract.program import Region
from coprune_hw.contract.slots import SlotStream, slot_bytes
from coprune_sim.graph import Layer, Source

from .phases import PhaseLayer
from .rings import NOTHING, Piece, Ring
from .strips import Strip, plan_strips

_NO_PLACE = {"plane_words": 0, "pitch": 0, "log2_stride": 0, "log2_bank_columns": 0}
_NO_WINDOW = {"row_begin": 0, "rows": 0, "width": 0}


@dataclass(frozen=True)
class LayerWork:
    """A layer whose tensors have places.

    Parameters
    ----------
    layer : Layer
    number : int
        Of the layer in the program: the phases of a layer have one number.
    streams : tuple of SlotStream
        Of each channel tile.
    parameters : bytes
        Records of all channels, filled up to whole tiles.
    grid : Placement
        Plane geometry and bank shape that all sources share.
    output : Placement
    pad : int
        What pixels outside the planes read as.
    """

    layer: Layer
    number: int
    streams: tuple[SlotStream, ...]
    parameters: bytes
    grid: Placement
    output: Placement
    pad: int

    @property
    def tile_rows(self) -> int:
        """Rows of pixel tiles of the output."""
        return -(-self.layer.computed[0] // self.grid.bank_rows)

    @property
    def tile_columns(self) -> int:
        """Columns of pixel tiles of the output."""
        return -(-self.layer.computed[1] // self.grid.bank_columns)


@dataclass(frozen=True)
class LoadStep:
    """A LOAD before it has tokens and a source.

    Parameters
    ----------
    kind : LoadKind
    place, window : dict
        Fields of the instruction.
    count, pixel_bytes : int
    payload : SlotStream or bytes
        Slots, packed parameters, or a table, to load.
    payload_bytes : int
        What they take in DRAM.
    input_offset : int
        Pixels are loaded from this byte of the input region on.
    needs_execute : int
        EXECUTE that must have completed before, or `NOTHING`.
    """

    kind: LoadKind
    place: dict
    needs_execute: int
    count: int = 0
    payload: SlotStream | bytes = b""
    payload_bytes: int = 0
    window: dict = field(default_factory=_NO_WINDOW.copy)
    pixel_bytes: int = 0
    input_offset: int = 0


@dataclass(frozen=True)
class ExecuteStep:
    """An EXECUTE before it has tokens.

    Parameters
    ----------
    layer : int
        Index of the layer that it belongs to.
    fields : dict
        All fields but the prefix.
    needs_load : int
        LOAD that must have completed before.
    """

    layer: int
    fields: dict
    needs_load: int

    @property
    def slots(self) -> int:
        """Slots that it issues."""
        tiles = self.fields["tile_rows"] * self.fields["tile_columns"]
        return tiles * self.fields["slot_count"]


@dataclass(frozen=True)
class StoreStep:
    """A STORE of one channel group of the output, after the EXECUTE that it needs."""

    place: dict
    window: dict
    output_offset: int
    needs_execute: int


Step = LoadStep | ExecuteStep | StoreStep


@dataclass(frozen=True)
class Schedule:
    """The instructions of every unit in its order."""

    loads: tuple[LoadStep, ...]
    executes: tuple[ExecuteStep, ...]
    stores: tuple[StoreStep, ...]


def schedule_layers(
    works: Sequence[LayerWork],
    *,
    input_region: Region,
    input_placement: Placement,
    output_region: Region,
    config: AcceleratorConfig,
) -> Schedule:
    """Order the instructions of all units.

    A channel tile is one EXECUTE, except for the first of all: it starts when the first rows of the
    input are there, in strips of rows. An EXECUTE has a barrier where it reads what EXECUTEs since
    the last barrier have written; it does not wait for tiles that its first one does not read.
    Overwriting needs none: reads and writes are each in program order, and a write is never ahead
    of the reads that come before it.

    Parameters
    ----------
    works : sequence of LayerWork
    input_region, output_region : Region
        In DRAM; their offsets do not matter here.
    input_placement : Placement
    config : AcceleratorConfig

    Raises
    ------
    ValueError
        A channel tile has more slots than the slot memory.
    """
    loads: list[LoadStep] = []
    executes: list[ExecuteStep] = []
    slot_ring, parameter_ring = Ring(config.slot_depth), Ring(config.parameter_depth)
    table_ring = Ring(config.tables)
    unsettled: set[str] = set()
    before = works[0]
    for work in works:
        reads = {source.tensor for source in work.layer.sources}
        if work.layer.table is None:
            table = Piece(begin=0, end=0, needs_execute=NOTHING)
        elif work.number != before.number or work is works[0]:
            table = table_ring.take(1)
            loads.append(_load_table(work.layer.table, table))
        for tile, stream in enumerate(work.streams):
            slots = slot_ring.take(_checked_count(stream, work=work, config=config))
            loads.append(_load_slots(stream, slots, config=config))
            if tile % _tiles_per_load(config) == 0:
                parameters = parameter_ring.take(
                    _parameter_count(work, first_tile=tile, config=config)
                )
                loads.append(_load_parameters(work, parameters, first_tile=tile, config=config))
                parameter_tile = tile
            strips = [Strip(first_tile_row=0, tile_rows=work.tile_rows, input_rows=range(0))]
            if work is works[0] and tile == 0:
                strips = plan_strips(
                    work.layer,
                    grid=work.grid,
                    input_region=input_region,
                    slots=len(stream),
                    config=config,
                )
            for strip in strips:
                loads += _load_pixels(strip, region=input_region, placement=input_placement)
                barrier = 0
                if reads & unsettled:
                    barrier = 1 + tiles_not_read(work, before, executes[-1])
                    unsettled.clear()
                fields = _execute_fields(work, tile=tile, strip=strip)
                fields |= {
                    "barrier": min(barrier, (1 << BARRIER_BITS) - 1),
                    "slot_base": slots.begin,
                    "slot_count": len(stream),
                    "parameter_base": parameters.begin + (tile - parameter_tile) * config.lanes,
                    "table": table.begin,
                }
                slots.last_user = parameters.last_user = table.last_user = len(executes)
                executes.append(
                    ExecuteStep(layer=work.number, fields=fields, needs_load=len(loads) - 1)
                )
                before = work
            unsettled.add(work.layer.output.name)
    stores = _store_output(works[-1], executes=executes, region=output_region)
    return Schedule(loads=tuple(loads), executes=tuple(executes), stores=stores)


def tiles_not_read(work: LayerWork, before: LayerWork, execute: ExecuteStep) -> int:
    """Last tiles of the EXECUTE before that the first tile of a layer does not read.

    Parameters
    ----------
    work : LayerWork
        The layer, which begins with its first tile.
    before : LayerWork
        That of `execute`.
    execute : ExecuteStep
        The last one before the layer.
    """
    tiles = execute.fields["tile_rows"] * execute.fields["tile_columns"]
    written = before.layer.output
    corners = [
        [
            min((min(bank, size) - 1) * source.stride + reach, extent - 1)
            for bank, size, reach, extent in zip(
                (work.grid.bank_rows, work.grid.bank_columns),
                work.layer.computed,
                _reach(source),
                written.shape[1:],
                strict=True,
            )
        ]
        for source in work.layer.sources
        if source.tensor == written.name
    ]
    if not corners:
        return tiles
    row, column = (max(corner[axis] for corner in corners) for axis in range(2))
    if row < 0 or column < 0:
        return tiles
    if isinstance(before.layer, PhaseLayer):
        # The last EXECUTE writes every second row and column: those up to what is read.
        row, column = (
            (place - phase) // 2
            for place, phase in zip((row, column), before.layer.phase, strict=True)
        )
        if row < 0 or column < 0:
            return tiles
    tile_row = (row - execute.fields["row_begin"]) // before.grid.bank_rows
    tile_column = column // before.grid.bank_columns
    last_read = tile_row * execute.fields["tile_columns"] + tile_column
    return min(tiles - 1 - last_read, tiles)


def _reach(source: Source) -> tuple[int, int]:
    """How far below and to the right of ``stride`` times an output pixel a source reads."""
    rows, columns = (
        (taps - 1) * dilation - padding
        for taps, dilation, padding in zip(
            source.weight.shape[2:], source.dilation, source.padding, strict=True
        )
    )
    return rows, columns


def _checked_count(stream: SlotStream, *, work: LayerWork, config: AcceleratorConfig) -> int:
    if len(stream) > config.slot_depth:
        raise ValueError(
            f"layer {work.layer.name!r}: a tile of {config.lanes} channels takes {len(stream)} "
            f"slots, but slot_depth is {config.slot_depth}"
        )
    return len(stream)


def _load_slots(stream: SlotStream, piece: Piece, *, config: AcceleratorConfig) -> LoadStep:
    return LoadStep(
        kind=LoadKind.SLOTS,
        place={"base": piece.begin, **_NO_PLACE},
        count=len(stream),
        payload=stream,
        payload_bytes=len(stream) * slot_bytes(config.lanes),
        needs_execute=piece.needs_execute,
    )


def _load_table(table: np.ndarray, piece: Piece) -> LoadStep:
    # The machine finds an entry by the argument's byte.
    return LoadStep(
        kind=LoadKind.TABLES,
        place={"base": piece.begin * TABLE_BYTES, **_NO_PLACE},
        count=TABLE_BYTES,
        payload=np.roll(table, TABLE_BYTES // 2).tobytes(),
        payload_bytes=TABLE_BYTES,
        needs_execute=piece.needs_execute,
    )


def _tiles_per_load(config: AcceleratorConfig) -> int:
    """Channel tiles whose parameters are loaded together: half a memory, so the next can follow."""
    return max(config.parameter_depth // 2 // config.lanes, 1)


def _parameter_count(work: LayerWork, *, first_tile: int, config: AcceleratorConfig) -> int:
    return config.lanes * min(len(work.streams) - first_tile, _tiles_per_load(config))


def _load_parameters(
    work: LayerWork, piece: Piece, *, first_tile: int, config: AcceleratorConfig
) -> LoadStep:
    count = piece.end - piece.begin
    begin = first_tile * config.lanes * PARAMETER_BYTES
    return LoadStep(
        kind=LoadKind.PARAMETERS,
        place={"base": piece.begin, **_NO_PLACE},
        count=count,
        payload=work.parameters[begin : begin + count * PARAMETER_BYTES],
        payload_bytes=count * PARAMETER_BYTES,
        needs_execute=piece.needs_execute,
    )


def _load_pixels(strip: Strip, *, region: Region, placement: Placement) -> list[LoadStep]:
    """One LOAD for every channel group of the rows that a strip brings."""
    rows = strip.input_rows
    if not rows:
        return []
    return [
        LoadStep(
            kind=LoadKind.PIXELS,
            place=placement.fields(group),
            window={"row_begin": rows.start, "rows": len(rows), "width": region.columns},
            pixel_bytes=region.pixel_bytes,
            input_offset=group * region.group_bytes + rows.start * region.row_bytes,
            needs_execute=NOTHING,
        )
        for group in range(placement.groups)
    ]


def _execute_fields(work: LayerWork, *, tile: int, strip: Strip) -> dict:
    """The fields that do not depend on the schedule."""
    layer, grid = work.layer, work.grid
    phase = layer.phase if isinstance(layer, PhaseLayer) else None
    row_phase, column_phase = phase or (0, 0)
    return {
        "maximum": int(layer.maximum),
        "raw": int(layer.output.raw),
        "interleaved": int(phase is not None),
        "row_phase": row_phase,
        "column_phase": column_phase,
        "tabulated": int(layer.table is not None),
        "tile_base": strip.first_tile_row * grid.pitch,
        "tile_rows": strip.tile_rows,
        "tile_columns": work.tile_columns,
        "row_begin": strip.first_tile_row * grid.bank_rows,
        "pitch": grid.pitch,
        "log2_bank_columns": grid.log2_bank_columns,
        "input_height": grid.plane_height,
        "input_width": grid.plane_width,
        "output_height": layer.output.height,
        "output_width": layer.output.width,
        "output": work.output.fields(tile * (RAW_WORDS if layer.output.raw else 1)),
        "pad": work.pad,
        "zero": layer.requantized_zero,
        "low": layer.low,
        "high": layer.high,
    }


def _store_output(
    work: LayerWork, *, executes: Sequence[ExecuteStep], region: Region
) -> tuple[StoreStep, ...]:
    """One STORE for every channel group, as soon as its EXECUTE has completed."""
    tiles = len(work.streams)
    groups_of_tile = work.output.groups // tiles
    return tuple(
        StoreStep(
            place=work.output.fields(group),
            window={"row_begin": 0, "rows": region.rows, "width": region.columns},
            output_offset=group * region.group_bytes,
            needs_execute=len(executes) - tiles + group // groups_of_tile,
        )
        for group in range(work.output.groups)
    )
