"""Brings beats of the bus to the pins of an SDRAM chip, word by word."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import write_data_layout
from coprune_hw.gateware.stream_fifo import StreamFifo

from .sdram_segment import chip_burst
from .sdram_timing import SEGMENT_BEATS, SdramChip


class WritePath(wiring.Component):
    """Keep the beats of the bus until they are written.

    Members
    -------
    i : In(stream(write_data_layout))
    next_length : In(range(SEGMENT_BEATS))
        Beats, less one, of the segment that is to be written next.
    at_hand : Out(1)
        They have come.
    granted : In(1)
        A segment will be written,
    length : In(range(SEGMENT_BEATS))
        of as many beats and one more.
    write : In(1)
        The write command of a beat is on the command pins in the next cycle.
    data, masks, enable : Out
        The pins: words of the beat in the cycle of its command and those that follow.

    Notes
    -----
    A beat can be written two cycles after it was accepted, when it is at hand for one. `at_hand` is
    right two cycles after a segment was granted.
    """

    DEPTH = 2 * SEGMENT_BEATS

    def __init__(self, config: AcceleratorConfig, chip: SdramChip):
        self._config, self._chip = config, chip
        super().__init__(
            {
                "i": In(stream.Signature(write_data_layout(config.bus_bits))),
                "next_length": In(range(SEGMENT_BEATS)),
                "at_hand": Out(1),
                "granted": In(1),
                "length": In(range(SEGMENT_BEATS)),
                "write": In(1),
                "data": Out(chip.data_bits),
                "masks": Out(chip.data_bits // 8),
                "enable": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus_bits, bus_bytes = self._config.bus_bits, self._config.bus_bytes
        layout = data.StructLayout({"data": bus_bits, "strobe": bus_bytes})
        m.submodules.beats = beats = StreamFifo(layout, depth=self.DEPTH, buffered=True)
        m.d.comb += [
            beats.i.valid.eq(self.i.valid),
            self.i.ready.eq(beats.i.ready),
            beats.i.payload.data.eq(self.i.payload.data),
            beats.i.payload.strobe.eq(self.i.payload.strobe),
            beats.o.ready.eq(self.write),
        ]
        unclaimed = Signal(range(self.DEPTH + 1))
        m.d.comb += self.at_hand.eq(unclaimed > self.next_length)
        m.d.sync += unclaimed.eq(
            unclaimed + (self.i.valid & self.i.ready) - Mux(self.granted, self.length + 1, 0)
        )

        words = Signal(bus_bits, reset_less=True)
        masks = Signal(bus_bytes)
        enables = Signal(chip_burst(self._config, self._chip))
        m.d.comb += [
            self.data.eq(words),
            self.masks.eq(masks),
            self.enable.eq(enables[0]),
        ]
        m.d.sync += [
            words.eq(words >> len(self.data)),
            masks.eq(masks >> len(self.masks)),
            enables.eq(enables >> 1),
        ]
        with m.If(self.write):
            m.d.sync += [
                words.eq(beats.o.payload.data),
                masks.eq(~beats.o.payload.strobe),
                enables.eq(~0),
            ]
        return m
