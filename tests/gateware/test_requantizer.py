"""Requantizer: the contract's arithmetic, bit for bit, at full rate."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from coprune_hw.contract import AcceleratorConfig, arithmetic
from coprune_hw.gateware.requantizer import Requantizer


def _parameter_sets(rng, count):
    yield {"bias": 0, "multiplier": 0, "pre_shift": 0, "post_shift": 0}
    yield {"bias": -(1 << 31), "multiplier": 131071, "pre_shift": 15, "post_shift": 31}
    yield {"bias": (1 << 31) - 1, "multiplier": 131071, "pre_shift": 0, "post_shift": 0}
    for _ in range(count):
        pre_shift, post_shift = int(rng.integers(0, 16)), int(rng.integers(0, 32))
        multiplier = int(rng.integers(0, 1 << 17))
        bias = int(rng.integers(-(1 << 20), 1 << 20))
        yield {
            "bias": bias,
            "multiplier": multiplier,
            "pre_shift": pre_shift,
            "post_shift": post_shift,
        }


@pytest.mark.parametrize("accumulator_bits", [24, 32])
def test_equals_the_contract_for_extreme_and_random_values(accumulator_bits):
    dut = Requantizer(AcceleratorConfig(accumulator_bits=accumulator_bits))
    rng = np.random.default_rng(accumulator_bits)
    top = (1 << (accumulator_bits - 1)) - 1

    async def bench(ctx):
        for parameters in _parameter_sets(rng, 60):
            low, high = sorted(int(value) for value in rng.integers(-128, 128, 2))
            zero = int(rng.integers(-128, 128))
            # Values around the rounding points of the pre-shift, and over the whole range.
            near = rng.integers(-40, 40, 12) + (1 << parameters["pre_shift"]) // 2
            wide = rng.integers(-top - 1, top + 1, 12) >> int(rng.integers(0, 16))
            values = np.concatenate([near - parameters["bias"], wide, [top, -top - 1]])
            values = np.clip(values, -top - 1, top)
            ctx.set(dut.parameters, parameters)
            for name, value in (("zero", zero), ("low", low), ("high", high)):
                ctx.set(getattr(dut, name), value)
            got = []
            for cycle in range(len(values) + Requantizer.LATENCY):
                if cycle < len(values):
                    ctx.set(dut.accumulator, int(values[cycle]))
                if cycle >= Requantizer.LATENCY:
                    got.append(ctx.get(dut.output))
                await ctx.tick()
            expected = arithmetic.requantize(
                values.astype(np.int64), **parameters, zero=zero, low=low, high=high
            )
            assert np.array_equal(got, expected), (parameters, zero, low, high)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
