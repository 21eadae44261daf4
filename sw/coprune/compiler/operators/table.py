"""The table of operators: names, conditions, and what they become."""

from __future__ import annotations

from dataclasses import dataclass

from coprune.compiler.operators import (
    activations,
    convolutions,
    curves,
    elementwise,
    pooling,
    shapes,
    upsampling,
)
from coprune.compiler.operators.call import Lowering


@dataclass(frozen=True)
class Operator:
    """Operators of PyTorch that one function lowers.

    Parameters
    ----------
    names : tuple of str
        Without namespace and overload; a last underscore says that it overwrites its operand.
    lowering : Lowering
    conditions, realization : str
        What it must be like, empty if anything goes, and what the accelerator does for it.
    shares_memory : bool
        The result may share memory with the first operand.
    """

    names: tuple[str, ...]
    lowering: Lowering
    conditions: str
    realization: str
    shares_memory: bool = False


OPERATORS = (
    Operator(
        ("conv2d", "conv1d"),
        convolutions.lower_convolution,
        "any kernel, padding, dilation and groups; strides equal and 1, 2 or 4; other strides "
        "where at most 16 rows or columns have to be picked one by one",
        "blocks of slots; an image [N, C, L] is one row. Other strides: a finer convolution, of "
        "which pixels are copied",
    ),
    Operator(
        ("linear",),
        convolutions.lower_linear,
        "operand [N, C], also a flattened image",
        "a convolution whose kernel covers the image",
    ),
    Operator(
        ("matmul", "mm", "addmm"),
        convolutions.lower_product,
        "the second factor a matrix of parameters; alpha and beta 1",
        "as linear",
    ),
    Operator(
        ("conv_transpose2d", "conv_transpose1d"),
        convolutions.lower_transposed_convolution,
        "strides equal and 1, 2 or 4, where there is more than one pixel; any output_padding",
        "a convolution with the kernel reversed. Stride 2: one for each phase of the output; "
        "stride 4: the same of an image with zeros between its pixels",
    ),
    Operator(
        ("batch_norm",),
        elementwise.lower_batch_norm,
        "in evaluation mode",
        "folded into the convolution before it, or a diagonal layer",
    ),
    Operator(
        ("relu", "relu_"),
        activations.lower_relu,
        "",
        "the clamp of the layer before it",
    ),
    Operator(("relu6", "relu6_"), activations.lower_relu6, "", "a clamp"),
    Operator(("hardtanh", "hardtanh_"), activations.lower_hardtanh, "", "a clamp"),
    Operator(
        ("clamp", "clamp_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_"),
        activations.lower_clamp,
        "bounds that are numbers",
        "a clamp",
    ),
    Operator(
        ("hardsigmoid", "hardsigmoid_"),
        activations.lower_hardsigmoid,
        "",
        "weights scaled, and a clamp",
    ),
    Operator(
        ("leaky_relu", "leaky_relu_"),
        activations.lower_leaky_relu,
        "",
        "a layer for relu(x), and the sum slope x + (1 - slope) relu(x)",
    ),
    Operator(
        (
            *("sigmoid", "sigmoid_", "tanh", "tanh_", "silu", "silu_", "hardswish", "hardswish_"),
            *("gelu", "mish", "mish_", "elu", "elu_", "selu", "selu_", "celu", "celu_"),
            *("softplus", "log_sigmoid", "softshrink", "hardshrink", "threshold", "threshold_"),
            *("exp", "exp_", "log", "log_", "log1p", "log1p_", "erf", "erf_", "sqrt", "sqrt_"),
            *("rsqrt", "rsqrt_", "reciprocal", "reciprocal_", "square", "square_"),
            *("sin", "sin_", "cos", "cos_", "atan", "atan_"),
        ),
        curves.lower_curve,
        "an accelerator with tables",
        "a table in the drain, behind the layer before it: its values for 256 arguments",
    ),
    Operator(
        ("pow", "pow_"),
        curves.lower_power,
        "a number as exponent or as base; an accelerator with tables",
        "as sigmoid",
    ),
    Operator(
        ("prelu",),
        activations.lower_prelu,
        "one slope, or one for each channel",
        "as leaky_relu",
    ),
    Operator(
        ("abs", "abs_"),
        activations.lower_absolute,
        "",
        "a layer for relu(x), and the sum 2 relu(x) - x",
    ),
    Operator(
        ("maximum",),
        activations.lower_maximum,
        "two activations of one shape",
        "a layer for relu(b - a), and the sum a + relu(b - a)",
    ),
    Operator(
        ("minimum",),
        activations.lower_minimum,
        "two activations of one shape",
        "a layer for relu(a - b), and the sum a - relu(a - b)",
    ),
    Operator(
        ("add", "add_"),
        elementwise.lower_add,
        "two activations of one shape, or a number or a parameter of one value for each channel",
        "more sources of the layer of the convolution before it; a constant joins the bias",
    ),
    Operator(("sub", "sub_"), elementwise.lower_subtract, "as add", "as add, weights negated"),
    Operator(("rsub",), elementwise.lower_reverse_subtract, "as add", "as add, weights negated"),
    Operator(
        ("mul", "mul_"),
        elementwise.lower_multiply,
        "a number or a parameter of one value for each channel; or a function of the other "
        "operand, as in x * sigmoid(x), x * relu6(x + 3) and x * x",
        "folded into the weights before it, or a diagonal layer; x * f(x) is one function, and "
        "takes a table",
    ),
    Operator(("div", "div_"), elementwise.lower_divide, "as mul", "as mul"),
    Operator(("neg", "neg_"), elementwise.lower_negate, "", "as mul"),
    Operator(
        ("max_pool2d", "max_pool1d"),
        pooling.lower_max_pool,
        "strides as for convolutions; any dilation, padding and ceil_mode",
        "a diagonal layer that takes the maximum",
    ),
    Operator(
        ("avg_pool2d", "avg_pool1d"),
        pooling.lower_average_pool,
        "strides as for convolutions; any padding, ceil_mode, count_include_pad, divisor_override",
        "a diagonal layer; where divisors differ at borders, regions that are put together",
    ),
    Operator(
        ("adaptive_avg_pool2d", "adaptive_avg_pool1d"),
        pooling.lower_adaptive_average_pool,
        "any size of at most 64 regions with different windows",
        "as avg_pool2d",
    ),
    Operator(
        ("adaptive_max_pool2d", "adaptive_max_pool1d"),
        pooling.lower_adaptive_max_pool,
        "as adaptive_avg_pool2d; without positions",
        "maxima of regions that are put together",
    ),
    Operator(
        ("mean",),
        pooling.lower_mean,
        "over rows, columns, channels or several of them",
        "a convolution of equal weights",
    ),
    Operator(("sum",), pooling.lower_sum, "as mean", "as mean"),
    Operator(
        ("amax",), pooling.lower_maximum_of_axes, "over rows, columns or both", "as max_pool2d"
    ),
    Operator(
        ("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten"),
        shapes.lower_reshape,
        "what reads the result needs channels, rows and columns in this order, or a flattened "
        "image",
        "nothing; a layer where a flattened image is not multiplied by a matrix next",
        shares_memory=True,
    ),
    Operator(
        ("permute", "transpose"),
        shapes.lower_permutation,
        "of axes that together are the channels (view, permute, view: a channel shuffle)",
        "a copy of channels",
        shares_memory=True,
    ),
    Operator(
        ("slice", "narrow"),
        shapes.lower_slice,
        "channels, rows or columns; steps as strides of convolutions",
        "a copy, which joins a sum that reads it",
        shares_memory=True,
    ),
    Operator(
        ("select",),
        shapes.lower_select,
        "a channel, row or column",
        "as slice",
        shares_memory=True,
    ),
    Operator(
        ("chunk", "split", "split_with_sizes"),
        shapes.lower_split,
        "channels, rows or columns",
        "as slice",
        shares_memory=True,
    ),
    Operator(
        ("index_select", "index"),
        shapes.lower_index_select,
        "channels, by constant numbers",
        "a copy of channels",
    ),
    Operator(("flip",), shapes.lower_flip, "channels", "as index_select"),
    Operator(
        ("pad", "constant_pad_nd"),
        shapes.lower_pad,
        "with zeros, channels, rows or columns, also different ones on every side",
        "padding of the convolution that follows, or a copy",
    ),
    Operator(
        ("cat", "concat"),
        shapes.lower_concatenation,
        "channels, rows or columns",
        "channels: one source for each operand. Rows and columns: each operand copied with zeros "
        "around, and the sum of these",
    ),
    Operator(
        ("upsample_nearest2d", "upsample_nearest1d"),
        upsampling.lower_nearest,
        "2, 4, 8 or 16 times as many rows and columns",
        "a copy for each phase of the output, for every factor of 2",
    ),
    Operator(
        ("pixel_shuffle",),
        upsampling.lower_depth_to_space,
        "by 2 or 4",
        "as upsample_nearest2d",
    ),
    Operator(
        ("pixel_unshuffle",),
        shapes.lower_space_to_depth,
        "by 2 or 4",
        "a copy with a stride",
    ),
    Operator(
        ("dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
        shapes.lower_dropout,
        "in evaluation mode",
        "nothing",
        shares_memory=True,
    ),
    Operator(
        ("contiguous", "to", "detach", "alias"),
        shapes.lower_unchanged,
        "to: of float32",
        "nothing",
        shares_memory=True,
    ),
    Operator(("clone",), shapes.lower_unchanged, "", "nothing"),
)

LOWERINGS: dict[str, Lowering] = {
    name: operator.lowering for operator in OPERATORS for name in operator.names
}
"""The supported operators, by name without namespace and overload."""

IN_PLACE = frozenset(name for name in LOWERINGS if name.endswith("_"))
"""Operators that overwrite their first operand."""

ALIASING = frozenset(
    name for operator in OPERATORS if operator.shares_memory for name in operator.names
)
"""Operators whose result may share memory with their first operand."""

_LAST = "leave it out at the end of the network, and compute it on the host from the outputs"
_UPSAMPLING = "use nearest upsampling by a power of 2, or a transposed convolution of stride 2"
ADVICE = {
    **dict.fromkeys(("softmax", "log_softmax", "argmax", "topk", "sort"), _LAST),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d", "interpolate"), _UPSAMPLING),
    **dict.fromkeys(
        ("layer_norm", "group_norm", "instance_norm"),
        "statistics of an image are not known beforehand: use batch_norm",
    ),
    **dict.fromkeys(
        ("scaled_dot_product_attention", "bmm", "einsum", "baddbmm"),
        "one factor of every product must be a parameter",
    ),
}
"""What to do about some operators that are not supported."""
