"""A FIFO between two streams of one payload shape."""

from amaranth.hdl import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out


class StreamFifo(wiring.Component):
    """Hold up to `depth` payloads, in order.

    Parameters
    ----------
    shape : shape-like
        Of the payloads.
    depth : int
    buffered : bool
        Whether the output comes from a register, as block RAM wants it; otherwise the memory is
        read combinationally, as distributed RAM can.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    level : Out(range(depth + 1))
        Payloads held.

    Notes
    -----
    A payload can leave `LATENCY` cycles after it was accepted, or `BUFFERED_LATENCY` where
    `buffered`. One a cycle.
    """

    LATENCY = 1
    BUFFERED_LATENCY = 2

    def __init__(self, shape, *, depth: int, buffered: bool = False):
        self._width = Shape.cast(shape).width
        self._depth = depth
        self._buffered = buffered
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        kind = fifo.SyncFIFOBuffered if self._buffered else fifo.SyncFIFO
        m.submodules.storage = storage = kind(width=self._width, depth=self._depth)
        m.d.comb += [
            storage.w_data.eq(self.i.payload),
            storage.w_en.eq(self.i.valid),
            self.i.ready.eq(storage.w_rdy),
            Value.cast(self.o.payload).eq(storage.r_data),
            self.o.valid.eq(storage.r_rdy),
            storage.r_en.eq(self.o.ready),
            self.level.eq(storage.level),
        ]
        return m
