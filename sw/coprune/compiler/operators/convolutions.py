"""Convolutions, linear layers and products with a parameter."""

from __future__ import annotations

import torch

from coprune.compiler.expressions import Expression, UnsupportedError, View
from coprune.compiler.operators.call import Call, Layout
from coprune.compiler.operators.windows import Naming, convolve, spread


def lower_convolution(call: Call) -> Expression:
    """conv1d, conv2d. Zeros around the input become part of the convolution's own padding."""
    value, layout, weight = _operands(call)
    dilation = layout.pair(call["dilation"], single=1)
    return convolve(
        _view(call, value),
        weight,
        naming=Naming(call.name, call.operation),
        builder=call.builder,
        size=_size(call, layout),
        bias=call.optional_parameter("bias", outputs=len(weight)),
        groups=call["groups"],
        stride=layout.pair(call["stride"], single=1),
        padding=_padding(call, layout, kernel=weight.shape[2:], dilation=dilation),
        dilation=dilation,
    )


def lower_transposed_convolution(call: Call) -> Expression:
    """conv_transpose1d, conv_transpose2d: a convolution with its kernel reversed.

    It reads an image with zeros between its pixels. The stride of a single row or column does not
    matter.
    """
    value, layout, weight = _operands(call)
    stride = layout.pair(call["stride"], single=1)
    used = {step for step, size in zip(stride, value.shape[1:], strict=True) if size > 1} or {1}
    if used not in ({1}, {2}, {4}):
        raise UnsupportedError(f"strides must be equal and 1, 2 or 4, not {call['stride']}")
    input_dilation = used.pop()
    groups = call["groups"]
    inputs, outputs = len(weight), weight.shape[1] * groups
    kernel = tuple(weight.shape[2:])
    grouped = weight.reshape(groups, inputs // groups, weight.shape[1], *kernel)
    weight = grouped.transpose(1, 2).reshape(outputs, inputs // groups, *kernel).flip(2, 3)
    padding = layout.pair(call["padding"], single=0)
    dilation = layout.pair(call["dilation"], single=1)
    reach = [step * (taps - 1) for step, taps in zip(dilation, kernel, strict=True)]
    view = _view(call, value)
    if input_dilation == 4:
        # The machine writes to every second place: zeros in between first, then once more.
        view = spread(view, name=f"{call.name}.input", builder=call.builder)
        input_dilation = 2
    return convolve(
        view,
        weight,
        naming=Naming(call.name, call.operation),
        builder=call.builder,
        size=_size(call, layout),
        bias=call.optional_parameter("bias", outputs=outputs),
        groups=groups,
        padding=(reach[0] - padding[0], reach[1] - padding[1]),
        dilation=dilation,
        input_dilation=input_dilation,
    )


def lower_linear(call: Call) -> Expression:
    """linear: a convolution whose kernel covers the whole image."""
    weight = call.parameter("weight")
    bias = call.optional_parameter("bias", outputs=len(weight))
    return _multiply(call, call.operand, weight, bias)


def lower_product(call: Call) -> Expression:
    """matmul, mm and addmm: an activation times a parameter."""
    if call.operation == "addmm":
        if call["alpha"] != 1 or call["beta"] != 1:
            raise UnsupportedError("alpha and beta must be 1")
        weight = call.parameter("mat2").T
        bias = call.parameter("self").expand(len(weight))
        return _multiply(call, "mat1", weight, bias)
    second = "mat2" if call.operation == "mm" else "other"
    weight = call.parameter(second)
    if weight.dim() != 2:
        raise UnsupportedError(f"{second} must be a matrix, not of shape {tuple(weight.shape)}")
    zeros = torch.zeros(weight.shape[1], dtype=torch.float64)
    return _multiply(call, "self", weight.T, zeros)


def _multiply(call: Call, operand: str, weight: torch.Tensor, bias: torch.Tensor) -> Expression:
    if len(call.operand_shape) != 1:
        raise UnsupportedError(
            f"its operand must be flat, not of shape {call.operand_shape}: over the channels of "
            "an image use a convolution with kernel 1"
        )
    view = call.builder.store(call.expression(operand), name=f"{call.name}.input")
    return convolve(
        view,
        weight.reshape(len(weight), *view.shape),
        naming=Naming(call.name, call.operation),
        builder=call.builder,
        size=(1, 1),
        bias=bias,
    )


def _operands(call: Call) -> tuple[Expression, Layout, torch.Tensor]:
    """Activation, its layout, and the weight with a kernel of rows and columns."""
    weight = call.parameter("weight")
    value, layout = call.image("input")
    if weight.dim() == 3:
        weight = weight.unsqueeze(2 if layout.rows is None else 3)
    if len(layout.channels) != 1:
        raise UnsupportedError(f"its operand must be an image, not of shape {call.operand_shape}")
    return value, layout, weight


def _view(call: Call, value: Expression) -> View:
    return value if isinstance(value, View) else call.builder.store(value, name=call.name)


def _size(call: Call, layout: Layout) -> tuple[int, int]:
    return layout.pair(call.shape[1:], single=1)


def _padding(
    call: Call, layout: Layout, *, kernel: tuple[int, ...], dilation: tuple[int, int]
) -> tuple[int, int]:
    padding = call["padding"]
    if padding == "valid":
        return (0, 0)
    if padding == "same":
        # An odd remainder goes below and to the right, where the output's size accounts for it.
        return tuple(step * (size - 1) // 2 for step, size in zip(dilation, kernel, strict=True))
    return layout.pair(padding, single=0)
