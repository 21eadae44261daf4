"""One lowering for every supported operator of an exported network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from coprune.compiler.expressions import (
    Expression,
    GraphBuilder,
    Sum,
    UnsupportedError,
    View,
    common_stride,
    copy,
)
from coprune.compiler.float_graph import FloatSource


@dataclass(frozen=True)
class Call:
    """One use of an operator.

    Parameters
    ----------
    operation, name : str
        The operator without namespace and overload, and the name of this use of it.
    arguments : dict of str
        By the operator's own parameter names, defaults included. Activations are expressions,
        parameters float64 tensors.
    shape, operand_shape : tuple of int
        Of the result and of the first operand, without the batch axis.
    builder : GraphBuilder
    """

    operation: str
    name: str
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    operand_shape: tuple[int, ...]
    builder: GraphBuilder

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def stored(self, argument: str) -> View:
        """Return an operand as a view, stored if it was an open sum."""
        value = self.expression(argument)
        return value if isinstance(value, View) else self.builder.store(value, name=self.name)

    def expression(self, argument: str) -> Expression:
        """Return an operand that must be an activation."""
        value = self.arguments[argument]
        if not isinstance(value, View | Sum):
            raise UnsupportedError(f"operand {argument!r} must be computed from the input")
        return value


Lowering = Callable[[Call], Expression]

IN_PLACE = frozenset({"relu_", "relu6_", "hardtanh_", "clamp_", "add_", "dropout_"})
"""Operators that overwrite their first operand."""
ALIASING = frozenset(
    {"view", "reshape", "flatten", "slice", "dropout", "dropout_", "feature_dropout", "contiguous"}
)
"""Operators whose result may share memory with their first operand."""


def lower_convolution(call: Call) -> Expression:
    """conv2d. Zeros around its input become part of its own padding."""
    weight = _parameter(call, "weight")
    return _convolve(
        call,
        call.stored("input"),
        weight,
        bias=_optional_parameter(call, "bias", outputs=len(weight)),
        groups=call["groups"],
        stride=_pair(call["stride"]),
        padding=_convolution_padding(call, kernel=weight.shape[2:]),
        dilation=_pair(call["dilation"]),
    )


def lower_linear(call: Call) -> Expression:
    """linear: a convolution whose kernel covers the whole image."""
    if len(call.operand_shape) != 1:
        raise UnsupportedError(f"its operand must be flat, not of shape {call.operand_shape}")
    view = call.builder.store(call.expression("input"), name=f"{call.name}.input")
    weight = _parameter(call, "weight")
    return _convolve(
        call,
        view,
        weight.reshape(len(weight), *view.shape),
        bias=_optional_parameter(call, "bias", outputs=len(weight)),
    )


def lower_batch_norm(call: Call) -> Expression:
    """batch_norm: scales and shifts the sum before it, or is a depthwise 1x1 convolution."""
    if call["training"]:
        raise ValueError(f"{call.name} was exported in training mode: call eval() before export")
    mean, variance = _parameter(call, "running_mean"), _parameter(call, "running_var")
    weight = call["weight"] if call["weight"] is not None else torch.ones_like(mean)
    factor = weight / torch.sqrt(variance + call["eps"])
    offset = _optional_parameter(call, "bias", outputs=len(mean)) - mean * factor
    value = call.expression("input")
    if value.shape[0] != len(mean):
        raise UnsupportedError("it must normalize channels")
    if isinstance(value, Sum) and value.linear:
        return value.scaled(factor, offset=offset)
    source = copy(call.stored("input"), name=call.name)
    return replace(source, operation=call.operation).scaled(factor, offset=offset)


def lower_relu(call: Call) -> Expression:
    """relu: a clamp."""
    return _clamp(call, "self" if "self" in call.arguments else "input", low=0.0)


def lower_relu6(call: Call) -> Expression:
    """relu6: a clamp."""
    return _clamp(call, "self", low=0.0, high=6.0)


def lower_hardtanh(call: Call) -> Expression:
    """hardtanh: a clamp."""
    return _clamp(call, "self", low=float(call["min_val"]), high=float(call["max_val"]))


def lower_clamp(call: Call) -> Expression:
    """clamp with numbers as bounds."""
    low, high = call["min"], call["max"]
    return _clamp(
        call,
        "self",
        low=-math.inf if low is None else float(low),
        high=math.inf if high is None else float(high),
    )


def lower_add(call: Call) -> Expression:
    """add: the sources of both operands in one sum."""
    if call["alpha"] != 1:
        raise UnsupportedError(f"alpha must be 1, not {call['alpha']}")
    operands = [call.expression("self"), call.expression("other")]
    if operands[0].shape != operands[1].shape:
        shapes = " and ".join(str(operand.shape) for operand in operands)
        raise UnsupportedError(f"operands must have the same shape, not {shapes}")
    terms = []
    for argument, operand in zip(("self", "other"), operands, strict=True):
        if isinstance(operand, Sum) and operand.linear:
            terms.append(operand)
        else:
            terms.append(copy(call.stored(argument), name=call.name))
    convolutions = [term for term in terms if term.operation != "copy"]
    main = max(convolutions, key=_weights, default=None)
    return Sum(
        name=call.name if main is None else main.name,
        operation=call.operation.rstrip("_") if main is None else main.operation,
        shape=operands[0].shape,
        sources=terms[0].sources + terms[1].sources,
        bias=terms[0].bias + terms[1].bias,
    )


def lower_mean(call: Call) -> Expression:
    """mean over rows and columns: a depthwise convolution with one weight."""
    axes = {axis % (len(call.operand_shape) + 1) for axis in call["dim"] or ()}
    if len(call.operand_shape) != 3 or axes != {2, 3}:
        raise UnsupportedError(f"dim must be rows and columns, (2, 3), not {call['dim']}")
    return _average(call, kernel=call.expression("self").shape[1:])


def lower_adaptive_average_pool(call: Call) -> Expression:
    """adaptive_avg_pool2d to a size that divides the image."""
    image = call.expression("self").shape[1:]
    if any(size % output for size, output in zip(image, call.shape[1:], strict=True)):
        raise UnsupportedError(f"output size {call.shape[1:]} must divide the image's {image}")
    kernel = tuple(size // output for size, output in zip(image, call.shape[1:], strict=True))
    return _average(call, kernel=kernel, stride=kernel)


def lower_average_pool(call: Call) -> Expression:
    """avg_pool2d that counts its padding, if it has any."""
    kernel, padding = _pair(call["kernel_size"]), _pair(call["padding"])
    if any(padding) and not call["count_include_pad"]:
        raise UnsupportedError("count_include_pad must be True where there is padding")
    if call["ceil_mode"]:
        raise UnsupportedError("ceil_mode must be False")
    return _average(
        call,
        kernel=kernel,
        stride=_pair(call["stride"] or kernel),
        padding=padding,
        divisor=call["divisor_override"],
    )


def lower_max_pool(call: Call) -> Expression:
    """max_pool2d: the maximum of products with weight 1."""
    kernel = _pair(call["kernel_size"])
    view = call.builder.store(call.expression("self"), name=f"{call.name}.input")
    result = _convolve(
        call,
        view,
        torch.ones(view.shape[0], 1, *kernel, dtype=torch.float64),
        groups=view.shape[0],
        stride=_pair(call["stride"] or kernel),
        padding=_pair(call["padding"]),
        dilation=_pair(call["dilation"]),
    )
    return replace(result, maximum=True)


def lower_reshape(call: Call) -> Expression:
    """view, reshape or flatten that keeps the order of the values and the image."""
    value = call.expression("self")
    channels, height, width = value.shape
    trailing_ones = all(size == 1 for size in call.shape[1:])
    if call.shape == value.shape or (trailing_ones and call.shape[0] == channels * height * width):
        return value
    raise UnsupportedError(f"it must flatten the image {value.shape}, not make {call.shape} of it")


def lower_slice(call: Call) -> Expression:
    """slice: channels, or every n-th pixel of an image from the first one on."""
    axis = call["dim"] % (len(call.operand_shape) + 1)
    value = call.expression("self")
    if call.shape == call.operand_shape:
        return value
    view = call.stored("self")
    step = call["step"]
    if axis == 0 or call.operand_shape[0] != view.shape[0]:
        raise UnsupportedError("it must slice channels, rows or columns of an image")
    if axis == 1:
        return replace(view, channels=view.channels[call["start"] : call["end"] : step])
    if call["start"]:
        raise UnsupportedError(f"rows and columns must be taken from 0 on, not {call['start']}")
    if view.padded:
        view = call.builder.store(view, name=f"{call.name}.input")
    if axis == 2:
        stride = (view.stride[0] * step, view.stride[1])
        return replace(view, height=call.shape[1], stride=stride)
    stride = (view.stride[0], view.stride[1] * step)
    return replace(view, width=call.shape[2], stride=stride)


def lower_pad(call: Call) -> Expression:
    """pad with zeros: channels that read as zero, rows and columns around the image."""
    if call.arguments.get("mode", "constant") != "constant" or call["value"]:
        raise UnsupportedError("it must pad with the constant 0")
    padding = [*call["pad"], 0, 0, 0, 0, 0, 0]
    left, right, above, below, front, back, *batch = padding[:8]
    if len(call.operand_shape) != 3 or any(batch) or min(padding) < 0:
        raise UnsupportedError("it must pad channels, rows and columns of an image, not crop")
    view = call.stored("self")
    if any((left, right, above, below)) and not view.uncropped:
        view = call.builder.store(view, name=f"{call.name}.input")
    around = (above, below, left, right)
    return replace(
        view,
        channels=(None,) * front + view.channels + (None,) * back,
        height=call.shape[1],
        width=call.shape[2],
        padding=tuple(old + more for old, more in zip(view.padding, around, strict=True)),
    )


def lower_concatenation(call: Call) -> Expression:
    """cat of channels: one source for each operand, with zeros in the others' channels."""
    if call["dim"] % (len(call.shape) + 1) != 1:
        raise UnsupportedError(f"dim must be channels, 1, not {call['dim']}")
    operands = [call.builder.store(value, name=f"{call.name}.input") for value in call["tensors"]]
    if any(view.shape[1:] != operands[0].shape[1:] for view in operands):
        raise UnsupportedError("operands must be images of the same size")
    outputs = sum(view.shape[0] for view in operands)
    sources, first = (), 0
    for view in operands:
        front, back = (None,) * first, (None,) * (outputs - first - view.shape[0])
        padded = replace(view, channels=front + view.channels + back)
        sources += copy(padded, name=call.name).sources
        first += view.shape[0]
    return Sum(
        name=call.name,
        operation=call.operation,
        shape=(outputs, *operands[0].shape[1:]),
        sources=sources,
        bias=torch.zeros(outputs, dtype=torch.float64),
    )


