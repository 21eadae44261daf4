"""Activation functions that consist of straight lines: clamps, and sums with clamps."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from coprune.compiler.expressions import Expression, Sum, UnsupportedError, View
from coprune.compiler.operators.call import Call
from coprune.compiler.operators.elementwise import add_terms, check_shapes, scale
from coprune.compiler.operators.windows import Naming


def lower_relu(call: Call) -> Expression:
    """relu: a clamp."""
    return _clamp(call, low=0.0)


def lower_relu6(call: Call) -> Expression:
    """relu6: a clamp."""
    return _clamp(call, low=0.0, high=6.0)


def lower_hardtanh(call: Call) -> Expression:
    """hardtanh: a clamp."""
    return _clamp(call, low=float(call["min_val"]), high=float(call["max_val"]))


def lower_clamp(call: Call) -> Expression:
    """clamp, clamp_min and clamp_max with numbers as bounds."""
    low, high = call.arguments.get("min"), call.arguments.get("max")
    if any(isinstance(bound, torch.Tensor | View | Sum) for bound in (low, high)):
        raise UnsupportedError("its bounds must be numbers")
    return _clamp(
        call,
        low=-math.inf if low is None else float(low),
        high=math.inf if high is None else float(high),
    )


def lower_hardsigmoid(call: Call) -> Expression:
    """hardsigmoid: ``x / 6 + 1 / 2`` between 0 and 1."""
    return scale(call, "self", factor=1 / 6, offset=0.5).clamped(low=0.0, high=1.0)


def lower_leaky_relu(call: Call) -> Expression:
    """leaky_relu: ``slope * x + (1 - slope) * relu(x)``."""
    return _bend(call, torch.tensor(float(call["negative_slope"]), dtype=torch.float64))


def lower_prelu(call: Call) -> Expression:
    """prelu: leaky_relu with a slope for each channel."""
    return _bend(call, call.parameter("weight"))


def lower_absolute(call: Call) -> Expression:
    """abs: ``2 * relu(x) - x``."""
    return _bend(call, torch.tensor(-1.0, dtype=torch.float64))


def lower_maximum(call: Call) -> Expression:
    """maximum of two activations: ``a + relu(b - a)``."""
    return _choose(call, sign=1.0)


def lower_minimum(call: Call) -> Expression:
    """minimum of two activations: ``a - relu(a - b)``."""
    return _choose(call, sign=-1.0)


def _clamp(call: Call, *, low: float, high: float = math.inf) -> Sum:
    value = call.expression(call.operand)
    if isinstance(value, View):
        copied = call.builder.copy(value, name=call.name)
        value = replace(copied, operation=call.operation.rstrip("_"))
    return value.clamped(low=low, high=high)


def _bend(call: Call, slope: torch.Tensor) -> Sum:
    """A line with `slope` left of 0, and the identity right of it."""
    value, _ = call.image("self")
    channels = value.shape[0]
    slope = slope.reshape(-1)
    if len(slope) not in (1, channels):
        raise UnsupportedError(f"it must have 1 or {channels} slopes, not {len(slope)}")
    slope = slope.expand(channels)
    zeros = torch.zeros(channels, dtype=torch.float64)
    view = call.builder.store(value, name=f"{call.name}.input")
    copied = call.builder.copy(view, name=call.name)
    positive = call.builder.store(
        replace(copied, operation="relu").clamped(low=0.0, high=math.inf), name=call.name
    )
    positive = call.builder.copy(positive, name=call.name)
    terms = [copied.scaled(slope, offset=zeros), positive.scaled(1 - slope, offset=zeros)]
    naming = Naming(call.name, call.operation.rstrip("_"))
    return add_terms(terms, naming=naming, builder=call.builder)


def _choose(call: Call, *, sign: float) -> Sum:
    """The first operand, plus `sign` times what the second one exceeds it by in that direction."""
    names = ("self", "other")
    if any(not isinstance(call[name], View | Sum) for name in names):
        raise UnsupportedError("both operands must be computed from the input; for numbers: clamp")
    views = [call.builder.store(call[name], name=f"{call.name}.input") for name in names]
    check_shapes(call, views)
    first, second = (call.builder.copy(view, name=call.name) for view in views)
    zeros = torch.zeros(views[0].shape[0], dtype=torch.float64)
    signs = torch.full_like(zeros, sign)
    naming = Naming(call.name, call.operation)
    difference = add_terms(
        [second.scaled(signs, offset=zeros), first.scaled(-signs, offset=zeros)],
        naming=naming,
        builder=call.builder,
    )
    excess = call.builder.store(difference.clamped(low=0.0, high=math.inf), name=call.name)
    excess = call.builder.copy(excess, name=call.name).scaled(signs, offset=zeros)
    return add_terms([first, excess], naming=naming, builder=call.builder)
