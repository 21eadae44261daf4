"""Rounding, saturation and requantization against exact fractions."""

from fractions import Fraction
from math import floor, inf, nan

import numpy as np
import pytest
import torch

from coprune_hw.contract.arithmetic import (
    MAX_POST_SHIFT,
    MAX_PRE_SHIFT,
    MULTIPLIER_BITS,
    SATURATED_BITS,
    FixedPoint,
    dequantize,
    fixed_point,
    quantize,
    requantize,
    saturate,
    shift_round,
)

HALF = Fraction(1, 2)
INT32 = (-(1 << 31), (1 << 31) - 1)
SATURATED_MAX = (1 << (SATURATED_BITS - 1)) - 1


@pytest.mark.parametrize("shift", [0, 1, 2, 7, 15, 31])
def test_shift_round_rounds_half_up(shift):
    rng = np.random.default_rng(shift)
    halves = np.arange(-9, 10) << shift >> 1
    values = np.concatenate([halves, halves + 1, halves - 1, rng.integers(-(1 << 40), 1 << 40, 99)])
    expected = [floor(Fraction(int(value), 1 << shift) + HALF) for value in values]
    assert shift_round(values, shift).tolist() == expected


def test_shift_round_takes_a_shift_per_value():
    shifts = np.array([0, 1, 2, 3])
    assert shift_round(np.array([5, 5, 5, 5]), shifts).tolist() == [5, 3, 1, 1]
    assert shift_round(np.array([-5, -5, -6, -4]), shifts).tolist() == [-5, -2, -1, 0]


@pytest.mark.parametrize("bits", [8, 18])
def test_saturate_clips_to_twos_complement(bits):
    high = (1 << (bits - 1)) - 1
    values = np.array([-high - 2, -high - 1, -high, 0, high, high + 1, 1 << 40])
    expected = [-high - 1, -high - 1, -high, 0, high, high, high]
    assert saturate(values, bits=bits).tolist() == expected


