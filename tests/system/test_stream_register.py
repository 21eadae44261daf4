"""A register in a stream: order, latency, throughput, and what it holds."""

import pytest
from amaranth.sim import Simulator

from coprune_hw.system.stream_register import StreamRegister

from ..gateware.streams import simulate, stream_get, stream_put

WORDS = list(range(1, 60))


@pytest.mark.parametrize("source_stall", [0.0, 0.5])
@pytest.mark.parametrize("sink_stall", [0.0, 0.5, 0.9])
def test_passes_everything_in_order(source_stall, sink_stall):
    dut = StreamRegister(8)

    async def source(ctx):
        await stream_put(ctx, dut.i, WORDS, stall=source_stall, seed=1)

    async def sink(ctx):
        assert await stream_get(ctx, dut.o, len(WORDS), stall=sink_stall, seed=2) == WORDS

    cycles = simulate(dut, sink, background=[source])
    if not source_stall and not sink_stall:
        assert cycles == StreamRegister.LATENCY + len(WORDS)


def test_holds_two_and_keeps_them():
    dut = StreamRegister(8)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        for word in (1, 2):
            ctx.set(dut.i.payload, word)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
        ctx.set(dut.i.payload, 3)
        for _ in range(3):
            assert not ctx.get(dut.i.ready)
            assert (ctx.get(dut.o.valid), ctx.get(dut.o.payload)) == (1, 1)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        assert await stream_get(ctx, dut.o, 2) == [1, 2]
        assert not ctx.get(dut.o.valid)

    simulate(dut, bench)


@pytest.mark.parametrize("signal", ["o.valid", "i.ready"])
def test_no_path_leads_through_it(signal):
    """What the other side does in a cycle shows in the next."""
    dut = StreamRegister(8)
    side, name = signal.split(".")
    seen = getattr(getattr(dut, side), name)

    async def bench(ctx):
        for ready in (0, 1):
            ctx.set(dut.i.valid, 1)
            await ctx.tick().repeat(3)
            before = ctx.get(seen)
            ctx.set(dut.o.ready, ready)
            ctx.set(dut.i.valid, 0)
            assert ctx.get(seen) == before
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
