"""Functions of single numbers that take a table in the drain."""

from __future__ import annotations

from dataclasses import replace

import torch

from coprune.compiler.expressions import Expression, Sum, View
from coprune.compiler.float_graph import Function
from coprune.compiler.operators.call import Call


def lower_curve(call: Call) -> Expression:
    """Any function of single numbers: PyTorch's own operator fills the table."""
    operation = call.operation.rstrip("_")
    settings = {name: value for name, value in call.arguments.items() if name != call.operand}
    operator = getattr(torch.ops.aten, operation)
    function = Function(operation, lambda values: operator(values, **settings))
    return apply(call, call.expression(call.operand), function)


def apply(call: Call, value: Expression, function: Function) -> Sum:
    """Return a function of an expression; it joins the layer of an open sum."""
    if isinstance(value, View):
        copied = call.builder.copy(value, name=call.name)
        value = replace(copied, operation=function.name)
    return value.tabulated(function)


def multiply_by_function(call: Call, value: Expression, other: Expression) -> Sum | None:
    """Return ``x * f(x)`` as a function of x, where `other` is a function of `value`; else None."""
    if not isinstance(value, View) or not isinstance(other, Sum) or other.function is None:
        return None
    alone = call.builder.copy(value, name=call.name)
    (source, *more), (own,) = other.sources, alone.sources
    is_same = (
        not more
        and source.tensor is own.tensor
        and torch.equal(source.weight, own.weight)
        and (source.stride, source.padding) == (own.stride, own.padding)
        and replace(other, function=None).linear
        and not other.bias.any()
    )
    if not is_same:
        return None
    factor = other.function
    product = Function(f"x {factor.name}", lambda values: values * factor.evaluate(values))
    return replace(other, function=product)