def random_drain(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    parameters = {
        "bias": rng.integers(-(1 << 31), 1 << 31, 16),
        "multiplier": rng.integers(0, 1 << MULTIPLIER_BITS, 16),
        "pre_shift": rng.integers(0, MAX_PRE_SHIFT + 1, 16),
        "post_shift": rng.integers(16, MAX_POST_SHIFT + 1, 16),
    }
    # From small to extreme, so that every channel sees rounding, saturation and clamp.
    size = 2.0 ** rng.uniform(4, 31, (200, 16))
    near = rng.integers(0, 2, (200, 16)) * -parameters["bias"]
    accumulator = np.clip((rng.normal(size=(200, 16)) * size).astype(np.int64) + near, *INT32)
    return accumulator, parameters


@pytest.mark.parametrize(("zero", "low", "high"), [(0, -128, 127), (-128, -128, 127), (5, 5, 90)])
def test_requantize_is_its_definition(zero, low, high):
    accumulator, parameters = random_drain(zero + 200)
    actual = requantize(accumulator, **parameters, zero=zero, low=low, high=high)
    seen_saturated = 0
    for pixel, channel in np.ndindex(accumulator.shape):
        channel_values = {name: int(values[channel]) for name, values in parameters.items()}
        total = int(accumulator[pixel, channel]) + channel_values["bias"]
        scaled = floor(Fraction(total, 1 << channel_values["pre_shift"]) + HALF)
        saturated = min(max(scaled, -SATURATED_MAX - 1), SATURATED_MAX)
        seen_saturated += saturated != scaled
        product = saturated * channel_values["multiplier"]
        result = zero + floor(Fraction(product, 1 << channel_values["post_shift"]) + HALF)
        assert actual[pixel, channel] == min(max(result, low), high), (pixel, channel)
    assert seen_saturated > 100
    assert len(np.unique(actual)) > 50


def test_requantize_gives_the_same_in_torch():
    accumulator, parameters = random_drain(1)
    clamp = {"zero": -3, "low": -128, "high": 127}
    tensors = {name: torch.from_numpy(values) for name, values in parameters.items()}
    actual = requantize(torch.from_numpy(accumulator), **tensors, **clamp)
    assert np.array_equal(actual.numpy(), requantize(accumulator, **parameters, **clamp))


def applied(factor: FixedPoint, accumulator: int) -> tuple[Fraction, bool]:
    """The drain's result before its last rounding, and whether it saturated."""
    scaled = shift_round(accumulator, factor.pre_shift)
    saturated = min(max(scaled, -SATURATED_MAX - 1), SATURATED_MAX)
    return Fraction(saturated * factor.multiplier, 1 << factor.post_shift), saturated != scaled


def test_fixed_point_is_close_to_the_exact_product():
    """Nothing that is not clamped saturates, or leaves the stated distance."""
    rng = np.random.default_rng(2)
    for _ in range(2000):
        scale = float(2.0 ** rng.uniform(-40, 8))
        reach = int(rng.integers(0, 256))
        bound = int(2.0 ** rng.uniform(8, 32))
        factor = fixed_point(scale, output_reach=reach, accumulator_bound=bound)
        assert 0 <= factor.multiplier < 1 << MULTIPLIER_BITS
        assert 0 <= factor.pre_shift <= MAX_PRE_SHIFT
        assert 0 <= factor.post_shift <= MAX_POST_SHIFT
        # An output that rounds to `reach` still counts as one that is not clamped.
        top = min(floor((reach + HALF) / Fraction(scale)), bound)
        for accumulator in (
            top,
            -top,
            top - top // 1000,
            *map(int, rng.integers(-top, top + 1, 8)),
        ):
            result, saturated = applied(factor, accumulator)
            assert not saturated, (scale, reach, bound, accumulator)
            error = abs(result - accumulator * Fraction(scale))
            assert error <= Fraction(3, 1 << 10), (scale, reach, bound, accumulator)


def test_fixed_point_clamps_what_it_saturates():
    """An accumulator that saturates gives an output beyond the reach, so the clamp decides it."""
    rng = np.random.default_rng(3)
    seen = 0
    for _ in range(2000):
        scale, reach = float(2.0 ** rng.uniform(-20, 8)), int(rng.integers(0, 256))
        factor = fixed_point(scale, output_reach=reach, accumulator_bound=1 << 32)
        for accumulator in map(int, rng.integers(-(1 << 32), 1 << 32, 8)):
            result, saturated = applied(factor, accumulator)
            seen += saturated
            assert not saturated or abs(result) >= reach
    assert seen > 1000


def test_fixed_point_takes_a_dead_channel():
    """A scale of 1e-30 gives zero, whatever the accumulator."""
    factor = fixed_point(1e-30, output_reach=255, accumulator_bound=1 << 31)
    assert applied(factor, 1 << 31) == (0, False)


def test_fixed_point_is_exact_for_powers_of_two():
    for exponent in range(-16, 17):
        scale = 2.0**exponent
        factor = fixed_point(scale, output_reach=255, accumulator_bound=1000)
        assert applied(factor, 999) == (999 * Fraction(scale), False)


@pytest.mark.parametrize("scale", [0.0, -1.0, nan, inf])
def test_fixed_point_refuses_what_is_no_scale(scale):
    with pytest.raises(ValueError, match=f"must be positive and finite, not {scale!r}"):
        fixed_point(scale, output_reach=255, accumulator_bound=1000)


@pytest.mark.parametrize("scale", [131071.75, 1e6])
def test_fixed_point_refuses_a_scale_beyond_its_multiplier(scale):
    with pytest.raises(ValueError, match=rf"scale {scale!r} is too large: must be below 2\*\*17"):
        fixed_point(scale, output_reach=255, accumulator_bound=1000)


def test_fixed_point_refuses_a_bound_beyond_its_shift():
    with pytest.raises(ValueError, match="accumulator bound 1099511627776 is too large"):
        fixed_point(1e-12, output_reach=255, accumulator_bound=1 << 40)


def test_quantize_rounds_half_to_even_and_clips():
    values = np.array([-1000.0, -0.75, -0.25, 0.25, 0.5, 0.75, 1.25, 1000.0])
    expected = [-128, 1, 3, 3, 4, 5, 5, 127]
    assert quantize(values, scale=0.5, zero=3).tolist() == expected
    tensor = quantize(torch.from_numpy(values), scale=0.5, zero=3)
    assert tensor.tolist() == expected


def test_dequantize_undoes_quantize_on_the_grid():
    grid = np.arange(-128, 128)
    assert np.array_equal(
        quantize(dequantize(grid, scale=0.25, zero=-7), scale=0.25, zero=-7), grid
    )
