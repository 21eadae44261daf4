"""Brings the words that an SDRAM chip reads to the bus."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import AxiResponse, read_data_layout
from coprune_hw.gateware.stream_fifo import StreamFifo

from .sdram_scheduler import BeatRead
from .sdram_segment import chip_burst
from .sdram_timing import SEGMENT_BEATS, SdramChip


class ReadPath(wiring.Component):
    """Capture the chip's words, gather them to beats, and keep these until the bus takes them.

    Parameters
    ----------
    config : AcceleratorConfig
    chip : SdramChip
    cas_latency : int
    capture_delay : int
        Cycles that the way to the chip and back takes beyond the CAS latency.

    Members
    -------
    granted : In(1)
        A segment will be read,
    length : In(range(SEGMENT_BEATS))
        of as many beats and one more.
    room : Out(1)
        There is a place for any segment.
    read : In(stream(BeatRead))
        A beat's read command is on the command pins in the next cycle.
    pins : In(data_bits)
        Registered before anything else.
    o : Out(stream(read_data_layout))

    Notes
    -----
    A beat is on `o` the CAS latency, the chip's burst length, `capture_delay` and 3 cycles after
    `read`.
    """

    DEPTH = 4 * SEGMENT_BEATS

    def __init__(
        self, config: AcceleratorConfig, chip: SdramChip, *, cas_latency: int, capture_delay: int
    ):
        self._config = config
        burst = chip_burst(config, chip)
        self._capture_cycles = cas_latency + burst + capture_delay + 1
        super().__init__(
            {
                "granted": In(1),
                "length": In(range(SEGMENT_BEATS)),
                "room": Out(1),
                "read": In(stream.Signature(BeatRead, always_ready=True)),
                "pins": In(chip.data_bits),
                "o": Out(stream.Signature(read_data_layout(config.bus_bits))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat_layout = data.StructLayout({"data": self._config.bus_bits, "read": BeatRead})
        m.submodules.beats = beats = StreamFifo(beat_layout, depth=self.DEPTH, buffered=True)

        # The word of the pins comes in at the top; after a beat's last word all are in place.
        words = Signal(self._config.bus_bits, reset_less=True)
        m.d.sync += words.eq(Cat(words[len(self.pins) :], self.pins))
        valid = Signal(self._capture_cycles)
        m.d.sync += valid.eq(Cat(self.read.valid, valid))
        read = self.read.payload
        for _ in range(self._capture_cycles):
            delayed = Signal(BeatRead, reset_less=True)
            m.d.sync += delayed.eq(read)
            read = delayed
        m.d.comb += [
            beats.i.valid.eq(valid[-1]),
            beats.i.payload.data.eq(words),
            beats.i.payload.read.eq(read),
        ]

        reserved = Signal(range(self.DEPTH + 1))
        taken = self.o.valid & self.o.ready
        m.d.comb += self.room.eq(reserved <= self.DEPTH - SEGMENT_BEATS)
        m.d.sync += reserved.eq(reserved + Mux(self.granted, self.length + 1, 0) - taken)

        beat = beats.o.payload
        m.d.comb += [
            self.o.valid.eq(beats.o.valid),
            beats.o.ready.eq(self.o.ready),
            self.o.payload.data.eq(beat.data),
            self.o.payload.last.eq(beat.read.last),
            self.o.payload.response.eq(Mux(beat.read.error, AxiResponse.DECERR, AxiResponse.OKAY)),
        ]
        return m