def lower_dropout(call: Call) -> Expression:
    """Dropout does nothing in evaluation mode."""
    if call["train"] and call["p"]:
        raise ValueError(f"{call.name} was exported in training mode: call eval() before export")
    return call.expression("input" if "input" in call.arguments else "self")


def lower_unchanged(call: Call) -> Expression:
    """An operator that does not change values."""
    return call.expression("self")


LOWERINGS: dict[str, Lowering] = {
    "conv2d": lower_convolution,
    "linear": lower_linear,
    "batch_norm": lower_batch_norm,
    "relu": lower_relu,
    "relu_": lower_relu,
    "relu6": lower_relu6,
    "relu6_": lower_relu6,
    "hardtanh": lower_hardtanh,
    "hardtanh_": lower_hardtanh,
    "clamp": lower_clamp,
    "clamp_": lower_clamp,
    "add": lower_add,
    "add_": lower_add,
    "mean": lower_mean,
    "adaptive_avg_pool2d": lower_adaptive_average_pool,
    "avg_pool2d": lower_average_pool,
    "max_pool2d": lower_max_pool,
    "flatten": lower_reshape,
    "view": lower_reshape,
    "reshape": lower_reshape,
    "slice": lower_slice,
    "pad": lower_pad,
    "constant_pad_nd": lower_pad,
    "cat": lower_concatenation,
    "dropout": lower_dropout,
    "dropout_": lower_dropout,
    "feature_dropout": lower_dropout,
    "contiguous": lower_unchanged,
    "clone": lower_unchanged,
    "detach": lower_unchanged,
}
"""The supported operators, by name without namespace and overload."""


