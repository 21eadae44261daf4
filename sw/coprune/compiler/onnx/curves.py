"""ONNX's functions of single numbers, which take a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F

from coprune.compiler.expressions import Expression, UnsupportedError
from coprune.compiler.float_graph import Function
from coprune.compiler.operators.curves import apply

from .call import OnnxCall


def curve(operation: str, **settings: Any) -> Callable[[OnnxCall], Expression]:
    """A function that is an operator of PyTorch with these settings."""
    return lambda call: call.lower(operation, self=call.expression(0), **settings)


def map_gelu(call: OnnxCall) -> Expression:
    """Gelu, exact or by tanh."""
    approximate = call.attribute("approximate", "none")
    return call.lower("gelu", self=call.expression(0), approximate=approximate)


def map_elu(call: OnnxCall) -> Expression:
    """Elu."""
    return call.lower("elu", self=call.expression(0), alpha=call.attribute("alpha", 1.0))


def map_selu(call: OnnxCall) -> Expression:
    """Selu, whose two constants the node may set."""
    alpha = call.attribute("alpha", 1.67326319217681884765625)
    scale = call.attribute("gamma", 1.05070102214813232421875)
    return call.lower("elu", self=call.expression(0), alpha=alpha, scale=scale)


def map_celu(call: OnnxCall) -> Expression:
    """Celu."""
    return call.lower("celu", self=call.expression(0), alpha=call.attribute("alpha", 1.0))


def map_softsign(call: OnnxCall) -> Expression:
    """Softsign, which PyTorch spells out as a quotient."""
    function = Function("softsign", F.softsign)
    return apply(function, call.expression(0), name=call.name, builder=call.builder)


def map_thresholded_relu(call: OnnxCall) -> Expression:
    """ThresholdedRelu: 0 up to alpha."""
    threshold = call.attribute("alpha", 1.0)
    return call.lower("threshold", self=call.expression(0), threshold=threshold, value=0.0)


def map_shrink(call: OnnxCall) -> Expression:
    """Shrink: 0 around 0, and the rest as it is or moved to meet it."""
    width, bias = call.attribute("lambd", 0.5), call.attribute("bias", 0.0)
    if bias not in (0.0, width):
        raise UnsupportedError(f"its bias must be 0 or lambd, which is {width}, not {bias}")
    operation = "softshrink" if bias else "hardshrink"
    return call.lower(operation, self=call.expression(0), lambd=width)


def map_power(call: OnnxCall) -> Expression:
    """Pow with a number as exponent, or as base."""
    return call.lower("pow", self=call.value(0), exponent=call.value(1))


CURVES: dict[str, Callable[[OnnxCall], Expression]] = {
    "Sigmoid": curve("sigmoid"),
    "Tanh": curve("tanh"),
    "HardSwish": curve("hardswish"),
    "Gelu": map_gelu,
    "Mish": curve("mish"),
    "Elu": map_elu,
    "Selu": map_selu,
    "Celu": map_celu,
    "Softplus": curve("softplus"),
    "Softsign": map_softsign,
    "ThresholdedRelu": map_thresholded_relu,
    "Shrink": map_shrink,
    "Exp": curve("exp"),
    "Log": curve("log"),
    "Erf": curve("erf"),
    "Sqrt": curve("sqrt"),
    "Reciprocal": curve("reciprocal"),
    "Sin": curve("sin"),
    "Cos": curve("cos"),
    "Atan": curve("atan"),
    "Pow": map_power,
}
