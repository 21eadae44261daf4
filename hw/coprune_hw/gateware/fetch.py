"""Reads the instructions of a program ahead of their execution."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import INSTRUCTION_BITS

from .interfaces import Instruction, axi4_read_signature
from .read_burst import BurstReader
from .stream_fifo import StreamFifo

PREFETCH_INSTRUCTIONS = 4
"""Instructions that may have been asked for and not yet handed on, besides the one assembled."""


class Fetcher(wiring.Component):
    """Hand on the instructions of a program, in order, from its first byte on.

    It asks only for beats that it has a place for, so it never holds up the bus, and it stops by
    itself when nobody takes instructions (after END): at most `PREFETCH_INSTRUCTIONS` plus one
    instructions behind END are read, and none beyond the program's bytes.

    Members
    -------
    start : In(1)
        Begin; high for one cycle, once after every reset.
    program_address, program_bytes : In(32)
        Address, a multiple of 4096, and size. Must be stable.
    bus : Out(axi4_read_signature)
    instructions : Out(stream(Instruction))
    exhausted : Out(1)
        Every whole instruction of the program was handed on.

    Notes
    -----
    An instruction is handed on two cycles after its last beat came; one per
    ``256 / bus_bits`` cycles.
    """

    @staticmethod
    def buffer_beats(config: AcceleratorConfig) -> int:
        """Beats that it has a place for."""
        return PREFETCH_INSTRUCTIONS * INSTRUCTION_BITS // config.bus_bits

    @classmethod
    def burst_beats(cls, config: AcceleratorConfig) -> int:
        """Half the buffer, so that one burst comes while the other half is handed on."""
        return min(config.burst_beats, cls.buffer_beats(config) // 2)

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "program_address": In(32),
                "program_bytes": In(32),
                "bus": Out(axi4_read_signature(config)),
                "instructions": Out(stream.Signature(Instruction)),
                "exhausted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus_bits, bus_bytes = self._config.bus_bits, self._config.bus_bytes
        instruction_beats = INSTRUCTION_BITS // bus_bits
        buffer_beats = self.buffer_beats(self._config)
        burst_beats = self.burst_beats(self._config)

        m.submodules.reader = reader = BurstReader(self._config, burst_beats=burst_beats)
        m.submodules.buffer = buffer = StreamFifo(bus_bits, depth=buffer_beats)
        connect(m, reader.bus, flipped(self.bus))
        connect(m, reader.beats, buffer.i)
        m.d.comb += [
            reader.transfer.valid.eq(self.start),
            reader.transfer.payload.address.eq(self.program_address),
            reader.transfer.payload.beats.eq(self.program_bytes >> exact_log2(bus_bytes)),
        ]

        # Beats that the buffer can take beyond those that were asked for.
        free_beats = Signal(range(buffer_beats + 1), init=buffer_beats)
        asked_beats = Signal(range(burst_beats + 1))
        freed = buffer.o.valid & buffer.o.ready
        with m.If(self.bus.read_address.valid & self.bus.read_address.ready):
            m.d.comb += asked_beats.eq(self.bus.read_address.payload.length + 1)
        m.d.sync += free_beats.eq(free_beats - asked_beats + freed)
        m.d.comb += reader.room.eq(free_beats >= burst_beats)

        held = Signal(data.ArrayLayout(bus_bits, instruction_beats), reset_less=True)
        held_beats = Signal(range(instruction_beats + 1))
        held_soon = Signal.like(held_beats)
        is_whole = Signal()
        m.d.comb += [
            Value.cast(self.instructions.payload).eq(held),
            self.instructions.valid.eq(is_whole),
            buffer.o.ready.eq(~is_whole | self.instructions.ready),
        ]
        # Where the next beat goes something is written in every cycle, and counts once it is one.
        for place in range(instruction_beats):
            is_next = held_beats == place
            if place == 0:
                is_next |= is_whole & self.instructions.ready
            with m.If(is_next):
                m.d.sync += held[place].eq(buffer.o.payload)
        taken = is_whole & self.instructions.ready
        m.d.comb += held_soon.eq(Mux(taken, 0, held_beats) + freed)
        m.d.sync += [held_beats.eq(held_soon), is_whole.eq(held_soon == instruction_beats)]

        started = Signal()
        with m.If(self.start):
            m.d.sync += started.eq(1)
        m.d.comb += self.exhausted.eq(started & ~reader.busy & ~buffer.o.valid & ~is_whole)
        return m
