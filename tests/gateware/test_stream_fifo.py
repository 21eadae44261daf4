"""FIFOs of streams, cycle by cycle against those of Amaranth's library."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.gateware.stream_fifo import StreamFifo

from .streams import simulate

WIDTH = 8
CYCLES = 3_000


class Pair(wiring.Component):
    """The same inputs for both FIFOs."""

    valid: In(1)
    payload: In(WIDTH)
    ready: In(1)
    ours: Out(WIDTH + 3)
    theirs: Out(WIDTH + 3)
    level: Out(8)
    their_level: Out(8)

    def __init__(self, *, depth, buffered):
        self._depth, self._buffered = depth, buffered
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ours = ours = StreamFifo(WIDTH, depth=self._depth, buffered=self._buffered)
        kind = fifo.SyncFIFOBuffered if self._buffered else fifo.SyncFIFO
        m.submodules.theirs = theirs = kind(width=WIDTH, depth=self._depth)
        m.d.comb += [
            ours.i.valid.eq(self.valid),
            ours.i.payload.eq(self.payload),
            ours.o.ready.eq(self.ready),
            theirs.w_en.eq(self.valid),
            theirs.w_data.eq(self.payload),
            theirs.r_en.eq(self.ready),
            self.level.eq(ours.level),
            self.their_level.eq(theirs.level),
        ]
        for answer, accepts, has, data in (
            (self.ours, ours.i.ready, ours.o.valid, ours.o.payload),
            (self.theirs, theirs.w_rdy, theirs.r_rdy, theirs.r_data),
        ):
            # Data mean nothing while there are none.
            m.d.comb += [answer[0].eq(accepts), answer[1].eq(has)]
            with m.If(has):
                m.d.comb += answer[2:].eq(data)
        return m


@pytest.mark.parametrize(
    ("depth", "buffered"),
    [(depth, False) for depth in (1, 2, 3, 4, 5, 8, 16)]
    + [(depth, True) for depth in (2, 3, 4, 5, 8, 16)],
)
def test_behaves_as_the_librarys_in_every_cycle(depth, buffered):
    dut = Pair(depth=depth, buffered=buffered)
    source = random.Random(depth)
    levels = set()

    async def bench(ctx):
        busy, eager = 0.5, 0.5
        for cycle in range(CYCLES):
            if cycle % 100 == 0:
                busy, eager = source.choice((0.1, 0.5, 1.0)), source.choice((0.1, 0.5, 1.0))
            ctx.set(dut.valid, source.random() < busy)
            ctx.set(dut.ready, source.random() < eager)
            ctx.set(dut.payload, source.getrandbits(WIDTH))
            assert ctx.get(dut.ours) == ctx.get(dut.theirs), cycle
            assert ctx.get(dut.level) == ctx.get(dut.their_level), cycle
            levels.add(ctx.get(dut.level))
            await ctx.tick()

    simulate(dut, bench)
    assert levels == set(range(depth + 1))