def _convolve(
    call: Call,
    view: View,
    weight: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    groups: int = 1,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Sum:
    if not view.contiguous:
        view = call.builder.store(view, name=f"{call.name}.input")
    outputs, (height, width) = len(weight), (*call.shape, 1, 1)[1:3]
    source = FloatSource(
        name=call.name,
        operation=call.operation,
        tensor=view.tensor,
        weight=weight,
        groups=groups,
        stride=common_stride(stride, output=(height, width)),
        padding=(padding[0] + view.padding[0], padding[1] + view.padding[2]),
        dilation=tuple(dilation),
        diagonal=groups == outputs == view.tensor.channels,
    )
    return Sum(
        name=call.name,
        operation=call.operation,
        shape=(outputs, height, width),
        sources=(source,),
        bias=torch.zeros(outputs, dtype=torch.float64) if bias is None else bias,
    )


def _average(
    call: Call,
    *,
    kernel: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    divisor: int | None = None,
) -> Sum:
    view = call.stored("self")
    channels = view.shape[0]
    value = 1.0 / (divisor or math.prod(kernel))
    weight = torch.full((channels, 1, *kernel), value, dtype=torch.float64)
    return _convolve(call, view, weight, groups=channels, stride=stride, padding=padding)


def _clamp(call: Call, operand: str, *, low: float, high: float = math.inf) -> Sum:
    value = call.expression(operand)
    if isinstance(value, View):
        value = replace(copy(value, name=call.name), operation=call.operation.rstrip("_"))
    return value.clamped(low=low, high=high)


def _convolution_padding(call: Call, *, kernel: Sequence[int]) -> tuple[int, int]:
    padding = call["padding"]
    if padding == "valid":
        return (0, 0)
    if padding == "same":
        # An odd remainder goes below and to the right, where the output's size accounts for it.
        dilation = _pair(call["dilation"])
        return tuple(step * (size - 1) // 2 for step, size in zip(dilation, kernel, strict=True))
    return _pair(padding)


def _parameter(call: Call, argument: str) -> torch.Tensor:
    value = call[argument]
    if not isinstance(value, torch.Tensor):
        raise UnsupportedError(f"{argument} must be a parameter of the network")
    return value


def _optional_parameter(call: Call, argument: str, *, outputs: int) -> torch.Tensor:
    if call[argument] is None:
        return torch.zeros(outputs, dtype=torch.float64)
    return _parameter(call, argument)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[0]) if len(value) == 1 else tuple(value)


def _weights(term: Sum) -> int:
    return sum(source.weight.numel() for source in term.sources)
