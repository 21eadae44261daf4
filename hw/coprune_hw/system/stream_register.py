"""A register in a stream, which cuts its paths in both directions."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class StreamRegister(wiring.Component):
    """Pass payloads on, from register to register: `o.valid`, `o.payload` and `i.ready` are ones.

    Parameters
    ----------
    shape : shape-like
        Of the payloads.

    Members
    -------
    i : In(stream)
    o : Out(stream)

    Notes
    -----
    Takes `LATENCY` cycles; one payload a cycle. Two are held where `o` is not taken.
    """

    LATENCY = 1

    def __init__(self, shape):
        self._width = Shape.cast(shape).width
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        given, passed = Value.cast(self.i.payload), Value.cast(self.o.payload)
        held, holds = Signal(self._width, reset_less=True), Signal()
        m.d.comb += self.i.ready.eq(~holds)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid | holds),
                passed.eq(Mux(holds, held, given)),
                holds.eq(0),
            ]
        with m.Elif(self.i.valid & ~holds):
            m.d.sync += [held.eq(given), holds.eq(1)]
        return m
