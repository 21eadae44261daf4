"""Takes finished sums out of the array, requantizes them and writes the words."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import RAW_WORDS, Place, Prefix
from coprune_hw.contract.parameters import ChannelParameters

from .delay import delay
from .fan_out import fan_out
from .interfaces import completion_signature, pixel_write_layout, table_write_signature
from .parameter_memory import ParameterMemory
from .pixel_address import PixelAddress
from .requantizer import Requantizer
from .sequencer import (
    MOST_IN_FLIGHT,
    MOST_UNWRITTEN_TILES,
    DrainJob,
    DrainSettings,
    DrainTile,
)
from .stream_fifo import StreamFifo
from .table_memory import TableMemory


class Drain(wiring.Component):
    """One word a cycle: the sums of one column in all lanes, requantized, to its place.

    Between requantization and place lie the tables of activation functions, if there are any.

    For every instruction it first fetches the lanes' parameters, while the tiles of the one before
    still drain; all stages adopt them as the first tile passes. `columns` words come for every
    tile, or where it is raw `RAW_WORDS` for each of the columns, a byte of every sum each; those
    outside the output image are dropped.

    Parameters
    ----------
    config : AcceleratorConfig
    sums_latency : int
        Cycles from a `tile` to its `begin`: so much before the parameters are needed may
        `parameters_soon` rise.

    Members
    -------
    job, tile : In(stream)
        From the sequencer.
    begin : In
        In this cycle `sums` of lane group 0 are those of column 0; the next columns follow.
    sums : In
        Lane group g comes g cycles after group 0.
    parameter_address, parameter : Out, In
        Read port of the parameter memory.
    parameters_soon : Out
        High for a cycle for every job, in order: in the next one its parameters are there, or will
        be soon enough.
    table_write : In
        Bytes of the tables from LOAD.
    write : Out(stream)
        To the activation memory, which always accepts, and drops it with `out_of_range`.
    tile_written : Out
        With the last word of a tile.
    completed : Out
        With the last word of a job.
    completion : Out(stream of Prefix)
        The job's, after the last word.
    out_of_range : Out
        The address on `write` is beyond the banks.

    Notes
    -----
    `latency` cycles from `begin` to the first word. A job is seen `JOB_LATENCY` cycles after it was
    accepted, or in the cycle after the one before let go of the parameters, `held_latency` cycles
    after its first `begin`. Fetching the parameters takes ``lanes + ParameterMemory.LATENCY + 1``
    cycles; a job's first `tile` may come `parameters_latency` cycles after the job was seen. Its
    completion comes `COMPLETION_LATENCY` cycles after its last word.
    """

    JOB_LATENCY = 2
    COMPLETION_LATENCY = 1

    # Tile record -> counter -> pixel -> address: ahead of the word by this much.
    _COORDINATE_LATENCY = 2

    def __init__(self, config: AcceleratorConfig, *, sums_latency: int):
        self._config = config
        self._sums_latency = sums_latency
        super().__init__(
            {
                "job": In(stream.Signature(DrainJob)),
                "tile": In(stream.Signature(DrainTile, always_ready=True)),
                "begin": In(1),
                "sums": In(data.ArrayLayout(signed(config.accumulator_bits), config.lanes)),
                "parameter_address": Out(range(config.parameter_depth)),
                "parameter": In(ChannelParameters),
                "parameters_soon": Out(1),
                "table_write": In(table_write_signature()),
                "write": Out(stream.Signature(pixel_write_layout(config), always_ready=True)),
                "tile_written": Out(1),
                "completed": Out(1),
                "completion": Out(completion_signature()),
                "out_of_range": Out(1),
            }
        )

    @staticmethod
    def requantized_latency(config: AcceleratorConfig) -> int:
        """Cycles from `begin` to the requantized word of column 0."""
        return Requantizer.LATENCY + config.lane_groups - 1

    @classmethod
    def latency(cls, config: AcceleratorConfig) -> int:
        """Cycles from `begin` to the word of column 0."""
        return cls.requantized_latency(config) + (TableMemory.LATENCY if config.tables else 0)

    @staticmethod
    def fetch_cycles(config: AcceleratorConfig) -> int:
        """Cycles in which the parameters are fetched."""
        return config.lanes + ParameterMemory.LATENCY + 1

    @classmethod
    def parameters_latency(cls, config: AcceleratorConfig, *, sums_latency: int) -> int:
        """Cycles from seeing a job to the first in which its first tile may be complete."""
        return 1 + max(cls.fetch_cycles(config) - sums_latency, 0)

    @classmethod
    def held_latency(cls, config: AcceleratorConfig) -> int:
        """Cycles from a job's first `begin` to the last one in which its parameters are needed."""
        # Adopted in the cycle before the first word: by the last stage of the last lane group, or
        # by the tables.
        return cls.requantized_latency(config) - (1 if config.tables else 2)

    def elaborate(self, platform):
        config = self._config
        m = Module()
        queues = [
            StreamFifo(shape, depth=depth, buffered=True)
            for shape, depth in (
                (DrainSettings, MOST_IN_FLIGHT),
                (Prefix, MOST_IN_FLIGHT),
                (DrainTile, MOST_UNWRITTEN_TILES),
            )
        ]
        m.submodules.jobs, m.submodules.prefixes, m.submodules.tiles = queues
        jobs, prefixes, tiles = queues
        settings = jobs.o.payload
        m.d.comb += [
            jobs.i.payload.eq(self.job.payload.settings),
            jobs.i.valid.eq(self.job.valid),
            prefixes.i.payload.eq(self.job.payload.prefix),
            prefixes.i.valid.eq(self.job.valid),
            self.job.ready.eq(jobs.i.ready),
            tiles.i.payload.eq(delay(m, self.tile.payload, 1, name="tile_payload")),
            tiles.i.valid.eq(delay(m, self.tile.valid, 1, name="tile_valid", init=0)),
        ]
        # In the cycle before a job's first `begin`: its first sums meet what is adopted now.
        adopt = self.tile.valid & self.tile.payload.first
        adopt = delay(m, adopt, self._sums_latency - 1, name="adopt", init=0)
        let_go = delay(m, adopt, 1 + self.held_latency(config), name="let_go", init=0)
        shift_parameters = self._fetch_parameters(m, platform, jobs, settings, let_go)
        choices = self._choose_bytes(m, settings, adopt)
        word = self._requantize(m, settings, adopt, shift_parameters, choices)
        if config.tables:
            word = self._tabulate(m, settings, adopt, word)
        located = self._place_words(m, tiles, settings)
        self._complete(m, prefixes)
        in_range = located.payload.address < config.activation_depth
        m.d.comb += [
            self.write.valid.eq(located.valid),
            self.write.payload.bank.eq(located.payload.bank),
            self.write.payload.address.eq(located.payload.address),
            self.write.payload.word.eq(word),
            self.out_of_range.eq(located.valid & ~in_range),
        ]
        return m

    def _fetch_parameters(self, m, platform, jobs, settings, let_go):
        """Fetches the oldest job's parameters and holds them. Returns their shift, lane by lane."""
        config = self._config
        fetch_cycles = self.fetch_cycles(config)
        early_cycle = self.parameters_latency(config, sums_latency=self._sums_latency) - 1
        cycle = Signal(range(fetch_cycles))
        cycle_soon = Signal.like(cycle)
        fetches_soon = Signal()
        m.d.comb += [
            self.parameter_address.eq(settings.parameter_base + cycle),
            self.parameters_soon.eq(fetches_soon & (cycle_soon == early_cycle)),
        ]
        m.d.sync += cycle.eq(cycle_soon)
        with m.FSM(name="parameters"):
            with m.State("WAIT"), m.If(jobs.o.valid):
                m.d.comb += fetches_soon.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += cycle_soon.eq(cycle + 1)
                with m.If(cycle == fetch_cycles - 1):
                    m.next = "HOLD"
                with m.Else():
                    m.d.comb += fetches_soon.eq(1)
            with m.State("HOLD"), m.If(let_go):
                m.d.comb += jobs.o.ready.eq(1)
                m.next = "WAIT"
        shift_soon = (
            fetches_soon & (cycle_soon >= ParameterMemory.LATENCY) & (cycle_soon < fetch_cycles - 1)
        )
        return fan_out(m, shift_soon, config.lanes, name="shift", platform=platform)

    def _complete(self, m, prefixes):
        """Reports completed jobs, in order."""
        unreported = Signal(range(MOST_IN_FLIGHT + 1))
        reported = self.completion.valid & self.completion.ready
        m.d.sync += unreported.eq(unreported + self.completed - reported)
        m.d.comb += [
            self.completion.payload.eq(prefixes.o.payload),
            self.completion.valid.eq(unreported.any()),
            prefixes.o.ready.eq(reported),
        ]

    def _choose_bytes(self, m, settings, adopt):
        """Per lane group: the byte of its sums that goes on, and above it whether one does."""
        raw = Signal(reset_less=True)
        with m.If(adopt):
            m.d.sync += raw.eq(settings.raw)
        count = Signal(range(RAW_WORDS), reset_less=True)
        choice = Signal(range(2 * RAW_WORDS))
        byte = Mux(self.begin, 0, count)
        m.d.sync += count.eq(byte + 1)
        m.d.comb += choice.eq(Cat(byte, raw))
        choices = [choice]
        for group in range(1, self._config.lane_groups):
            choices.append(delay(m, choices[-1], 1, name=f"byte_{group}"))
        return choices

    def _requantize(self, m, settings, adopt, shift_parameters, choices):
        """The word of a column, its lanes brought back into step."""
        config = self._config
        adopts = [adopt]
        for group in range(1, config.lane_groups):
            adopts.append(delay(m, adopts[-1], 1, name=f"adopt_{group}", init=0))
        outputs = []
        # The records enter at the last lane and move down, so that the first one ends at lane 0.
        following = self.parameter
        for lane in reversed(range(config.lanes)):
            parameters = Signal(ChannelParameters, name=f"parameters_{lane}", reset_less=True)
            with m.If(shift_parameters[lane]):
                m.d.sync += parameters.eq(following)
            following = parameters
            m.submodules[f"requantizer_{lane}"] = requantizer = Requantizer(config)
            choice = choices[lane // config.lane_group]
            whole = Signal(signed(8 * RAW_WORDS), name=f"sum_{lane}")
            byte = whole.word_select(choice[:-1], 8).as_signed()
            m.d.comb += [
                whole.eq(self.sums[lane]),
                requantizer.adopt.eq(adopts[lane // config.lane_group]),
                requantizer.accumulator.eq(Mux(choice[-1], byte, whole)),
                requantizer.parameters.eq(parameters),
                requantizer.zero.eq(settings.zero),
                requantizer.low.eq(settings.low),
                requantizer.high.eq(settings.high),
            ]
            skew = config.lane_groups - 1 - lane // config.lane_group
            outputs.append(delay(m, requantizer.output, skew, name=f"output_{lane}"))
        return Cat(*reversed(outputs))

    def _tabulate(self, m, settings, adopt, word):
        """The word after the activation function."""
        config = self._config
        m.submodules.tables = tables = TableMemory(config)
        table, tabulated = Signal.like(tables.table, reset_less=True), Signal(reset_less=True)
        adopt = delay(m, adopt, self.requantized_latency(config), name="adopt_table", init=0)
        with m.If(adopt):
            m.d.sync += [table.eq(settings.table), tabulated.eq(settings.tabulated)]
        m.d.comb += [
            tables.write.valid.eq(self.table_write.valid),
            tables.write.payload.eq(self.table_write.payload),
            Value.cast(tables.word).eq(word),
            tables.table.eq(table),
            tables.tabulated.eq(tabulated),
        ]
        return tables.output

    def _place_words(self, m, tiles, settings):
        """Addresses of a tile's words, in step with the words. Drives the ends of tile and job."""
        config = self._config
        m.submodules.pixel_address = pixel_address = PixelAddress(config)
        lead = self.latency(config) - PixelAddress.LATENCY - self._COORDINATE_LATENCY
        begin = delay(m, self.begin, lead, name="begin", init=0)

        # Cycle 0: take the tile. Then a column a cycle, or a byte of it.
        tile = Signal(DrainTile, reset_less=True)
        job = Signal(DrainSettings, reset_less=True)
        active = Signal()
        column = Signal(config.log2_columns, reset_less=True)
        byte = Signal(range(RAW_WORDS), reset_less=True)
        byte_words = Signal.like(job.output.base, reset_less=True)
        ends_column = ~job.raw | (byte == RAW_WORDS - 1)
        next_tile = tiles.o.payload
        m.d.comb += tiles.o.ready.eq(begin)
        with m.If(begin):
            m.d.sync += [tile.eq(next_tile), active.eq(1), column.eq(0)]
            m.d.sync += [byte.eq(0), byte_words.eq(0)]
            with m.If(next_tile.first):
                m.d.sync += job.eq(settings)
        with m.Elif(active & ~ends_column):
            m.d.sync += [byte.eq(byte + 1), byte_words.eq(byte_words + job.output.plane_words)]
        with m.Elif(active):
            m.d.sync += [column.eq(column + 1), byte.eq(0), byte_words.eq(0)]
            with m.If(column == config.columns - 1):
                m.d.sync += active.eq(0)

        # Cycle 1: the pixel.
        pixel_row = Signal(len(tile.row) + 2, reset_less=True)
        pixel_column = Signal.like(pixel_row)
        pixel_active = Signal()
        pixel_ends_tile = Signal()
        pixel_last = Signal()
        pixel_place = Signal(Place, reset_less=True)
        pixel_height = Signal.like(job.height, reset_less=True)
        pixel_width = Signal.like(job.width, reset_less=True)
        column_in_row = Signal(config.log2_columns)
        with m.Switch(job.log2_bank_columns):
            for log2_bank_columns in range(config.log2_columns + 1):
                with m.Case(log2_bank_columns):
                    m.d.comb += column_in_row.eq(column & ((1 << log2_bank_columns) - 1))
        m.d.sync += [
            pixel_row.eq(
                _interleave(
                    tile.row + (column >> job.log2_bank_columns), job.interleaved, job.row_phase
                )
            ),
            pixel_column.eq(
                _interleave(tile.column + column_in_row, job.interleaved, job.column_phase)
            ),
            pixel_active.eq(active),
            pixel_ends_tile.eq(active & (column == config.columns - 1) & ends_column),
            pixel_last.eq(tile.last),
            pixel_place.eq(job.output),
            pixel_place.base.eq(job.output.base + byte_words),
            pixel_height.eq(job.height),
            pixel_width.eq(job.width),
        ]

        # Cycle 2: inside the image? Then its place.
        pixels = pixel_address.pixels
        m.d.comb += [
            pixels.payload.place.eq(pixel_place),
            pixels.payload.y.eq(pixel_row),
            pixels.payload.x.eq(pixel_column),
            pixels.valid.eq(
                pixel_active & (pixel_row < pixel_height) & (pixel_column < pixel_width)
            ),
        ]
        cycles = PixelAddress.LATENCY - 1
        ends_tile = delay(m, pixel_ends_tile, cycles, name="ends_tile", init=0)
        last = delay(m, pixel_ends_tile & pixel_last, cycles, name="last", init=0)
        # The ports themselves are the last registers, so that Verilog has their names.
        m.d.sync += [self.tile_written.eq(ends_tile), self.completed.eq(last)]
        return pixel_address.located


def _interleave(coordinate: Value, interleaved: Value, phase: Value) -> Value:
    """Row or column of the output."""
    return Mux(interleaved, Cat(phase, coordinate), coordinate)
