"""Crossbar: every column gets the word of the bank that the shift puts there."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.crossbar import Crossbar


@pytest.mark.parametrize("columns", [2, 4, 8, 16])
def test_turns_banks_to_columns_for_every_grid_and_shift(columns):
    config = AcceleratorConfig(lanes=8, columns=columns)
    dut = Crossbar(config, width=8)
    rng = np.random.default_rng(columns)
    cases = [
        (log2_bank_columns, row, column)
        for log2_bank_columns in range(config.log2_columns + 1)
        for row in range(columns >> log2_bank_columns)
        for column in range(1 << log2_bank_columns)
    ]
    rng.shuffle(cases)
    words = rng.integers(0, 256, (len(cases), columns))
    seen = []

    async def bench(ctx):
        lead = Crossbar.ROTATION_LEAD
        first_seen = lead + Crossbar.latency(config)
        for cycle in range(len(cases) + first_seen):
            if cycle < len(cases):
                log2_bank_columns, row, column = map(int, cases[cycle])
                ctx.set(dut.rotation, (row << log2_bank_columns) | column)
                ctx.set(dut.log2_bank_columns, log2_bank_columns)
            if lead <= cycle < lead + len(cases):
                ctx.set(dut.banks, [int(word) for word in words[cycle - lead]])
            if cycle >= first_seen:
                seen.append([ctx.get(dut.columns[number]) for number in range(columns)])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()

    for case, banks, got in zip(cases, words, seen, strict=True):
        log2_bank_columns, row, column = case
        grid = banks.reshape(columns >> log2_bank_columns, 1 << log2_bank_columns)
        expected = np.roll(grid, (-row, -column), axis=(0, 1)).ravel()
        assert np.array_equal(got, expected), f"grid, row, column = {case}"
