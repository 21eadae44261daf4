"""UART: bytes to bits and back, 8 data bits, no parity, one stop bit."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

FRAME_BITS = 10
"""Start bit, data, stop bit."""


class UartReceiver(wiring.Component):
    """Turn a line into bytes.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit, at least 4.

    Members
    -------
    line : In
    o : Out(stream)
        Whoever reads must be ready always. A byte whose stop bit is low is left out.
    """

    def __init__(self, divisor: int):
        if divisor < 4:
            raise ValueError(f"divisor must be at least 4 clock cycles of a bit, not {divisor}")
        self._divisor = divisor
        super().__init__({"line": In(1, init=1), "o": Out(stream.Signature(8, always_ready=True))})

    def elaborate(self, platform):
        m = Module()
        line, before = Signal(init=1), Signal(init=1)
        m.submodules += FFSynchronizer(self.line, line, init=1)
        countdown = Signal(range(self._divisor + self._divisor // 2))
        bits_left = Signal(range(FRAME_BITS))
        bits = Signal(FRAME_BITS - 1)
        m.d.comb += self.o.payload.eq(bits[:8])
        m.d.sync += [self.o.valid.eq(0), before.eq(line)]
        with m.If(bits_left == 0), m.If(before & ~line):
            # The middle of the first data bit.
            m.d.sync += [
                countdown.eq(self._divisor + self._divisor // 2 - 1),
                bits_left.eq(FRAME_BITS - 1),
            ]
        with m.Elif(countdown == 0):
            m.d.sync += [
                countdown.eq(self._divisor - 1),
                bits.eq(Cat(bits[1:], line)),
                bits_left.eq(bits_left - 1),
                self.o.valid.eq((bits_left == 1) & line),
            ]
        with m.Else():
            m.d.sync += countdown.eq(countdown - 1)
        return m


class UartTransmitter(wiring.Component):
    """Turn bytes into a line.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit.

    Members
    -------
    i : In(stream)
    line : Out
    """

    def __init__(self, divisor: int):
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        countdown = Signal(range(self._divisor))
        bits_left = Signal(range(FRAME_BITS + 1))
        bits = Signal(FRAME_BITS, init=(1 << FRAME_BITS) - 1)
        m.d.sync += self.line.eq(bits[0])
        m.d.comb += self.i.ready.eq(bits_left == 0)
        with m.If(bits_left == 0), m.If(self.i.valid):
            m.d.sync += [
                bits.eq(Cat(0, self.i.payload, 1)),
                bits_left.eq(FRAME_BITS),
                countdown.eq(self._divisor - 1),
            ]
        with m.Elif(countdown == 0):
            m.d.sync += [
                countdown.eq(self._divisor - 1),
                bits.eq(Cat(bits[1:], 1)),
                bits_left.eq(bits_left - 1),
            ]
        with m.Else():
            m.d.sync += countdown.eq(countdown - 1)
        return m
