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


def _values_near(rng, parameters, *, top):
    """Values around the rounding points of the pre-shift and over the whole range, 13 or more."""
    near = rng.integers(-40, 40, 12) + (1 << parameters["pre_shift"]) // 2
    wide = rng.integers(-top - 1, top + 1, 12) >> int(rng.integers(0, 16))
    values = np.concatenate([near - parameters["bias"], wide, [top, -top - 1]])
    return np.clip(values, -top - 1, top)[rng.integers(0, 14) :].astype(np.int64)


@pytest.mark.parametrize("accumulator_bits", [24, 32])
def test_equals_the_contract_while_parameters_change_between_two_values(accumulator_bits):
    dut = Requantizer(AcceleratorConfig(accumulator_bits=accumulator_bits))
    rng = np.random.default_rng(accumulator_bits)
    top = (1 << (accumulator_bits - 1)) - 1
    inputs, expected, adopted = [], [], {}
    for parameters in _parameter_sets(rng, 60):
        low, high = sorted(int(value) for value in rng.integers(-128, 128, 2))
        clamp = {"zero": int(rng.integers(-128, 128)), "low": low, "high": high}
        values = _values_near(rng, parameters, top=top)
        adopted[len(inputs)] = {"parameters": parameters, **clamp}
        inputs += values.tolist()
        expected += arithmetic.requantize(values, **parameters, **clamp).tolist()
    got = []

    async def bench(ctx):
        for cycle in range(-1, len(inputs) + Requantizer.LATENCY - 1):
            # In the cycle before the first value that they are for.
            ctx.set(dut.adopt, cycle + 1 in adopted)
            for name, value in adopted.get(cycle + 1, {}).items():
                ctx.set(getattr(dut, name), value)
            if 0 <= cycle < len(inputs):
                ctx.set(dut.accumulator, inputs[cycle])
            await ctx.tick()
            if cycle >= Requantizer.LATENCY - 1:
                got.append(ctx.get(dut.output))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert np.array_equal(got, expected)
