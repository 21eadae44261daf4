"""Walks the tiles and slots of an EXECUTE instruction."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import (
    ADDRESS_BITS,
    RAW_WORDS,
    SIZE_BITS,
    TABLE_BITS,
    Execute,
    Place,
    Prefix,
)

from .block_address import TilePosition
from .pixel_address import is_place_valid

MOST_UNWRITTEN_TILES = 32
"""Tiles on their way through array and drain: more than the pipeline holds."""

MOST_IN_FLIGHT = 4
"""Instructions here or on their way through the drain."""


class DrainSettings(data.Struct):
    """What the drain does with the tiles of an EXECUTE instruction."""

    raw: 1
    interleaved: 1
    row_phase: 1
    column_phase: 1
    tabulated: 1
    table: TABLE_BITS
    output: Place
    log2_bank_columns: 3
    height: SIZE_BITS
    width: SIZE_BITS
    parameter_base: ADDRESS_BITS
    zero: signed(8)
    low: signed(8)
    high: signed(8)


class DrainJob(data.Struct):
    """What the drain needs of an EXECUTE instruction."""

    prefix: Prefix
    settings: DrainSettings


class DrainTile(data.Struct):
    """A tile on its way to the drain: its first pixel, and its place in the instruction."""

    row: SIZE_BITS
    column: SIZE_BITS
    first: 1
    last: 1


class Sequencer(wiring.Component):
    """Issues a slot a cycle: tile after tile, and in every tile the whole slot stream.

    The only thing that holds slots back is the drain: a tile's last slot waits until the sums of
    the tile before have left. That of an instruction's first tile also waits until the drain has
    its parameters and, where it has a barrier, until all tiles of earlier instructions are written.
    Everything behind the sequencer has a fixed latency.

    Members
    -------
    instruction : In(stream of Execute)
        Its tokens are there already.
    halt : In
        Issue nothing more.
    slot_valid, slot_address, first, last, maximum, raw, tile : Out
        The slot of this cycle.
    job, drain_tile : Out(stream)
        To the drain: once for every instruction, and with every tile's last slot. `drain_tile` has
        no backpressure.
    parameters_soon : In
        High for a cycle for every job: in the next one the drain has its parameters, or will have
        them before its sums arrive.
    tile_written : In
        The drain writes the last word of a tile.
    completed : In
        The drain writes the last word of an instruction.
    busy : Out
        An instruction is here or on its way through the drain.
    invalid : Out
        The instruction reaches outside a memory, or is empty.
    barrier_stall, drain_stall : Out
        This cycle was lost waiting.

    Notes
    -----
    An instruction starts `START_LATENCY` cycles after it was accepted, or when its barrier lets it;
    the first slot is issued in the cycle after. The next instruction may issue while the last tiles
    of this one and of those before drain: `MOST_IN_FLIGHT` are here at once.
    """

    START_LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "instruction": In(stream.Signature(Execute)),
                "halt": In(1),
                "slot_valid": Out(1),
                "slot_address": Out(range(config.slot_depth)),
                "first": Out(1),
                "last": Out(1),
                "maximum": Out(1),
                "raw": Out(1),
                "tile": Out(TilePosition),
                "job": Out(stream.Signature(DrainJob)),
                "drain_tile": Out(stream.Signature(DrainTile, always_ready=True)),
                "parameters_soon": In(1),
                "tile_written": In(1),
                "completed": In(1),
                "busy": Out(1),
                "invalid": Out(1),
                "barrier_stall": Out(1),
                "drain_stall": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        execute = Signal(Execute, reset_less=True)
        in_flight = Signal(range(MOST_IN_FLIGHT + 1))
        in_flight_soon = Signal.like(in_flight)
        accepted = Signal()
        idle_soon = Signal()
        # The state is idle, and another instruction may be in flight: a register, for the queue.
        accepts = Signal(init=1)
        m.d.comb += [
            in_flight_soon.eq(in_flight + accepted - self.completed),
            self.instruction.ready.eq(accepts & ~self.halt),
            self.busy.eq(in_flight.any()),
        ]
        m.d.sync += [
            in_flight.eq(in_flight_soon),
            accepts.eq(idle_soon & (in_flight_soon < MOST_IN_FLIGHT)),
        ]
        # Tiles whose last slot was issued, and whose last word is not written.
        unwritten_tiles = Signal(range(MOST_UNWRITTEN_TILES + 1))
        m.d.sync += unwritten_tiles.eq(unwritten_tiles + self.drain_tile.valid - self.tile_written)
        # Those of them that belong to earlier instructions.
        earlier_tiles = Signal.like(unwritten_tiles)
        earlier_soon = Signal.like(unwritten_tiles)
        m.d.comb += earlier_soon.eq(earlier_tiles)
        with m.If(self.job.valid):
            m.d.comb += earlier_soon.eq(unwritten_tiles - self.tile_written)
        with m.Elif(self.tile_written & earlier_tiles.any()):
            m.d.comb += earlier_soon.eq(earlier_tiles - 1)
        is_settled = Signal()
        m.d.sync += [
            earlier_tiles.eq(earlier_soon),
            is_settled.eq(~(execute.barrier.any() & earlier_soon.any())),
        ]
        invalid = Signal()
        m.d.sync += invalid.eq(self._is_invalid(execute))

        allowed = self._allow_slot(m, execute, is_settled)
        advance, begins = self._walk(m, execute)

        with m.FSM(name="sequencer"):
            with m.State("IDLE"):
                m.d.sync += execute.eq(self.instruction.payload)
                with m.If(self.instruction.valid & self.instruction.ready):
                    m.d.comb += accepted.eq(1)
                    m.next = "CHECK"
                with m.Else():
                    m.d.comb += idle_soon.eq(1)
            # The checks are long sums: they have a cycle of their own.
            with m.State("CHECK"):
                m.d.comb += begins.eq(1)
                m.next = "START"
            with m.State("START"):
                with m.If(invalid):
                    m.d.comb += self.invalid.eq(1)
                    m.next = "STOPPED"
                with m.Elif(self.halt):
                    m.next = "STOPPED"
                with m.Elif(execute.barrier.any() & (unwritten_tiles >= execute.barrier)):
                    m.d.comb += self.barrier_stall.eq(1)
                with m.Else():
                    m.d.comb += self.job.valid.eq(1)
                    with m.If(self.job.ready):
                        m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [
                    self.slot_valid.eq(allowed & ~self.halt),
                    self.drain_stall.eq(~allowed),
                ]
                with m.If(self.slot_valid & self.drain_tile.valid & self.drain_tile.payload.last):
                    m.d.comb += idle_soon.eq(1)
                    m.next = "IDLE"
            # An error elsewhere, or here: only a reset leads out.
            with m.State("STOPPED"):
                pass

        settings = self.job.payload.settings
        m.d.comb += [
            advance.eq(self.slot_valid),
            self.maximum.eq(execute.maximum),
            self.raw.eq(execute.raw),
            self.job.payload.prefix.eq(execute.prefix),
            settings.raw.eq(execute.raw),
            settings.interleaved.eq(execute.interleaved),
            settings.row_phase.eq(execute.row_phase),
            settings.column_phase.eq(execute.column_phase),
            settings.tabulated.eq(execute.tabulated),
            settings.table.eq(execute.table),
            settings.output.eq(execute.output),
            settings.log2_bank_columns.eq(execute.log2_bank_columns),
            settings.height.eq(execute.output_height),
            settings.width.eq(execute.output_width),
            settings.parameter_base.eq(execute.parameter_base),
            settings.zero.eq(execute.zero),
            settings.low.eq(execute.low),
            settings.high.eq(execute.high),
        ]
        return m

    def _allow_slot(self, m, execute, is_settled):
        """A tile's last slot waits until the tile before has left the array, a word a cycle."""
        columns = self._config.columns
        drain_timer = Signal(range(RAW_WORDS * columns))
        is_draining = Signal()
        still_drains = is_draining & (drain_timer != 1)
        with m.If(self.drain_tile.valid):
            m.d.sync += [
                drain_timer.eq(Mux(execute.raw, RAW_WORDS * columns, columns) - 1),
                is_draining.eq(1),
            ]
        with m.Elif(is_draining):
            m.d.sync += [drain_timer.eq(drain_timer - 1), is_draining.eq(still_drains)]
        first_tile = self.drain_tile.payload.first
        have_parameters = Signal()
        have_soon = have_parameters | self.parameters_soon
        # The array is free, and the parameters are there.
        is_free = Signal()
        m.d.sync += [
            have_parameters.eq(have_soon & ~(self.drain_tile.valid & first_tile)),
            is_free.eq(~self.drain_tile.valid & ~still_drains & (~first_tile | have_soon)),
        ]
        return ~self.last | (is_free & (~first_tile | is_settled))

    def _walk(self, m, execute):
        """Counters of slots and tiles. Returns what moves them on by a slot, and what sets them."""
        config = self._config
        advance, begins = Signal(), Signal()
        first = Signal()
        last = Signal()
        slot_address = Signal(ADDRESS_BITS, reset_less=True)
        slots_left = Signal(ADDRESS_BITS, reset_less=True)
        rows_left = Signal.like(execute.tile_rows, reset_less=True)
        columns_left = Signal.like(execute.tile_columns, reset_less=True)
        row = Signal(SIZE_BITS, reset_less=True)
        column = Signal(SIZE_BITS, reset_less=True)
        tile_address = Signal(len(self.tile.address), reset_less=True)
        row_address = Signal(len(self.tile.address), reset_less=True)
        first_tile = Signal()
        last_column = columns_left == 1
        last_tile = last_column & (rows_left == 1)

        begin_stream = [
            first.eq(1),
            last.eq(execute.slot_count == 1),
            slot_address.eq(execute.slot_base),
            slots_left.eq(execute.slot_count),
        ]
        with m.If(begins):
            m.d.sync += [
                *begin_stream,
                first_tile.eq(1),
                rows_left.eq(execute.tile_rows),
                columns_left.eq(execute.tile_columns),
                row.eq(execute.row_begin),
                column.eq(0),
                tile_address.eq(execute.tile_base),
                row_address.eq(execute.tile_base),
            ]
        with m.Elif(advance & ~last):
            m.d.sync += [
                first.eq(0),
                last.eq(slots_left == 2),
                slot_address.eq(slot_address + 1),
                slots_left.eq(slots_left - 1),
            ]
        with m.Elif(advance):
            m.d.sync += [*begin_stream, first_tile.eq(0)]
            with m.If(last_column):
                m.d.sync += [
                    rows_left.eq(rows_left - 1),
                    columns_left.eq(execute.tile_columns),
                    row.eq(row + (config.columns >> execute.log2_bank_columns)),
                    column.eq(0),
                    tile_address.eq(row_address + execute.pitch),
                    row_address.eq(row_address + execute.pitch),
                ]
            with m.Else():
                m.d.sync += [
                    columns_left.eq(columns_left - 1),
                    column.eq(column + (C(1, 5) << execute.log2_bank_columns)),
                    tile_address.eq(tile_address + 1),
                ]
        m.d.comb += [
            self.first.eq(first),
            self.last.eq(last),
            self.slot_address.eq(slot_address),
            self.tile.address.eq(tile_address),
            self.tile.row.eq(row),
            self.tile.column.eq(column),
            self.tile.pitch.eq(execute.pitch),
            self.tile.log2_bank_columns.eq(execute.log2_bank_columns),
            self.tile.height.eq(execute.input_height),
            self.tile.width.eq(execute.input_width),
            self.tile.pad.eq(execute.pad),
            self.drain_tile.valid.eq(advance & last),
            self.drain_tile.payload.row.eq(row),
            self.drain_tile.payload.column.eq(column),
            self.drain_tile.payload.first.eq(first_tile),
            self.drain_tile.payload.last.eq(last_tile),
        ]
        return advance, begins

    def _is_invalid(self, execute):
        config = self._config
        return (
            (execute.slot_count == 0)
            | (execute.tile_rows == 0)
            | (execute.tile_columns == 0)
            | (execute.slot_base + execute.slot_count > config.slot_depth)
            | (execute.parameter_base + config.lanes > config.parameter_depth)
            | (execute.log2_bank_columns > config.log2_columns)
            | ~is_place_valid(execute.output, config)
            | (execute.raw & (execute.output.log2_stride != 0))
            | (execute.tabulated & (execute.table >= config.tables))
        )
