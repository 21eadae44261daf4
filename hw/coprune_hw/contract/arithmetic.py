"""Every rounding, saturation and zero-point rule of coprune, written once.

The functions use operators and ``clip`` only, so they take Python-like integer arrays of numpy and
of torch alike. The gateware's `Requantizer` implements `requantize` and is tested against it; the
integer reference and the instruction simulator call it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SATURATED_BITS = 18
"""Signed operand width of the requantizing multiplier."""
MULTIPLIER_BITS = 17
"""Unsigned width of a requantization multiplier: with a sign bit it fills an 18x18 multiplier."""
MAX_PRE_SHIFT = 15
MAX_POST_SHIFT = 31
WEIGHT_MAX = 127
"""Largest magnitude of an int8 weight: symmetric, so that negation never overflows."""
DIAGONAL_WEIGHT_MAX = 2047
"""Largest magnitude of the 12-bit weight of a diagonal slot."""


def shift_round(value, shift):
    """Divide by ``2**shift``, rounding half up: ``floor(value / 2**shift + 1/2)``.

    Parameters
    ----------
    value : signed integer array
        Of a width that holds ``value + 2**(shift - 1)``.
    shift : int or integer array, >= 0

    Returns
    -------
    integer array
    """
    return (value + ((1 << shift) >> 1)) >> shift


def saturate(value, *, bits: int):
    """Clip a signed integer array to the range of a signed number of `bits` bits."""
    return value.clip(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def requantize(accumulator, *, bias, multiplier, pre_shift, post_shift, zero, low, high):
    """Turn accumulators into int8 outputs, as the drain of the hardware does.

    ``t = saturate18(shift_round(accumulator + bias, pre_shift))`` and
    ``y = clip(zero + shift_round(t * multiplier, post_shift), low, high)``.

    Parameters
    ----------
    accumulator : int64 array
        Sums of products.
    bias, multiplier, pre_shift, post_shift : int64 arrays that broadcast against `accumulator`
        Per output channel.
    zero, low, high : int
        Output zero point and clamp, -128..127.

    Returns
    -------
    int64 array, values in ``low..high``
    """
    scaled = saturate(shift_round(accumulator + bias, pre_shift), bits=SATURATED_BITS)
    return (zero + shift_round(scaled * multiplier, post_shift)).clip(low, high)


@dataclass(frozen=True)
class FixedPoint:
    """A positive real factor as the drain applies it: ``multiplier * 2**-(pre + post)``."""

    multiplier: int
    pre_shift: int
    post_shift: int


def fixed_point(scale: float, *, output_reach: int, accumulator_bound: int) -> FixedPoint:
    """Choose the fixed-point factor for one output channel.

    `pre_shift` is the smallest one with which 18 bits hold every accumulator whose output is not
    clamped, so saturation loses nothing. Before its own rounding the result stays within
    ``3 * 2**-10`` of an output step of the exact product, where `output_reach` is at most 255.

    Parameters
    ----------
    scale : float
        Output steps per accumulator step.
    output_reach : int
        Largest distance of an unclamped output from the zero point, in output steps.
    accumulator_bound : int
        Largest magnitude that accumulator plus bias can take.

    Raises
    ------
    ValueError
        `scale` is not a positive finite number, or too large for the multiplier.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"requantization scale must be positive and finite, not {scale!r}")
    reach = min(math.ceil((output_reach + 1) / scale), accumulator_bound)
    limit = (1 << (SATURATED_BITS - 1)) - 1
    pre_shift = 0
    while shift_round(reach, pre_shift) > limit:
        pre_shift += 1
    if pre_shift > MAX_PRE_SHIFT:
        raise ValueError(f"accumulator bound {accumulator_bound} is too large to requantize")
    factor = math.ldexp(scale, pre_shift)
    post_shift = min(MULTIPLIER_BITS - math.frexp(factor)[1], MAX_POST_SHIFT)
    if post_shift >= 0 and round(math.ldexp(factor, post_shift)) >= 1 << MULTIPLIER_BITS:
        post_shift -= 1
    if post_shift < 0:
        raise ValueError(
            f"requantization scale {scale!r} is too large: must be below 2**{MULTIPLIER_BITS}"
        )
    return FixedPoint(round(math.ldexp(factor, post_shift)), pre_shift, post_shift)


def quantize(value, *, scale: float, zero: int):
    """Round a float array to int8 values: ``clip(rint(value / scale) + zero, -128, 127)``.

    ``rint`` rounds half to even, as IEEE 754 and both numpy and torch do.

    Returns
    -------
    Array of `value`'s float dtype with integer values in -128..127.
    """
    return ((value / scale).round() + zero).clip(-128, 127)


def dequantize(value, *, scale: float, zero: int):
    """The real numbers ``scale * (value - zero)`` that int8 values stand for."""
    return scale * (value - zero)
