"""Arithmetic on every value: sums of tensors, factors and offsets per channel, batch norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from coprune.compiler.expressions import Expression, GraphBuilder, Sum, UnsupportedError, View
from coprune.compiler.float_graph import JOINS, FloatSource, Function
from coprune.compiler.operators.call import Call, Layout
from coprune.compiler.operators.curves import multiply_functions
from coprune.compiler.operators.windows import Naming
from coprune_sim.reference import window_padding


def lower_add(call: Call) -> Expression:
    """add: the sources of both operands in one sum, or an offset per channel."""
    return _combine(call, factors=(1.0, float(call["alpha"])))


def lower_subtract(call: Call) -> Expression:
    """sub: as add, with the second operand's weights negated."""
    return _combine(call, factors=(1.0, -float(call["alpha"])))


def lower_reverse_subtract(call: Call) -> Expression:
    """rsub: a number minus an activation."""
    return _combine(call, factors=(-float(call["alpha"]), 1.0))


def lower_multiply(call: Call) -> Expression:
    """mul by a number or by a parameter of one value per channel; x * f(x) takes a table."""
    if all(isinstance(call[name], View | Sum) for name in ("self", "other")):
        product = multiply_functions(call, call["self"], call["other"])
        if product is not None:
            return product
        raise UnsupportedError(
            "one of its operands must be a number, a parameter or a function of the other one: the "
            "accelerator has no product of two activations"
        )
    operand, constant = _operand_and_constant(call)
    return scale(call, operand, factor=call[constant])


def lower_divide(call: Call) -> Expression:
    """div by a number or by a parameter of one value per channel."""
    if call.arguments.get("rounding_mode") is not None:
        raise UnsupportedError("rounding_mode must be None")
    if isinstance(call["other"], View | Sum):
        raise UnsupportedError("it must divide by a number or a parameter")
    return scale(call, "self", factor=1.0 / torch.as_tensor(call["other"], dtype=torch.float64))


def lower_negate(call: Call) -> Expression:
    """neg: weights negated."""
    return scale(call, "self", factor=-1.0)


def lower_batch_norm(call: Call) -> Expression:
    """batch_norm: scales and shifts the sum before it, or is a depthwise 1x1 convolution."""
    if call["training"]:
        raise ValueError(f"{call.name} was exported in training mode: call eval() before export")
    mean, variance = call.parameter("running_mean"), call.parameter("running_var")
    weight = call["weight"] if call["weight"] is not None else torch.ones_like(mean)
    factor = weight / torch.sqrt(variance + call["eps"])
    offset = call.optional_parameter("bias", outputs=len(mean)) - mean * factor
    value, _ = call.image("input")
    if value.shape[0] != len(mean):
        raise UnsupportedError("it must normalize channels")
    return _scaled(call, value, factor, offset)


def scale(
    call: Call,
    operand: str,
    *,
    factor: torch.Tensor | float = 1.0,
    offset: torch.Tensor | float = 0.0,
) -> Expression:
    """Return ``factor * operand + offset``, each a number or a parameter that spreads to channels.

    Raises
    ------
    UnsupportedError
        A parameter differs from pixel to pixel.
    """
    value, layout = call.image(operand)
    return _scaled(
        call,
        value,
        _per_channel(factor, layout=layout, image=value.shape),
        _per_channel(offset, layout=layout, image=value.shape),
    )


def add_terms(values: Sequence[Expression], *, naming: Naming, builder: GraphBuilder) -> Sum:
    """Return the sum of values of equal shape as one open sum.

    The convolutions before an addition join it. One that cannot share a layer with the others gets
    its own: because it reads an image of another size, or because its zeros around differ.

    Parameters
    ----------
    values : sequence of Expression
    naming : Naming
        Of the sum, unless a convolution joins it that gives it its name.
    builder : GraphBuilder
    """

    def stored(value: Expression) -> Sum:
        return builder.copy(builder.store(value, name=naming.name), name=naming.name)

    terms = []
    for value in values:
        if isinstance(value, Sum):
            terms.append(value if value.linear else stored(value))
        else:
            terms.append(builder.copy(value, name=naming.name))
    main = max(terms, key=_weights)
    if not _share_layer(terms):
        terms = [term if term is main else stored(term) for term in terms]
    if not _share_layer(terms):
        terms = [stored(term) if term is main else term for term in terms]
    convolutions = [term for term in terms if term.operation not in {"copy", *JOINS}]
    main = max(convolutions, key=_weights, default=None)
    return Sum(
        name=naming.name if main is None else main.name,
        operation=naming.operation if main is None else main.operation,
        shape=terms[0].shape,
        sources=tuple(source for term in terms for source in term.sources),
        bias=sum(term.bias for term in terms),
    )


