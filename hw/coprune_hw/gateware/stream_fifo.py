"""A FIFO between two streams of one payload shape."""

from amaranth.hdl import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out


class StreamFifo(wiring.Component):
    """Hold up to `depth` payloads, in order. All that it says to its neighbours is in registers.

    The oldest payload is in a register, the others in a memory behind it.

    Parameters
    ----------
    shape : shape-like
        Of the payloads.
    depth : int
        At least 1, or 2 where `buffered`.
    buffered : bool
        Whether every payload passes through the memory, which may be block RAM then; otherwise the
        first one goes to the register straight away, and the memory is read combinationally, as
        distributed RAM can.

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

    @staticmethod
    def memory_words(depth: int) -> int:
        """Of the memory behind the oldest payload: a power of two, so that its addresses wrap."""
        return 1 << max(1, (depth - 2).bit_length())

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
        memory_depth = self._depth - 1
        accepts = Signal(init=1)
        # Whether the memory has any.
        waits = Signal()
        in_memory = Signal(range(max(self._depth, 2)))
        in_memory_soon = Signal.like(in_memory)
        level_soon = Signal.like(self.level)
        accepted = self.i.valid & accepts
        given = self.o.valid & self.o.ready
        is_free = ~self.o.valid | self.o.ready
        leaves_memory = Signal()
        passes_by = Signal()
        enters_memory = accepted & ~passes_by
        m.d.comb += [
            self.i.ready.eq(accepts),
            level_soon.eq(self.level + accepted - given),
            in_memory_soon.eq(in_memory + enters_memory - leaves_memory),
            leaves_memory.eq(waits & is_free),
        ]
        m.d.sync += [
            self.level.eq(level_soon),
            in_memory.eq(in_memory_soon),
            waits.eq(in_memory_soon.any()),
        ]
        with m.If(is_free):
            m.d.sync += self.o.valid.eq(waits | passes_by)

        oldest = self._add_memory(m, enters_memory, leaves_memory)
        if self._buffered:
            m.d.comb += Value.cast(self.o.payload).eq(oldest)
            m.d.sync += accepts.eq(in_memory_soon != memory_depth)
            return m
        payload = Signal(self._width, reset_less=True)
        m.d.comb += [
            passes_by.eq(accepted & ~waits & is_free),
            Value.cast(self.o.payload).eq(payload),
        ]
        m.d.sync += accepts.eq(level_soon != self._depth)
        with m.If(is_free):
            m.d.sync += payload.eq(Mux(waits, oldest, self.i.payload))
        return m

    def _add_memory(self, m, enters, leaves):
        """Behind the oldest payload. Returns the next; a cycle after it leaves, if `buffered`."""
        if self._depth == 1:
            return C(0, self._width)
        words = self.memory_words(self._depth)
        m.submodules.storage = storage = memory.Memory(shape=self._width, depth=words, init=[])
        write_port = storage.write_port()
        read_port = storage.read_port(domain="sync" if self._buffered else "comb")
        for address, moves in ((write_port.addr, enters), (read_port.addr, leaves)):
            place = Signal(range(words), name=f"place_{'in' if moves is enters else 'out'}")
            m.d.comb += address.eq(place)
            with m.If(moves):
                m.d.sync += place.eq(place + 1)
        m.d.comb += [
            # What passes by may be written: it is overwritten.
            write_port.en.eq(self.i.valid & self.i.ready),
            write_port.data.eq(self.i.payload),
        ]
        if self._buffered:
            m.d.comb += read_port.en.eq(leaves)
        return read_port.data
