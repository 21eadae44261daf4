"""Writes of drain and LOAD at once."""

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.activation_memory import ActivationMemory

from .streams import simulate, stream_get, stream_put

CONFIG = AcceleratorConfig(lanes=8, columns=4, activation_depth=64)
PLACES = [
    {"bank": bank, "address": address}
    for address in range(CONFIG.activation_depth)
    for bank in range(CONFIG.columns)
]


def test_keeps_every_word_that_drain_and_load_write_at_once():
    dut = ActivationMemory(CONFIG)
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 32, len(PLACES)).tolist()
    writes = [{**place, "word": word} for place, word in zip(PLACES, words, strict=True)]
    order = rng.permutation(len(writes))
    drained, loaded = ([writes[i] for i in half] for half in np.split(order, 2))
    got = []

    async def drain(ctx):
        for write in drained:
            await ctx.tick().repeat(int(rng.integers(1, 3)))
            ctx.set(dut.drain_write.payload, write)
            ctx.set(dut.drain_write.valid, 1)
            await ctx.tick()
            ctx.set(dut.drain_write.valid, 0)

    async def bench(ctx):
        await stream_put(ctx, dut.load_write, loaded, stall=0.2, seed=2)
        await ctx.tick().repeat(4 * len(PLACES))
        for place in PLACES:
            await stream_put(ctx, dut.store_read.request, [place])
            got.append(int((await stream_get(ctx, dut.store_read.response, 1))[0]))

    simulate(dut, bench, background=[drain])
    wrong = [i for i in range(len(words)) if got[i] != words[i]]
    assert not wrong, f"word at {PLACES[wrong[0]]} is {got[wrong[0]]}, must be {words[wrong[0]]}"
