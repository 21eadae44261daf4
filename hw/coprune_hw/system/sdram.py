"""A controller of SDRAM chips behind an AXI4 slave."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import AxiResponse, axi4_signature
from coprune_hw.gateware.stream_fifo import StreamFifo

from .sdram_arbiter import SegmentArbiter
from .sdram_read_path import ReadPath
from .sdram_scheduler import CommandScheduler
from .sdram_segment import BurstSplitter
from .sdram_timing import SdramChip
from .sdram_write_path import WritePath

_RESPONSES = 4
"""Write responses that wait for the bus to take them."""


def sdram_pins_signature(chip: SdramChip) -> wiring.Signature:
    """The pins of a chip but its clock, as the controller sees them.

    Names are those of data sheets; `dq_oe` is high while the controller drives the data pins.
    """
    return wiring.Signature(
        {
            "clock_enable": Out(1),
            "cs_n": Out(1),
            "ras_n": Out(1, init=1),
            "cas_n": Out(1, init=1),
            "we_n": Out(1, init=1),
            "ba": Out(chip.bank_bits),
            "a": Out(chip.address_bits),
            "dqm": Out(chip.data_bits // 8),
            "dq_o": Out(chip.data_bits),
            "dq_oe": Out(1),
            "dq_i": In(chip.data_bits),
        }
    )


class SdramController(wiring.Component):
    """Serve an AXI4 bus from an SDRAM chip.

    Addresses count from the chip's first byte; columns are their lowest bits, then banks, then
    rows. Bursts outside the chip are answered with DECERR and change nothing. Within a kind, bursts
    are answered in order; a write is confirmed when it has its place among the reads, so what is
    read after a confirmation is what was written.

    Parameters
    ----------
    config : AcceleratorConfig
        For `bus_bits`: 2, 4 or 8 words of the chip.
    chip : SdramChip
    clock_hz : float
        Of the `sync` domain, and of the chip.
    capture_delay : int, optional
        Cycles between `pins` and the chip, to it and back, in all. 0 where the chip has the
        controller's clock and `pins` are its pins; 2 with a register in each I/O cell.

    Raises
    ------
    ValueError
        The clock is not one of the chip, or the width of the bus.

    Members
    -------
    bus : In(axi4_signature)
        INCR bursts of full-width beats, of any length that AXI4 allows.
    pins : Out(sdram_pins_signature)
        All outputs come from registers, and `dq_i` goes to one.

    Notes
    -----
    A beat takes as many cycles as it has words of the chip. Refreshes, turns of the data pins and
    opening rows come on top: docs/sdram.md has figures.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        chip: SdramChip,
        clock_hz: float,
        *,
        capture_delay: int = 0,
    ):
        self._config, self._chip = config, chip
        self.size_bytes = chip.size_bytes
        self._timing = chip.timing(clock_hz)
        self._capture_delay = capture_delay
        super().__init__(
            {"bus": In(axi4_signature(config)), "pins": Out(sdram_pins_signature(chip))}
        )

    def elaborate(self, platform):
        m = Module()
        config, chip, timing = self._config, self._chip, self._timing
        m.submodules.read_splitter = read_splitter = BurstSplitter(config, chip)
        m.submodules.write_splitter = write_splitter = BurstSplitter(config, chip)
        m.submodules.arbiter = arbiter = SegmentArbiter(config, chip)
        m.submodules.scheduler = scheduler = CommandScheduler(config, chip, timing)
        m.submodules.read_path = read_path = ReadPath(
            config,
            chip,
            cas_latency=timing.cas_latency,
            capture_delay=self._capture_delay,
        )
        m.submodules.write_path = write_path = WritePath(config, chip)
        m.submodules.responses = responses = StreamFifo(AxiResponse, depth=_RESPONSES)
        read, write = self.bus.read, self.bus.write
        connect(m, flipped(read.read_address), read_splitter.i)
        connect(m, flipped(write.write_address), write_splitter.i)
        connect(m, flipped(write.write_data), write_path.i)
        connect(m, read_path.o, flipped(read.read_data))
        connect(m, read_splitter.o, arbiter.reads)
        connect(m, write_splitter.o, arbiter.writes)
        connect(m, arbiter.accesses, scheduler.accesses)
        connect(m, scheduler.read, read_path.read)

        segment = arbiter.accesses.payload.segment
        m.d.comb += [
            arbiter.read_room.eq(read_path.room),
            read_path.granted.eq(arbiter.granted_read),
            read_path.length.eq(segment.length),
            arbiter.write_data.eq(write_path.at_hand & responses.i.ready),
            write_path.next_length.eq(write_splitter.o.payload.length),
            write_path.granted.eq(arbiter.granted_write),
            write_path.length.eq(segment.length),
            write_path.write.eq(scheduler.write),
            responses.i.valid.eq(arbiter.granted_write & segment.last),
            responses.i.payload.eq(Mux(segment.error, AxiResponse.DECERR, AxiResponse.OKAY)),
            write.write_response.valid.eq(responses.o.valid),
            write.write_response.payload.response.eq(responses.o.payload),
            responses.o.ready.eq(write.write_response.ready),
        ]

        pins, command = self.pins, scheduler.command
        m.d.comb += [
            pins.clock_enable.eq(1),
            pins.cs_n.eq(0),
            Cat(pins.ras_n, pins.cas_n, pins.we_n).eq(command.command),
            pins.ba.eq(command.bank),
            pins.a.eq(command.address),
            pins.dqm.eq(write_path.masks),
            pins.dq_o.eq(write_path.data),
            pins.dq_oe.eq(write_path.enable),
            read_path.pins.eq(pins.dq_i),
        ]
        return m
