"""Drive and read `lib.stream` interfaces in tests, with random stalls."""

import random

import numpy as np
from amaranth.hdl import Value
from amaranth.sim import Simulator


def stall_pattern(stall: float, *, seed: int):
    """Endless booleans, of which a fraction `stall` is true."""
    generator = random.Random(seed)
    while True:
        yield generator.random() < stall


async def stream_put(ctx, stream, payloads, *, stall: float = 0.0, seed: int = 0):
    """Send `payloads` in order, pausing before each with probability `stall` per cycle.

    A payload is what Amaranth makes a constant of, or the integer of its bits.
    """
    pauses = stall_pattern(stall, seed=seed)
    for payload in payloads:
        while next(pauses):
            ctx.set(stream.valid, 0)
            await ctx.tick()
        if isinstance(payload, int | np.integer):
            # Amaranth takes Python integers only, and of structures only their bits as an integer.
            ctx.set(Value.cast(stream.payload), int(payload))
        else:
            ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        is_taken = False
        while not is_taken:
            _, _, is_taken = await ctx.tick().sample(stream.ready)
    ctx.set(stream.valid, 0)


async def stream_get(ctx, stream, count: int, *, stall: float = 0.0, seed: int = 0) -> list:
    """Take `count` payloads, refusing in each cycle with probability `stall`."""
    pauses = stall_pattern(stall, seed=seed)
    payloads = []
    while len(payloads) < count:
        is_ready = not next(pauses)
        if not stream.signature.always_ready:
            ctx.set(stream.ready, is_ready)
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        if valid and (is_ready or stream.signature.always_ready):
            payloads.append(payload)
    if not stream.signature.always_ready:
        ctx.set(stream.ready, 0)
    return payloads


LONGEST_CYCLES = 200_000
"""No test of a component takes so many cycles, unless it hangs."""


def simulate(dut, *benches, background=()) -> int:
    """Run `benches` to their end beside `background`; return the clock cycles that took."""
    cycles = 0

    async def count(ctx):
        nonlocal cycles
        async for _ in ctx.tick():
            cycles += 1
            assert cycles < LONGEST_CYCLES, f"hangs: no end after {cycles} cycles"

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_process(count)
    for bench in background:
        simulator.add_testbench(bench, background=True)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run()
    return cycles
