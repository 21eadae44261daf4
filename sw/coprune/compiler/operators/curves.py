"""Functions of single numbers that take a table in the drain."""

from __future__ import annotations

from dataclasses import replace

import torch

from coprune.compiler.expressions import Expression, GraphBuilder, Sum, UnsupportedError, View
from coprune.compiler.float_graph import Function
from coprune.compiler.operators.call import Call


def lower_curve(call: Call) -> Expression:
    """Any function of single numbers: PyTorch's own operator fills the table."""
    operation = call.operation.rstrip("_")
    settings = {name: value for name, value in call.arguments.items() if name != call.operand}
    operator = getattr(torch.ops.aten, operation)
    function = Function(operation, lambda values: operator(values, **settings))
    return apply(function, call.expression(call.operand), name=call.name, builder=call.builder)


def lower_power(call: Call) -> Expression:
    """pow: of an activation with a number as exponent, or of a number as base."""
    base, exponent = call["self"], call["exponent"]
    if isinstance(base, View | Sum):
        number = _number(exponent, what="exponent")
        function = Function("pow", lambda values: values**number)
        return apply(function, base, name=call.name, builder=call.builder)
    number = _number(base, what="base")
    function = Function("pow", lambda values: number**values)
    return apply(function, call.expression("exponent"), name=call.name, builder=call.builder)


def apply(function: Function, value: Expression, *, name: str, builder: GraphBuilder) -> Sum:
    """Return a function of an expression; it joins the layer of an open sum.

    Parameters
    ----------
    function : Function
    value : Expression
    name : str
        Of the layer that it takes where `value` is a view.
    builder : GraphBuilder
    """
    if isinstance(value, View):
        value = replace(builder.copy(value, name=name), operation=function.name)
    return value.tabulated(function)


def multiply_functions(call: Call, first: Expression, second: Expression) -> Sum | None:
    """Return the product of two functions of one image x, or None if they are of different ones.

    Parameters
    ----------
    call : Call
    first, second : Expression
        x itself, or a sum ``a x + b``, perhaps under a clamp and a function, with one factor a and
        one offset b for all channels: ``x * sigmoid(x)``, ``x * relu6(x + 3) / 6``, ``x * x``.

    Returns
    -------
    Sum or None
        A function of x alone.
    """
    if first is second:
        first = second = call.builder.store(first, name=call.name)
    factors = [
        call.builder.copy(value, name=call.name) if isinstance(value, View) else value
        for value in (first, second)
    ]
    if any(len(factor.sources) > 1 for factor in factors):
        return None
    (source,) = factors[0].sources
    ones = (source.weight != 0).to(torch.float64)
    image = Sum(
        name=call.name,
        operation=call.operation.rstrip("_"),
        shape=factors[0].shape,
        sources=(replace(source, weight=ones),),
        bias=torch.zeros(len(ones), dtype=torch.float64),
    )
    one, other = (_function_of(image, factor) for factor in factors)
    if one is None or other is None:
        return None
    name = f"{one.name} times {other.name}"
    product = Function(name, lambda values: one.evaluate(values) * other.evaluate(values))
    return image.tabulated(product)


def _function_of(image: Sum, factor: Sum) -> Function | None:
    """A sum as a function of another one: a line, its clamp, and the function that follows."""
    (source,), (own,) = factor.sources, image.sources
    if factor.maximum or source.weight.shape != own.weight.shape or not own.weight.any():
        return None
    slope, offset = float(source.weight[own.weight != 0][0]), float(factor.bias[0])
    is_line = (
        source.tensor == own.tensor
        and (source.groups, source.stride) == (own.groups, own.stride)
        and (source.padding, source.dilation) == (own.padding, own.dilation)
        and source.input_dilation == own.input_dilation
        and torch.equal(source.weight, slope * own.weight)
        and bool((factor.bias == offset).all())
    )
    if not is_line:
        return None
    line = Function("x", lambda values: (slope * values + offset).clamp(factor.low, factor.high))
    return line if factor.function is None else factor.function.after(line)


def _number(value: float | torch.Tensor | Expression, *, what: str) -> float:
    if isinstance(value, View | Sum):
        raise UnsupportedError(f"its {what} must be a number, not another activation")
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise UnsupportedError(
                f"its {what} must be one number, not of shape {list(value.shape)}"
            )
        value = value.item()
    return float(value)
