"""One mapping for every supported ONNX operator to the lowerings of the PyTorch operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from onnx import helper

from coprune.compiler.expressions import Expression, UnsupportedError
from coprune.compiler.operators import ADVICE

from .call import OnnxCall
from .curves import CURVES
from .graph import FLOATS
from .upsampling import map_depth_to_space, map_resize
from .window import Window, from_last_axis, pad_unevenly

_ENDLESS = 2**31 - 1
"""The end of a slice that exporters write where they mean all the rest."""
Mapping = Callable[[OnnxCall], Expression | Sequence[Expression]]


def map_convolution(call: OnnxCall) -> Expression:
    """Conv along one or two axes."""
    weight = call.weight(1, outputs_axis=0)
    window = Window.of(call, kernel=weight.shape[2:])
    value, operand_shape, padding = pad_unevenly(call, window)
    return call.lower(
        f"conv{len(window.kernel)}d",
        operand_shape=operand_shape,
        input=value,
        weight=weight,
        bias=call.optional_parameter(2),
        groups=call.attribute("group", 1),
        stride=window.stride,
        padding=padding,
        dilation=window.dilation,
    )


def map_transposed_convolution(call: OnnxCall) -> Expression:
    """ConvTranspose along one or two axes; what its pads cut off at the end is in its shape."""
    groups = call.attribute("group", 1)
    weight = call.weight(1, outputs_axis=1, groups=groups)
    window = Window.of_transposed(call, kernel=weight.shape[2:])
    return call.lower(
        f"conv_transpose{len(window.kernel)}d",
        input=call.expression(0),
        weight=weight,
        bias=call.optional_parameter(2),
        groups=groups,
        stride=window.stride,
        padding=window.before,
        dilation=window.dilation,
    )


def map_gemm(call: OnnxCall) -> Expression:
    """Gemm with constant B and C."""
    if call.attribute("transA", 0):
        raise UnsupportedError("transA must be 0")
    transposed = bool(call.attribute("transB", 0))
    weight = call.weight(1, outputs_axis=0 if transposed else 1)
    weight = weight if transposed else weight.T
    bias = call.optional_parameter(2)
    if bias is not None:
        bias = (call.attribute("beta", 1.0) * bias).broadcast_to(1, len(weight)).reshape(-1)
    weight = weight * call.attribute("alpha", 1.0)
    return call.lower("linear", input=call.expression(0), weight=weight, bias=bias)


def map_matrix_product(call: OnnxCall) -> Expression:
    """MatMul with a constant matrix on the right."""
    weight = call.weight(1, outputs_axis=1)
    if weight.ndim != 2:
        raise UnsupportedError(f"its second operand must have 2 axes, not {weight.ndim}")
    return call.lower("linear", input=call.expression(0), weight=weight.T, bias=None)


def map_batch_norm(call: OnnxCall) -> Expression:
    """BatchNormalization in inference mode."""
    if call.attribute("training_mode", 0):
        raise UnsupportedError("training_mode must be 0")
    return call.lower(
        "batch_norm",
        input=call.expression(0),
        weight=call.parameter(1),
        bias=call.parameter(2),
        running_mean=call.parameter(3),
        running_var=call.parameter(4),
        eps=call.attribute("epsilon", 1e-5),
        training=False,
    )


def map_unary(operation: str) -> Mapping:
    """Relu and other operators without settings."""
    return lambda call: call.lower(operation, self=call.expression(0))


def map_leaky_relu(call: OnnxCall) -> Expression:
    """LeakyRelu."""
    slope = call.attribute("alpha", 0.01)
    return call.lower("leaky_relu", self=call.expression(0), negative_slope=slope)


def map_prelu(call: OnnxCall) -> Expression:
    """PRelu with one slope, or one for each channel."""
    return call.lower("prelu", self=call.expression(0), weight=call.parameter(1))


def map_hard_sigmoid(call: OnnxCall) -> Expression:
    """HardSigmoid: a factor, an offset and a clamp."""
    factor = torch.tensor(call.attribute("alpha", 0.2), dtype=torch.float64)
    offset = torch.tensor(call.attribute("beta", 0.5), dtype=torch.float64)
    value = call.lower("mul", self=call.expression(0), other=factor)
    value = call.lower("add", self=value, other=offset, alpha=1)
    return call.lower("clamp", self=value, min=0.0, max=1.0)


def map_clip(call: OnnxCall) -> Expression:
    """Clip with constant bounds."""
    low, high = (call.optional_parameter(index) for index in (1, 2))
    return call.lower(
        "clamp",
        self=call.expression(0),
        min=None if low is None else float(low),
        max=None if high is None else float(high),
    )


def map_extreme(operation: str, bound: str) -> Mapping:
    """Max and Min of two activations, or of one and a number."""

    def lower(call: OnnxCall) -> Expression:
        values = _two(call)
        numbers = [value for value in values if isinstance(value, torch.Tensor)]
        if not numbers:
            return call.lower(operation, self=values[0], other=values[1])
        if numbers[0].numel() != 1:
            raise UnsupportedError("a constant operand must be one number")
        value = next(value for value in values if not isinstance(value, torch.Tensor))
        return call.lower("clamp", self=value, **{bound: float(numbers[0])})

    return lower


def map_arithmetic(operation: str) -> Mapping:
    """Add, Sum, Sub, Mul and Div of two activations, or of one and a constant per channel."""

    def lower(call: OnnxCall) -> Expression:
        first, second = _two(call)
        settings = {"alpha": 1} if operation in ("add", "sub") else {}
        return call.lower(operation, self=first, other=second, **settings)

    return lower


def map_max_pool(call: OnnxCall) -> Expression:
    """MaxPool without indices."""
    window = Window.of(call, kernel=call.attribute("kernel_shape"))
    return call.lower(
        f"max_pool{len(window.kernel)}d",
        self=call.expression(0),
        kernel_size=window.kernel,
        stride=window.stride,
        # What is below and to the right follows from the result's size.
        padding=window.before,
        dilation=window.dilation,
        ceil_mode=bool(call.attribute("ceil_mode", 0)),
    )


def map_average_pool(call: OnnxCall) -> Expression:
    """AveragePool."""
    window = Window.of(call, kernel=call.attribute("kernel_shape"))
    if max(window.dilation) > 1:
        raise UnsupportedError(f"dilations must be 1, not {list(window.dilation)}")
    counted = bool(call.attribute("count_include_pad", 0))
    if not window.even and not counted:
        raise UnsupportedError("count_include_pad must be 1 where pads differ from side to side")
    value, operand_shape, padding = pad_unevenly(call, window)
    return call.lower(
        f"avg_pool{len(window.kernel)}d",
        operand_shape=operand_shape,
        self=value,
        kernel_size=window.kernel,
        stride=window.stride,
        padding=padding,
        ceil_mode=bool(call.attribute("ceil_mode", 0)),
        count_include_pad=counted,
        divisor_override=None,
    )


def map_global_pool(operation: str) -> Mapping:
    """GlobalAveragePool and GlobalMaxPool."""

    def lower(call: OnnxCall) -> Expression:
        axes = list(range(2, 1 + len(call.operand_shape)))
        return call.lower(operation, self=call.expression(0), dim=axes, keepdim=True)

    return lower


def map_reduction(operation: str) -> Mapping:
    """ReduceMean, ReduceSum and ReduceMax."""

    def lower(call: OnnxCall) -> Expression:
        axes = call.integers(1, "axes")
        if not axes and call.attribute("noop_with_empty_axes", 0):
            return call.expression(0)
        keep = bool(call.attribute("keepdims", 1))
        return call.lower(operation, self=call.expression(0), dim=axes, keepdim=keep)

    return lower


def map_pad(call: OnnxCall) -> Expression:
    """Pad with zeros."""
    rank = 1 + len(call.operand_shape)
    amounts = call.integers(1, "pads")
    axes = call.integers(3, "axes") or list(range(rank))
    before, after = [0] * rank, [0] * rank
    for axis, low, high in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        before[axis], after[axis] = low, high
    value = call.optional_parameter(2)
    return call.lower(
        "pad",
        self=call.expression(0),
        pad=from_last_axis(before, after),
        mode=call.attribute("mode", "constant"),
        value=0.0 if value is None or not value.numel() else float(value),
    )


def map_concatenation(call: OnnxCall) -> Expression:
    """Concat."""
    tensors = [call.expression(index) for index in range(len(call.operands))]
    return call.lower("cat", tensors=tensors, dim=call.attribute("axis"))


def map_slice(call: OnnxCall) -> Expression:
    """Slice: one slice after the other."""
    starts, ends = call.integers(1, "starts"), call.integers(2, "ends")
    axes = call.integers(3, "axes") or list(range(len(starts)))
    steps = call.integers(4, "steps") or [1] * len(starts)
    value, shape = call.expression(0), call.operand_shape
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= 1 + len(shape)
        if axis == 0 and (start, step) == (0, 1) and end >= _ENDLESS:
            continue
        if axis == 0 or step < 1:
            raise UnsupportedError("it must not slice the batch, and steps must be positive")
        start, end, _ = slice(start, end, step).indices(shape[axis - 1])
        sizes = list(shape)
        sizes[axis - 1] = len(range(start, end, step))
        value = call.lower(
            "slice",
            shape=tuple(sizes),
            operand_shape=shape,
            self=value,
            dim=axis,
            start=start,
            end=end,
            step=step,
        )
        shape = tuple(sizes)
    return value


def map_split(call: OnnxCall) -> Sequence[Expression]:
    """Split: a slice for each result."""
    axis = call.attribute("axis", 0) % (1 + len(call.operand_shape))
    sizes = [shape[axis - 1] for shape in call.shapes]
    return call.lower("split_with_sizes", self=call.expression(0), dim=axis, split_sizes=sizes)


def map_gather(call: OnnxCall) -> Expression:
    """Gather with constant numbers of channels, or of one row or column."""
    index, axis = call.constant(1), call.attribute("axis", 0)
    if index is None or index.ndim > 1:
        raise UnsupportedError("its indices must be a constant list of numbers, or one number")
    if index.ndim == 0:
        return call.lower("select", self=call.expression(0), dim=axis, index=int(index))
    numbers = torch.from_numpy(index.astype(np.int64))
    return call.lower("index_select", self=call.expression(0), dim=axis, index=numbers)


def map_transpose(call: OnnxCall) -> Expression:
    """Transpose of channels."""
    order = call.attribute("perm") or list(range(1 + len(call.operand_shape)))[::-1]
    return call.lower("permute", self=call.expression(0), dims=order)


def map_dropout(call: OnnxCall) -> Expression:
    """Dropout, which does nothing in inference mode."""
    training = call.constant(2)
    if training is not None and training.any():
        raise UnsupportedError("training_mode must be false")
    return call.expression(0)


def map_cast(call: OnnxCall) -> Expression:
    """Cast from a float type to another one."""
    if call.attribute("to") not in FLOATS:
        name = helper.tensor_dtype_to_np_dtype(call.attribute("to")).name
        raise UnsupportedError(f"it must cast to a float type, not {name}")
    return call.expression(0)


def map_unchanged(call: OnnxCall) -> Expression:
    """Identity, and CastLike of real numbers."""
    return call.expression(0)


MAPPINGS: dict[str, Mapping] = {
    "Conv": map_convolution,
    "ConvTranspose": map_transposed_convolution,
    "Gemm": map_gemm,
    "MatMul": map_matrix_product,
    "BatchNormalization": map_batch_norm,
    "Relu": map_unary("relu"),
    "Clip": map_clip,
    "LeakyRelu": map_leaky_relu,
    "PRelu": map_prelu,
    "HardSigmoid": map_hard_sigmoid,
    "Abs": map_unary("abs"),
    "Neg": map_unary("neg"),
    **CURVES,
    "Max": map_extreme("maximum", "min"),
    "Min": map_extreme("minimum", "max"),
    "Add": map_arithmetic("add"),
    "Sum": map_arithmetic("add"),
    "Sub": map_arithmetic("sub"),
    "Mul": map_arithmetic("mul"),
    "Div": map_arithmetic("div"),
    "MaxPool": map_max_pool,
    "AveragePool": map_average_pool,
    "GlobalMaxPool": map_global_pool("amax"),
    "GlobalAveragePool": map_global_pool("mean"),
    "ReduceMean": map_reduction("mean"),
    "ReduceSum": map_reduction("sum"),
    "ReduceMax": map_reduction("amax"),
    "Pad": map_pad,
    "Concat": map_concatenation,
    "Slice": map_slice,
    "Split": map_split,
    "Gather": map_gather,
    "Transpose": map_transpose,
    "Flatten": map_unary("reshape"),
    "Reshape": map_unary("reshape"),
    "Squeeze": map_unary("reshape"),
    "Unsqueeze": map_unary("reshape"),
    "Resize": map_resize,
    "DepthToSpace": map_depth_to_space,
    "Dropout": map_dropout,
    "Cast": map_cast,
    "CastLike": map_unchanged,
    "Identity": map_unchanged,
}
"""The supported operators; QuantizeLinear and DequantizeLinear are the front end's own."""
_UNQUANTIZED = "export the network in the QDQ form, with QuantizeLinear and DequantizeLinear"
_ADVICE = {
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
        _UNQUANTIZED,
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax", "ArgMax", "TopK"), ADVICE["softmax"]),
    **dict.fromkeys(("Upsample", "GridSample"), ADVICE["interpolate"]),
    **dict.fromkeys(
        ("LayerNormalization", "GroupNormalization", "InstanceNormalization"),
        ADVICE["layer_norm"],
    ),
}


def explain_missing(operator: str, *, others: Sequence[str]) -> str:
    """Say what to do about an operator without a mapping, and which there are."""
    supported = f"supported are {', '.join((*MAPPINGS, *others))}"
    return f"{_ADVICE[operator]}; {supported}" if operator in _ADVICE else supported


def _two(call: OnnxCall) -> tuple[Expression | torch.Tensor, Expression | torch.Tensor]:
    if len(call.operands) != 2:
        raise UnsupportedError(f"it must have 2 operands, not {len(call.operands)}")
    if call.shape != call.operand_shape:
        raise UnsupportedError(f"its result must have the shape of its operand, not {call.shape}")
    return call.value(0), call.value(1)
