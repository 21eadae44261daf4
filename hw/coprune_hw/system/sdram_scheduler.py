"""Turns accesses into the commands of an SDRAM chip, each at its time."""

from functools import reduce
from operator import or_

from amaranth.hdl import *
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig

from .sdram_segment import access_layout, chip_burst
from .sdram_timing import PRECHARGE_ALL_BIT, SEGMENT_BEATS, SdramChip, SdramTiming

_INITIAL_REFRESHES = 8
_TURNAROUND_CYCLES = 1
"""In which neither side drives the data pins, after a read and before a write."""


class Command(enum.Enum, shape=3):
    """Commands by their pins: ras_n (bit 0), cas_n, we_n."""

    MODE_REGISTER = 0b000
    REFRESH = 0b100
    PRECHARGE = 0b010
    ACTIVATE = 0b110
    WRITE = 0b001
    READ = 0b101
    NOP = 0b111


def command_layout(chip: SdramChip) -> data.StructLayout:
    """What the command pins carry in a cycle."""
    return data.StructLayout(
        {"command": Command, "bank": chip.bank_bits, "address": chip.address_bits}
    )


class BeatRead(data.Struct):
    """What is known of a beat when its read command is issued."""

    last: 1
    error: 1


class CommandScheduler(wiring.Component):
    """Issue the commands of a chip: initialization, accesses in their order, refreshes.

    Rows are left open. While the beats of one access are moved, the row of the next is opened, in
    the cycles that the column commands leave free. An access that has begun is not interrupted; a
    refresh waits for it.

    Parameters
    ----------
    config : AcceleratorConfig
    chip : SdramChip
    timing : SdramTiming

    Members
    -------
    accesses : In(stream(access_layout))
    command : Out(command_layout)
        Registered.
    read : Out(stream(BeatRead))
        A beat's read command is on `command` in the next cycle. No command where `error`.
    write : Out(1)
        The same of a beat that is written.

    Notes
    -----
    From an access to its first column command on `command`, where nothing else is under way: 4
    cycles where the row is open, `row_to_column` + 3 where the bank is closed, `precharge` more
    where another row is open.

    Two registers hold accesses: `current`, whose beats are being moved, and `upcoming`, which the
    state machine of the rows prepares. A column command is issued in every cycle that the chip's
    burst length and the turn of the data pins allow.
    """

    def __init__(self, config: AcceleratorConfig, chip: SdramChip, timing: SdramTiming):
        self._config, self._chip, self._timing = config, chip, timing
        super().__init__(
            {
                "accesses": In(stream.Signature(access_layout(config, chip))),
                "command": Out(command_layout(chip), init={"command": Command.NOP}),
                "read": Out(stream.Signature(BeatRead, always_ready=True)),
                "write": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        chip, timing = self._chip, self._timing
        burst = chip_burst(self._config, chip)
        layout = access_layout(self._config, chip)
        current, upcoming = Signal(layout), Signal(layout)
        current_valid, upcoming_valid = Signal(), Signal()
        banks = range(1 << chip.bank_bits)

        # Columns
        column, reads, writes = Signal(), Signal(), Signal()
        pins_turned = _elapsed(m, (reads, burst + timing.cas_latency + _TURNAROUND_CYCLES))
        burst_over = _elapsed(m, (column, burst))
        is_last_beat = current.segment.length == 0
        in_block = current.segment.beat[: exact_log2(SEGMENT_BEATS)]
        m.d.comb += [
            column.eq(current_valid & burst_over & (~current.write | pins_turned)),
            reads.eq(column & ~current.write),
            writes.eq(column & current.write),
            self.read.valid.eq(reads),
            self.read.payload.last.eq(current.segment.last & is_last_beat),
            self.read.payload.error.eq(current.segment.error),
            self.write.eq(writes),
        ]
        with m.If(column):
            m.d.sync += [
                in_block.eq(in_block + 1),
                current.segment.length.eq(current.segment.length - 1),
                current_valid.eq(~is_last_beat),
            ]

        # Rows
        activate, precharge, refresh, set_mode = Signal(), Signal(), Signal(), Signal()
        open_banks = Signal(len(banks))
        m.submodules.rows = rows = Memory(shape=chip.row_bits, depth=len(banks), init=[])
        row_write, row_read = rows.write_port(), rows.read_port(domain="comb")
        hits = row_read.data == upcoming.segment.row
        can_close = Signal(len(banks))
        for bank in banks:
            moves = current.segment.bank == bank
            bank_elapsed = _elapsed(
                m,
                (activate & (upcoming.segment.bank == bank), timing.row_open),
                (reads & moves, burst + timing.cas_latency - 2),
                (writes & moves, burst - 1 + timing.write_recovery),
            )
            m.d.comb += can_close[bank].eq(bank_elapsed & ~(current_valid & moves))
        row_elapsed = _elapsed(
            m,
            # A cycle less: the access becomes `current` in the one before its column command.
            (activate, max(timing.row_to_column, timing.row_to_row) - 1),
            (precharge, timing.precharge),
            (refresh, timing.refresh),
            (set_mode, timing.mode_register),
        )
        due, power_up_left = self._refresh_timer(m, refresh)
        refreshes_left = Signal(range(_INITIAL_REFRESHES + 1), init=_INITIAL_REFRESHES)
        transfer, all_banks = Signal(), Signal()
        may_issue = ~column & row_elapsed
        m.d.comb += [
            row_read.addr.eq(upcoming.segment.bank),
            row_write.addr.eq(upcoming.segment.bank),
            row_write.data.eq(upcoming.segment.row),
            row_write.en.eq(activate),
            self.accesses.ready.eq(~upcoming_valid),
        ]
        with m.If(self.accesses.valid & self.accesses.ready):
            m.d.sync += [upcoming.eq(self.accesses.payload), upcoming_valid.eq(1)]
        with m.If(transfer):
            m.d.sync += [current.eq(upcoming), current_valid.eq(1), upcoming_valid.eq(0)]
        with m.If(activate):
            m.d.sync += open_banks.bit_select(upcoming.segment.bank, 1).eq(1)
        with m.If(precharge):
            m.d.sync += open_banks.eq(0)
            with m.If(~all_banks):
                m.d.sync += open_banks.eq(open_banks & ~(1 << upcoming.segment.bank))

        with m.FSM(name="rows"):
            with m.State("POWER_UP"), m.If(power_up_left == 0):
                m.next = "CLOSE_ALL"
            with m.State("CLOSE_ALL"):
                m.d.comb += all_banks.eq(1)
                with m.If(may_issue & can_close.all() & ~current_valid):
                    m.d.comb += precharge.eq(1)
                    m.next = "REFRESH"
            with m.State("REFRESH"), m.If(row_elapsed):
                m.d.comb += refresh.eq(1)
                m.next = "LOOK"
                with m.If(refreshes_left != 0):
                    m.d.sync += refreshes_left.eq(refreshes_left - 1)
                    m.next = "REFRESH"
                with m.If(refreshes_left == 1):
                    m.next = "SET_MODE"
            with m.State("SET_MODE"), m.If(row_elapsed):
                m.d.comb += set_mode.eq(1)
                m.next = "LOOK"
            with m.State("LOOK"):
                with m.If(due):
                    m.next = "CLOSE_ALL"
                with m.Elif(upcoming_valid):
                    m.next = "ACTIVATE"
                    with m.If(open_banks.bit_select(upcoming.segment.bank, 1)):
                        m.next = "CLOSE"
                        with m.If(hits):
                            m.next = "PREPARED"
                    with m.If(upcoming.segment.error):
                        m.next = "PREPARED"
            with m.State("CLOSE"), m.If(may_issue & can_close.bit_select(upcoming.segment.bank, 1)):
                m.d.comb += precharge.eq(1)
                m.next = "ACTIVATE"
            with m.State("ACTIVATE"), m.If(may_issue):
                m.d.comb += activate.eq(1)
                m.next = "PREPARED"
            with m.State("PREPARED"):
                with m.If(due):
                    m.next = "CLOSE_ALL"
                with m.Elif(row_elapsed & (~current_valid | (column & is_last_beat))):
                    m.d.comb += transfer.eq(1)
                    m.next = "LOOK"

        # Pins
        mode = exact_log2(burst) | timing.cas_latency << 4
        pins = self.command
        column_address = current.segment.beat << exact_log2(burst)
        m.d.sync += [
            pins.command.eq(Command.NOP),
            pins.bank.eq(Mux(column, current.segment.bank, upcoming.segment.bank)),
            pins.address.eq(upcoming.segment.row),
        ]
        with m.If(column):
            m.d.sync += pins.address.eq(column_address)
            with m.If(~current.segment.error):
                m.d.sync += pins.command.eq(Mux(current.write, Command.WRITE, Command.READ))
        with m.If(activate):
            m.d.sync += pins.command.eq(Command.ACTIVATE)
        with m.If(precharge):
            m.d.sync += [
                pins.command.eq(Command.PRECHARGE),
                pins.address[PRECHARGE_ALL_BIT].eq(all_banks),
            ]
        with m.If(refresh):
            m.d.sync += pins.command.eq(Command.REFRESH)
        with m.If(set_mode):
            m.d.sync += [
                pins.command.eq(Command.MODE_REGISTER),
                pins.address.eq(mode),
                pins.bank.eq(0),
            ]
        return m

    def _refresh_timer(self, m, refresh):
        """Whether a refresh is due; and the intervals that power-up still takes."""
        timing = self._timing
        left = Signal(range(timing.refresh_interval), init=timing.refresh_interval - 1)
        power_up_left = Signal(range(timing.power_up_intervals + 1), init=timing.power_up_intervals)
        due, ended = Signal(), Signal()
        m.d.comb += ended.eq(left == 0)
        m.d.sync += left.eq(Mux(ended, timing.refresh_interval - 1, left - 1))
        with m.If(refresh):
            m.d.sync += due.eq(0)
        with m.If(ended):
            m.d.sync += due.eq(1)
            with m.If(power_up_left != 0):
                m.d.sync += power_up_left.eq(power_up_left - 1)
        return due, power_up_left


def _elapsed(m: Module, *waits: tuple[Value, int]) -> Value:
    """Whether each event is at least as many cycles ago as its wait says.

    A 1 is left for every cycle to wait, so the longest of several waits is their OR.
    """
    left = Signal(max(1, max(cycles for _, cycles in waits) - 1))
    masks = [Mux(event, (1 << max(0, cycles - 1)) - 1, 0) for event, cycles in waits]
    m.d.sync += left.eq(reduce(or_, masks, left >> 1))
    return ~left[0]
