"""Turns activation words into beats of the bus."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig


class WordPacker(wiring.Component):
    """Split words into narrower beats, or join words to wider beats, lowest bytes first.

    Members
    -------
    words : In(stream({word, last}))
        `last` ends a beat that is not full; its other bytes are undefined.
    beats : Out(stream(bus_bits))

    Notes
    -----
    One beat a cycle, or one word a cycle where beats are wider. Joined words leave in the cycle
    after the beat is whole, others in the same cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._word_bits = config.word_bits
        self._bus_bits = config.bus_bits
        word = data.StructLayout({"word": config.word_bits, "last": 1})
        super().__init__(
            {
                "words": In(stream.Signature(word)),
                "beats": Out(stream.Signature(config.bus_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self._bus_bits == self._word_bits:
            m.d.comb += [
                self.beats.payload.eq(self.words.payload.word),
                self.beats.valid.eq(self.words.valid),
                self.words.ready.eq(self.beats.ready),
            ]
        elif self._bus_bits < self._word_bits:
            self._split(m, self._word_bits // self._bus_bits)
        else:
            self._join(m, self._bus_bits // self._word_bits)
        return m

    def _split(self, m, parts):
        part = Signal(range(parts))
        m.d.comb += [
            self.beats.payload.eq(self.words.payload.word.word_select(part, self._bus_bits)),
            self.beats.valid.eq(self.words.valid),
            self.words.ready.eq(self.beats.ready & (part == parts - 1)),
        ]
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += part.eq(Mux(part == parts - 1, 0, part + 1))

    def _join(self, m, parts):
        part = Signal(range(parts))
        m.d.comb += self.words.ready.eq(~self.beats.valid | self.beats.ready)
        with m.If(self.beats.ready):
            m.d.sync += self.beats.valid.eq(0)
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += self.beats.payload.word_select(part, self._word_bits).eq(
                self.words.payload.word
            )
            with m.If((part == parts - 1) | self.words.payload.last):
                m.d.sync += [self.beats.valid.eq(1), part.eq(0)]
            with m.Else():
                m.d.sync += part.eq(part + 1)