def check_shapes(call: Call, values: Sequence[Expression]) -> None:
    """Refuse operands that would have to be spread over rows and columns.

    Raises
    ------
    UnsupportedError
    """
    shapes = {value.shape for value in values}
    if len(shapes) > 1 or math.prod(call.shape) != math.prod(values[0].shape):
        listed = " and ".join(str(value.shape) for value in values)
        raise UnsupportedError(f"operands must have the same shape, not {listed}")


def _combine(call: Call, *, factors: tuple[float, float]) -> Expression:
    names = ("self", "other")
    if not all(isinstance(call[name], View | Sum) for name in names):
        operand, constant = _operand_and_constant(call)
        factor = dict(zip(names, factors, strict=True))
        offset = factor[constant] * torch.as_tensor(call[constant], dtype=torch.float64)
        return scale(call, operand, factor=factor[operand], offset=offset)
    values = [call.expression(name) for name in names]
    if len(call.shape) == 1 and values[0].shape != values[1].shape:
        values = [call.builder.flatten(value, name=f"{call.name}.input") for value in values]
    check_shapes(call, values)
    terms = []
    for value, factor in zip(values, factors, strict=True):
        if factor != 1.0:
            numbers = torch.full((value.shape[0],), factor, dtype=torch.float64)
            value = _scaled(call, value, numbers, torch.zeros_like(numbers))
        terms.append(value)
    naming = Naming(call.name, call.operation.rstrip("_"))
    return add_terms(terms, naming=naming, builder=call.builder)


def _scaled(
    call: Call, value: Expression, factor: torch.Tensor, offset: torch.Tensor
) -> Expression:
    if isinstance(value, Sum) and not value.linear and not value.maximum:
        joined = _scaled_alike(value, factor, offset)
        if joined is not None:
            return joined
    if not isinstance(value, Sum) or not value.linear:
        if isinstance(value, Sum):
            value = call.builder.store(value, name=call.name)
        value = call.builder.copy(value, name=call.name)
        value = replace(value, operation=call.operation.rstrip("_"))
    return value.scaled(factor, offset=offset)


def _scaled_alike(value: Sum, factor: torch.Tensor, offset: torch.Tensor) -> Sum | None:
    """What is clamped or a function, scaled alike in all channels; None where they differ."""
    slope, shift = float(factor[0]), float(offset[0])
    if not bool((factor == slope).all()) or not bool((offset == shift).all()) or slope == 0:
        return None
    if value.function is not None:
        return value.tabulated(Function("line", lambda values: slope * values + shift))
    low, high = sorted((slope * value.low + shift, slope * value.high + shift))
    return replace(value.scaled(factor, offset=offset), low=low, high=high)


def _operand_and_constant(call: Call) -> tuple[str, str]:
    """Names of the operand that is an activation, and of the other one."""
    if isinstance(call["self"], View | Sum):
        return "self", "other"
    call.expression("other")
    return "other", "self"


def _per_channel(
    constant: torch.Tensor | float, *, layout: Layout, image: tuple[int, int, int]
) -> torch.Tensor:
    """Spread a constant as broadcasting does, and return its value for each channel."""
    numbers = torch.as_tensor(constant, dtype=torch.float64)
    if not numbers.isfinite().all():
        raise UnsupportedError("a constant must be finite")
    if numbers.numel() == 1:
        return numbers.reshape(1).expand(image[0]).clone()
    spatial = (layout.rows is not None) + (layout.columns is not None)
    rank = 1 + len(layout.channels) + spatial
    shape = (1,) * (rank - numbers.dim()) + tuple(numbers.shape)
    channels = shape[1 : rank - spatial]
    spread = all(
        size in (1, own) for size, own in zip(channels, layout.channels, strict=False)
    ) and all(size == 1 for size in (shape[0], *shape[rank - spatial :]))
    if len(shape) > rank or not spread:
        raise UnsupportedError(
            f"a parameter must hold one value for each channel, not have the shape "
            f"{list(numbers.shape)} next to an image {image}"
        )
    return numbers.reshape(channels).expand(layout.channels).reshape(math.prod(layout.channels))


def _share_layer(terms: Sequence[Sum]) -> bool:
    """Their planes have one size, and zeros around are read of one tensor at most."""
    planes, padded = set(), set()
    for term in terms:
        for source in term.sources:
            tensor = source.tensor
            rows, columns = (-(-size // source.stride) for size in tensor.shape[1:])
            planes.add((rows, columns, source.input_dilation))
            if _reads_outside(source, output=term.shape[1:]):
                padded.add(tensor.name)
    return len(planes) == 1 and len(padded) <= 1


def _reads_outside(source: FloatSource, *, output: tuple[int, int]) -> bool:
    margins = window_padding(
        kernel=source.weight.shape[2:],
        stride=source.stride,
        padding=source.padding,
        dilation=source.dilation,
        image=source.image,
        output=output,
    )
    return max(margins) > 0


def _weights(term: Sum) -> int:
    return sum(source.weight.numel() for source in term.sources)
