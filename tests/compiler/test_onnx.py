"""ONNX networks against ONNX's own reference, and against the same networks in PyTorch."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

import coprune
from coprune.compiler.float_graph import evaluate
from coprune.compiler.onnx.frontend import lower_onnx
from coprune.compiler.onnx.nodes import UnsupportedNodeError
from coprune.data import cifar10
from coprune.quantize import quantize
from coprune.zoo import resnet20
from coprune_hw.contract import arithmetic
from coprune_sim import reference
from coprune_sim.inference import Simulator

from ..end_to_end.configurations import SMALL
from ..program.networks import images, residual
from .onnx_networks import export, make_model, rewrite_quantized

IMAGE = (3, 12, 12)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(operator, *operands, **attributes):
    return helper.make_node(operator, ["x", *operands], ["y"], **attributes)


def node_of(operator, *operands, **attributes):
    return helper.make_node(operator, operands, ["y"], **attributes)


def integers(*values):
    return np.array(values, np.int64)


def real_values(graph, batch):
    *_, (_, values) = evaluate(graph, batch)
    return values.numpy()


def assert_close(values, expected):
    """Real numbers differ only as the order does in which float32 adds them up.

    Sums stay below 2**7, where float32 rounds by up to 2**-17. A sum of n products is rounded n
    times, which mostly adds up to the root of n: 8 for those here. 5.3e-5 was the most seen.
    """
    np.testing.assert_allclose(values, expected, rtol=0, atol=2.0**-14)


def lowered(model, *, image=IMAGE):
    """Lower a network and check that it computes what ONNX's reference computes."""
    network = lower_onnx(model)
    batch = torch.from_numpy(random(2, *image, seed=1))
    (expected,) = ReferenceEvaluator(model).run(None, {"x": batch.numpy()})
    batch = batch.reshape(len(batch), *network.graph.input.shape)
    values = real_values(network.graph, batch).reshape(expected.shape)
    assert_close(values, expected)
    assert network.output_shape == expected.shape[1:]
    return network.graph


CONVOLUTIONS = {
    "plain": {},
    "asymmetric pads": {"pads": [0, 1, 2, 3]},
    "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    "valid": {"auto_pad": "VALID"},
    "dilations": {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=list(CONVOLUTIONS))
def test_convolution_is_one_layer(options):
    constants = {"w": random(5, 3, 3, 3), "b": random(5, seed=2)}
    graph = lowered(make_model([node("Conv", "w", "b", **options)], constants))
    assert [layer.operation for layer in graph.layers] == ["conv2d"]


OPERATORS = {
    "grouped convolution": (node("Conv", "w", group=3), {"w": random(6, 1, 3, 3)}),
    "transposed convolution": (node("ConvTranspose", "w"), {"w": random(3, 4, 3, 3)}),
    "batch norm": (
        node("BatchNormalization", "s", "b", "m", "v", epsilon=1e-3),
        {
            **{name: random(3, seed=seed) for seed, name in enumerate("sbm")},
            "v": np.abs(random(3, seed=4)) + 0.5,
        },
    ),
    "relu": (node("Relu"), {}),
    "clip": (node("Clip", "l", "h"), {"l": np.float32(-0.5), "h": np.float32(0.7)}),
    "clip below": (node("Clip", "l"), {"l": np.float32(-0.5)}),
    "clip above": (node("Clip", "", "h"), {"h": np.float32(0.7)}),
    "leaky relu": (node("LeakyRelu", alpha=0.2), {}),
    "prelu": (node("PRelu", "s"), {"s": random(3, 1, 1)}),
    "hard sigmoid": (node("HardSigmoid", alpha=0.3), {}),
    "abs": (node("Abs"), {}),
    "neg": (node("Neg"), {}),
    "maximum with a number": (node("Max", "c"), {"c": np.float32(0.2)}),
    "minimum with a number": (node("Min", "c"), {"c": np.float32(0.2)}),
    "constant added": (node("Add", "c"), {"c": random(1, 3, 1, 1)}),
    "number added": (node("Add", "c"), {"c": np.float32(2.5)}),
    "constant subtracted": (node("Sub", "c"), {"c": random(3, 1, 1)}),
    "constant minus image": (helper.make_node("Sub", ["c", "x"], ["y"]), {"c": random(3, 1, 1)}),
    "constant plus image": (helper.make_node("Add", ["c", "x"], ["y"]), {"c": random(3, 1, 1)}),
    "number times image": (helper.make_node("Mul", ["c", "x"], ["y"]), {"c": np.float32(-1.5)}),
    "multiplied": (node("Mul", "c"), {"c": random(1, 3, 1, 1)}),
    "divided": (node("Div", "c"), {"c": np.float32(0.25)}),
    "added to itself": (node("Add", "x"), {}),
    "summed with itself": (node("Sum", "x"), {}),
    "maximum with itself": (node("Max", "x"), {}),
    "max pool": (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "max pool with uneven pads": (
        node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        {},
    ),
    "max pool up": (node("MaxPool", kernel_shape=[5, 5], strides=[2, 2], ceil_mode=1), {}),
    "max pool by ones": (node("MaxPool", kernel_shape=[2, 3]), {}),
    "average pool": (node("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), {}),
    "average pool with borders": (
        node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        {},
    ),
    "average pool that counts pads": (
        node("AveragePool", kernel_shape=[3, 3], pads=[0, 0, 1, 1], count_include_pad=1),
        {},
    ),
    "global average": (node("GlobalAveragePool"), {}),
    "global maximum": (node("GlobalMaxPool"), {}),
    "pad": (
        node("Pad", "p", "z"),
        {"p": integers(0, 1, 2, 0, 0, 2, 0, 1), "z": np.float32(0)},
    ),
    "slice": (
        node("Slice", "s", "e", "a", "t"),
        {
            "s": integers(1, 2, -11),
            "e": integers(3, 2**62, 12),
            "a": integers(1, 2, 3),
            "t": integers(1, 2, 1),
        },
    ),
    "concatenation": (helper.make_node("Concat", ["x", "x"], ["y"], axis=1), {}),
    "gathered channels": (node("Gather", "i", axis=1), {"i": integers(2, 0, 1, 0)}),
    "flatten": (node("Flatten"), {}),
    "dropout": (node("Dropout"), {}),
    "identity": (node("Identity"), {}),
    "cast": (node("Cast", to=TensorProto.FLOAT16), {}),
}


def after_convolution(operation):
    """The operator with a convolution before it, so that something is always computed."""
    operation = onnx.NodeProto.FromString(operation.SerializeToString())
    for index, name in enumerate(operation.input):
        operation.input[index] = "convolved" if name == "x" else name
    return [helper.make_node("Conv", ["x", "first"], ["convolved"], pads=[1] * 4), operation]


@pytest.mark.parametrize(("operation", "constants"), OPERATORS.values(), ids=list(OPERATORS))
def test_operator_computes_what_onnx_computes(operation, constants):
    constants = {**constants, "first": random(3, 3, 3, 3, seed=7)}
    model = make_model(after_convolution(operation), constants)
    if operation.op_type == "Cast":
        assert lower_onnx(model).graph.layers
    elif operation.op_type == "Flatten":
        # Its result is an image still, which nothing multiplies.
        assert lower_onnx(model).output_shape == (3 * 12 * 12,)
    else:
        lowered(model)


NEWEST = {"opset": 21}
CURVES = {
    "sigmoid": (node("Sigmoid"),),
    "tanh": (node("Tanh"),),
    "hard swish": (node("HardSwish"),),
    "gelu": (node("Gelu"),),
    "gelu by tanh": (node("Gelu", approximate="tanh"),),
    "mish": (node("Mish"),),
    "elu": (node("Elu", alpha=0.3),),
    "selu": (node("Selu"),),
    "selu of other constants": (node("Selu", alpha=0.5, gamma=2.0),),
    "celu": (node("Celu", alpha=2.0),),
    "softplus": (node("Softplus"),),
    "softsign": (node("Softsign"),),
    "thresholded relu": (node("ThresholdedRelu", alpha=0.4),),
    "soft shrinking": (node("Shrink", lambd=0.4, bias=0.4),),
    "hard shrinking": (node("Shrink", lambd=0.4),),
    "exp": (node("Exp"),),
    "erf": (node("Erf"),),
    "sin": (node("Sin"),),
    "cos": (node("Cos"),),
    "atan": (node("Atan"),),
    "square": (node("Pow", "two"),),
    "power of two": (helper.make_node("Pow", ["two", "x"], ["y"]),),
    "logarithm": (helper.make_node("Clip", ["x", "half"], ["c"]), node_of("Log", "c")),
    "square root": (helper.make_node("Relu", ["x"], ["c"]), node_of("Sqrt", "c")),
    "reciprocal": (helper.make_node("Clip", ["x", "half"], ["c"]), node_of("Reciprocal", "c")),
    "inverse root": (
        helper.make_node("Clip", ["x", "half"], ["c"]),
        helper.make_node("Pow", ["c", "half"], ["r"]),
        node_of("Reciprocal", "r"),
    ),
    "product with itself": (node("Mul", "x"),),
    "silu": (helper.make_node("Sigmoid", ["x"], ["s"]), node_of("Mul", "x", "s")),
    "hard swish as a product": (
        helper.make_node("HardSigmoid", ["x"], ["h"], alpha=1 / 6),
        node_of("Mul", "h", "x"),
    ),
    "gelu as a product": (
        helper.make_node("Mul", ["x", "root"], ["a"]),
        helper.make_node("Erf", ["a"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["p"]),
        helper.make_node("Mul", ["x", "p"], ["q"]),
        node_of("Mul", "q", "half"),
    ),
}


@pytest.mark.parametrize("nodes", CURVES.values(), ids=list(CURVES))
def test_function_of_single_numbers_is_one_table(nodes):
    constants = {
        "one": np.float32(1),
        "two": np.float32(2),
        "half": np.float32(0.5),
        "root": np.float32(0.5**0.5),
    }
    (layer,) = lowered(make_model(nodes, constants, **NEWEST)).layers
    assert layer.function is not None


TRANSPOSED = {
    "stride 2": {"strides": [2, 2]},
    "stride 4": {"strides": [4, 4]},
    "stride 2 with output padding": {"strides": [2, 2], "output_padding": [1, 0]},
    "pads that differ": {"strides": [2, 2], "pads": [0, 1, 2, 0]},
    "dilations": {"strides": [2, 2], "dilations": [2, 1], "pads": [1, 1, 1, 1]},
    "same upper": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "same lower": {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    "valid": {"strides": [2, 2], "auto_pad": "VALID"},
    "given shape": {"strides": [2, 2], "output_shape": [24, 23]},
    "groups": {"strides": [2, 2], "group": 3},
}


@pytest.mark.parametrize("options", TRANSPOSED.values(), ids=list(TRANSPOSED))
def test_transposed_convolution_computes_what_onnxruntime_computes(options):
    runtime = pytest.importorskip("onnxruntime")
    constants = {"w": random(3, 2, 3, 3), "b": random(2 * options.get("group", 1), seed=2)}
    model = make_model([node("ConvTranspose", "w", "b", **options)], constants)
    network = lower_onnx(model)
    batch = random(2, *IMAGE, seed=1)
    (expected,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": batch})
    assert_close(real_values(network.graph, torch.from_numpy(batch)), expected)


UPSAMPLING = {
    "by scales": ({}, [1, 1, 2, 2], None),
    "by sizes": ({}, None, [2, 3, 48, 48]),
    "asymmetric with floor": (
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [1, 1, 4, 4],
        None,
    ),
    "asymmetric by rounding": (
        {"coordinate_transformation_mode": "asymmetric"},
        [1, 1, 2, 2],
        None,
    ),
    "pytorch_half_pixel": (
        {"coordinate_transformation_mode": "pytorch_half_pixel"},
        [1, 1, 4, 4],
        None,
    ),
    "half_pixel_symmetric": (
        {"coordinate_transformation_mode": "half_pixel_symmetric"},
        [1, 1, 2, 2],
        None,
    ),
    "align_corners by 2": (
        {"coordinate_transformation_mode": "align_corners"},
        [1, 1, 2, 2],
        None,
    ),
    "to the size that it has": ({}, [1, 1, 1, 1], None),
}


@pytest.mark.parametrize(("options", "scales", "sizes"), UPSAMPLING.values(), ids=list(UPSAMPLING))
def test_nearest_resize_repeats_pixels(options, scales, sizes):
    operands, constants = ["", "s" if scales else ""], {"first": random(3, 3, 1, 1)}
    if scales:
        constants["s"] = np.array(scales, np.float32)
    else:
        operands.append("z")
        constants["z"] = integers(*sizes)
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c"]),
        helper.make_node("Resize", ["c", *operands], ["y"], mode="nearest", **options),
    ]
    lowered(make_model(nodes, constants, batch=2, opset=19))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("blocksize", [2, 4])
def test_depth_to_space_takes_channels_in_either_order(mode, blocksize):
    image = (2 * blocksize**2, 3, 5)
    model = make_model([node("DepthToSpace", blocksize=blocksize, mode=mode)], image=image)
    graph = lowered(model, image=image)
    # By 4 is by 2 twice; the order of channels costs nothing.
    assert len(graph.layers) == blocksize // 2


def test_reductions_over_the_image():
    for operator, opset in (("ReduceMean", 17), ("ReduceMean", 18), ("ReduceMax", 18)):
        if opset < 18:
            model = make_model([node(operator, axes=[2, 3], keepdims=0)], opset=opset)
        else:
            operation = node(operator, "axes", keepdims=0)
            model = make_model([operation], {"axes": integers(-1, -2)}, opset=opset)
        assert lowered(model).layers[-1].output.shape == (3, 1, 1)


def test_split_slices_channels():
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    lowered(make_model(nodes, image=(4, 6, 6)), image=(4, 6, 6))


def test_channel_shuffle():
    nodes = [
        helper.make_node("Reshape", ["x", "five"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["b", "four"], ["y"]),
    ]
    constants = {"five": integers(0, 2, 3, 5, 5), "four": integers(0, 6, 5, 5)}
    lowered(make_model(nodes, constants, image=(6, 5, 5)), image=(6, 5, 5))


@pytest.mark.parametrize("opset", [11, 13, 17, 21, onnx.defs.onnx_opset_version()])
def test_every_opset_from_11_on_is_taken(opset):
    axes = {"axes": [2, 3]} if opset < 18 else {}
    operands = [] if opset < 18 else ["axes"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ReduceMean", ["b", *operands], ["c"], keepdims=0, **axes),
        helper.make_node("MatMul", ["c", "m"], ["d"]),
        helper.make_node("Add", ["d", "v"], ["y"]),
    ]
    constants = {"w": random(4, 3, 3, 3), "m": random(4, 5), "v": random(5), "axes": integers(2, 3)}
    graph = lowered(make_model(nodes, constants, opset=opset))
    assert [layer.operation for layer in graph.layers] == ["conv2d", "mean", "linear"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_scales_its_weights_and_its_bias(transposed):
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=transposed, alpha=0.5, beta=2.0),
    ]
    shape = (6, 48) if transposed else (48, 6)
    constants = {"w": random(*shape), "b": random(1, 6)}
    lowered(make_model(nodes, constants, image=(3, 4, 4)), image=(3, 4, 4))


def test_sequence_is_an_image_of_one_row():
    operation = node("Conv", "w", pads=[1, 1])
    lowered(make_model([operation], {"w": random(4, 3, 3)}, image=(3, 16)), image=(3, 16))


def test_shapes_that_are_computed_in_the_graph_are_constants():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Shape", ["a"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["a", "sizes"], ["flat"]),
        helper.make_node("Gemm", ["flat", "m"], ["y"]),
    ]
    constants = {
        "w": random(2, 3, 3, 3),
        "m": random(200, 4),
        "zero": np.array(0),
        "axis": integers(0),
        "rest": integers(-1),
    }
    lowered(make_model(nodes, constants))


def test_images_with_channels_last_are_taken_with_channels_first():
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["a", "w"], ["y"]),
    ]
    model = make_model(nodes, {"w": random(4, 3, 3, 3)}, image=(10, 12, 3))
    network = lower_onnx(model)
    assert network.graph.input.shape == (3, 10, 12)
    batch = random(2, 10, 12, 3)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": batch})
    values = real_values(network.graph, torch.from_numpy(batch).permute(0, 3, 1, 2))
    assert_close(values, expected)


def test_batch_of_one_image_may_be_fixed():
    operation = node("Flatten")
    nodes = [operation, helper.make_node("Gemm", ["y", "m"], ["z"])]
    model = make_model(nodes, {"m": random(432, 4)}, batch=1, output="z")
    assert lower_onnx(model).output_shape == (4,)


CONVOLUTION = {"w": random(4, 3, 3, 3)}
REFUSED = {
    "unknown operator": (
        [helper.make_node("IsNaN", ["x"], ["n"], name="odd"), node_of("Cast", "n", to=1)],
        {},
        r"operator IsNaN \(node 'odd', output 'n'\) is not supported: supported are Conv, ",
    ),
    "bilinear upsampling": (
        [node("Resize", "", "s", mode="linear")],
        {"s": np.array([1, 1, 2, 2], np.float32)},
        "mode must be nearest, not linear: use nearest upsampling by a power of 2",
    ),
    "nearest pixels that are not repeated alike": (
        [node("Resize", "", "s", coordinate_transformation_mode="align_corners")],
        {"s": np.array([1, 1, 4, 4], np.float32)},
        "48 of 12 pixels by align_corners with round_prefer_floor must repeat each",
    ),
    "cropping while it resizes": (
        [node("Resize", "r", "s", coordinate_transformation_mode="tf_crop_and_resize")],
        {
            "r": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
            "s": np.array([1, 1, 2, 2], np.float32),
        },
        "coordinate_transformation_mode must be one of half_pixel, .*not tf_crop_and_resize",
    ),
    "upsampling by 3": (
        [node("Resize", "", "s")],
        {"s": np.array([1, 1, 3, 3], np.float32)},
        "must become 2, 4, 8 or 16 times as many",
    ),
    "transposed convolution of stride 3": (
        [node("ConvTranspose", "w", strides=[3, 3])],
        {"w": random(3, 4, 3, 3)},
        r"strides must be equal and 1, 2 or 4, not \(3, 3\)",
    ),
    "shuffle by 3": ([node("DepthToSpace", blocksize=3)], {}, "factor must be 2 or 4, not 3"),
    "shrinking to something else": (
        [node("Shrink", lambd=0.5, bias=0.25)],
        {},
        "bias must be 0 or lambd, which is 0.5, not 0.25",
    ),
    "exponents of channels": (
        [node("Pow", "e")],
        {"e": random(3, 1, 1)},
        r"exponent must be one number, not of shape \[3, 1, 1\]",
    ),
    "exponent that is computed": (
        [helper.make_node("Sin", ["x"], ["e"]), node("Pow", "e")],
        {},
        "exponent must be a number, not another activation",
    ),
    "softmax": ([node("Softmax")], {}, "leave it out at the end of the network"),
    "integer operator": (
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("Cast", ["q"], ["y"], to=TensorProto.FLOAT),
        ],
        {},
        "export the network in the QDQ form, .*supported are Conv, ",
    ),
    "other domain": (
        [helper.make_node("FusedConv", ["x", "w"], ["y"], domain="com.microsoft")],
        CONVOLUTION,
        r"operator com.microsoft.FusedConv .* not one of ONNX's own operators",
    ),
    "weights that are computed": (
        [node("Conv", "x")],
        {},
        "operand 1 must be a constant|shape",
    ),
    "quotient by an image": (
        [helper.make_node("Div", ["c", "x"], ["y"])],
        {"c": random(3, 1, 1)},
        "it must divide by a number or a parameter",
    ),
    "product of activations": (
        [helper.make_node("Conv", ["x", "w"], ["c"]), node_of("Mul", "x", "c")],
        {"w": random(3, 3, 1, 1)},
        "no product of two activations",
    ),
    "reflecting pad": (
        [node("Pad", "p", mode="reflect")],
        {"p": integers(0, 0, 1, 1, 0, 0, 1, 1)},
        "constant 0",
    ),
    "cast to integers": ([node("Cast", to=TensorProto.INT64)], {}, "float type, not int64"),
    "batch norm in training": (
        [helper.make_node("BatchNormalization", ["x", *"sbmv"], ["y", "n", "o"], training_mode=1)],
        {name: np.ones(3, np.float32) for name in "sbmv"},
        "training_mode must be 0",
    ),
    "positions of maxima": (
        [
            helper.make_node("MaxPool", ["x"], ["values", "places"], kernel_shape=[2, 2]),
            helper.make_node("Cast", ["places"], ["y"], to=TensorProto.FLOAT),
        ],
        {},
        "only its first result can be used",
    ),
    "batch that changes": (
        [node("Reshape", "s")],
        {"s": integers(1, -1)},
        "the first axis must remain the batch",
    ),
    "volume": ([node("Conv", "w")], {"w": random(4, 3, 3, 3, 3)}, r"1 or 2 axes|rank|Inference"),
    "average with uneven pads": (
        [node("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1])],
        {},
        "count_include_pad must be 1",
    ),
}


@pytest.mark.parametrize(("nodes", "constants", "message"), REFUSED.values(), ids=list(REFUSED))
def test_unsupported_node_is_refused_with_the_reason(nodes, constants, message):
    image = (9, 12, 12) if nodes[0].op_type == "DepthToSpace" else IMAGE
    model = make_model(nodes, constants, image=image)
    with pytest.raises(UnsupportedNodeError, match=message):
        lower_onnx(model)


def test_infinite_constant_is_refused():
    weight = random(4, 3, 3, 3)
    weight[0, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="constant 'w' holds NaN or infinity"):
        lower_onnx(make_model([node("Conv", "w")], {"w": weight}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": (3, "H", 12)}, r"size of images must be fixed, not \['N', 3, 'H', 12\]"),
        ({"image": (3, 4, 5, 6)}, r"must be float32 \[N, C, H, W\], .* not float32"),
        ({"kind": TensorProto.DOUBLE}, "must be float32 .* not float64"),
        ({"opset": 9}, "must be of opset 11 or newer, not 9"),
        ({"output": "nothing"}, "no valid ONNX model"),
    ],
)
def test_unsuitable_network_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lower_onnx(make_model([node("Relu")], **options))


def test_several_inputs_or_outputs_are_refused():
    model = make_model([node("Relu")])
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, []))
    with pytest.raises(ValueError, match="one output, not 2: y, x"):
        lower_onnx(model)
    model = make_model([node("Add", "z")])
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, *IMAGE]))
    with pytest.raises(ValueError, match="one input, not 2: x, z"):
        lower_onnx(model)


def test_output_that_is_constant_is_refused():
    model = make_model([helper.make_node("Identity", ["c"], ["y"])], {"c": random(1, 2)})
    with pytest.raises(ValueError, match="output must be computed from its input"):
        lower_onnx(model)


def test_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such ONNX model"):
        lower_onnx(tmp_path / "missing.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"\x08\xff\xff not a network")
    with pytest.raises(ValueError, match=r"damaged.onnx is no (valid )?ONNX model"):
        lower_onnx(tmp_path / "damaged.onnx")


def test_other_things_than_networks_are_refused():
    with pytest.raises(TypeError, match=r"must be an nn.Module, .* or an onnx.ModelProto, not int"):
        quantize(5, [images(2)])


# Networks in the QDQ form.


def quantized_convolution(
    *,
    kind=np.int8,
    zero=3,
    weight=None,
    weight_scale=0.02,
    weight_zero=None,
    axis=0,
    scale=0.05,
    output_zero=-10,
    output_kind=np.int8,
    opset=21,
):
    """x, rounded, convolved with rounded weights, and rounded again."""
    if weight is None:
        weight = np.random.default_rng(0).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    constants = {
        "s": np.float32(scale) if np.isscalar(scale) else np.array(scale, np.float32),
        "z": np.array(zero, kind),
        "w": weight,
        "ws": np.array(weight_scale, np.float32),
        "bs": np.array(weight_scale, np.float32) * np.float32(0.05),
        "b": np.array([5, -40, 300, 0], np.int32),
        "os": np.float32(0.3),
        "oz": np.array(output_zero, output_kind),
    }
    weight_operands = ["w", "ws"]
    if weight_zero is not None:
        constants["wz"] = np.broadcast_to(weight_zero, np.shape(weight_scale)).astype(weight.dtype)
        weight_operands.append("wz")
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"], axis=1),
        make("DequantizeLinear", ["xq", "s", "z"], ["xr"], axis=1),
        make("DequantizeLinear", weight_operands, ["wr"], axis=axis),
        make("DequantizeLinear", ["b", "bs"], ["br"], axis=0),
        make("Conv", ["xr", "wr", "br"], ["c"], name="conv"),
        make("QuantizeLinear", ["c", "os", "oz"], ["cq"]),
        make("DequantizeLinear", ["cq", "os", "oz"], ["y"]),
    ]
    return make_model(nodes, constants, opset=opset)


def steps(graph, batch):
    grid = {"scale": graph.input.scale, "zero": graph.input.zero}
    return reference.run(graph, arithmetic.quantize(batch, **grid).to(torch.int8))


def assert_follows_onnx(model, graph, *, largest=1, image=IMAGE):
    """Within `largest` steps of the output of what ONNX's reference computes, mostly equal."""
    batch = torch.from_numpy(random(8, *image, seed=3))
    (expected,) = ReferenceEvaluator(model).run(None, {"x": batch.numpy()})
    grid = {"scale": graph.output.scale, "zero": graph.output.zero}
    values = arithmetic.dequantize(steps(graph, batch).astype(np.float64), **grid)
    error = np.abs(values.reshape(expected.shape) - expected) / graph.output.scale
    assert error.max() < largest + 0.01
    assert (error > 0.01).mean() < 0.01


def test_numbers_of_the_file_are_those_of_the_integer_graph():
    model = quantized_convolution()
    graph = quantize(model)
    (layer,) = graph.layers
    assert (graph.input.scale, graph.input.zero) == (float(np.float32(0.05)), 3)
    assert (graph.output.scale, graph.output.zero) == (float(np.float32(0.3)), -10)
    weight = numpy_helper.to_array(model.graph.initializer[2])
    np.testing.assert_array_equal(layer.sources[0].weight, weight)
    bias = np.array([5, -40, 300, 0]) - 3 * weight.astype(int).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(layer.bias, bias)
    assert_follows_onnx(model, graph)


SCHEMES = {
    "weights that use few steps": {
        "weight": np.random.default_rng(1).integers(-20, 21, (4, 3, 3, 3)).astype(np.int8)
    },
    "a scale for each channel": {"weight_scale": [0.02, 0.01, 0.05, 0.003], "weight_zero": 0},
    "unsigned activations": {
        "kind": np.uint8,
        "zero": 131,
        "output_kind": np.uint8,
        "output_zero": 118,
    },
    "unsigned weights": {
        "weight": np.random.default_rng(2).integers(1, 256, (4, 3, 3, 3)).astype(np.uint8),
        "weight_zero": 128,
    },
}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
def test_scheme_is_kept(scheme):
    model = quantized_convolution(**scheme)
    graph = quantize(model)
    weight = numpy_helper.to_array(model.graph.initializer[2]).astype(int)
    weight = weight - (128 if scheme.get("weight", weight).dtype == np.uint8 else 0)
    np.testing.assert_array_equal(graph.layers[0].sources[0].weight, weight)
    assert (graph.input.zero, graph.output.zero) == (3, -10)
    assert_follows_onnx(model, graph)


def test_weights_that_the_file_has_in_float_are_rounded_by_it():
    model = quantized_convolution(opset=13)
    constants = {each.name: each for each in model.graph.initializer}
    weight = numpy_helper.to_array(constants["w"])
    real = weight * np.float32(0.02) + random(4, 3, 3, 3).clip(-1, 1) * np.float32(0.009)
    constants["w"].CopyFrom(numpy_helper.from_array(real, "real"))
    zero = helper.make_node("Constant", [], ["wz"], value=numpy_helper.from_array(np.int8(0)))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["real", "ws", "wz"], ["w"]))
    model.graph.node.insert(0, zero)
    (layer,) = quantize(model).layers
    np.testing.assert_array_equal(layer.sources[0].weight, weight)


def test_weights_outside_the_symmetric_range_are_rounded_anew():
    weight = np.full((4, 3, 3, 3), -128, np.int8)
    graph = quantize(quantized_convolution(weight=weight))
    assert (graph.layers[0].sources[0].weight == -127).all()


REFUSED_SCHEMES = {
    "asymmetric weights": ({"weight_zero": 1}, "weights 'w' are asymmetric, .* must be 0"),
    "wide weights": (
        {"weight": np.zeros((4, 3, 3, 3), np.int16)},
        "weights 'w' are int16, but must be int8",
    ),
    "weights along another axis": (
        {"weight_scale": [0.1, 0.2, 0.3], "axis": 1},
        r"weights 'wr' have a scale for each index of axis 1, .* output channels' axis 0",
    ),
    "wide activations": ({"kind": np.int16}, "tensor 'x' is quantized to int16"),
    "activations per channel": (
        {"scale": [0.1, 0.2, 0.3], "zero": [0, 0, 0]},
        "tensor 'x' has 3 scales, but activations must have one",
    ),
    "scale of zero": ({"scale": 0.0}, "scale of tensor 'x' must be positive and finite, not 0"),
}


@pytest.mark.parametrize(("scheme", "message"), REFUSED_SCHEMES.values(), ids=list(REFUSED_SCHEMES))
def test_scheme_that_the_hardware_lacks_is_refused(scheme, message):
    model = quantized_convolution(**scheme)
    if scheme.get("axis"):
        # The bias has a scale for each output.
        scale = numpy_helper.from_array(np.float32(0.001), "bs")
        model.graph.initializer[4].CopyFrom(scale)
    with pytest.raises(UnsupportedNodeError, match=message):
        quantize(model)


def test_blocks_of_weights_are_refused():
    model = quantized_convolution(weight_scale=np.full((2, 3, 3, 3), 0.1, np.float32).tolist())
    model.graph.initializer[4].CopyFrom(numpy_helper.from_array(np.float32(0.001), "bs"))
    model.graph.node[2].attribute.append(helper.make_attribute("block_size", 2))
    with pytest.raises(UnsupportedNodeError, match="'w' have a scale for each block"):
        quantize(model)


def test_tensor_of_two_grids_is_refused():
    model = quantized_convolution()
    model.graph.node[1].input[1] = "os"
    with pytest.raises(UnsupportedNodeError, match=r"'xq' is dequantized with scale 0.3 and"):
        quantize(model)


def test_requantized_tensor_is_copied():
    model = quantized_convolution()
    make = helper.make_node
    model.graph.node[-1].output[0] = "first"
    model.graph.node.extend(
        [
            make("QuantizeLinear", ["first", "s", "z"], ["again"], name="again"),
            make("DequantizeLinear", ["again", "s", "z"], ["y"]),
        ]
    )
    graph = quantize(model)
    assert [layer.name for layer in graph.layers] == ["conv", "again"]
    # One step of the first tensor is six of the second.
    assert_follows_onnx(model, graph, largest=6)


def quantized_sum(*, zero=0, ratio=1.0):
    """Two convolutions whose results are rounded, added, and rounded again.

    The weights of every second channel are smaller by `ratio`, in one other ones than in the other.
    """
    make = helper.make_node
    grids = {"s": np.float32(0.03), "z": np.int8(0), "c": np.float32(0.02), "cz": np.int8(zero)}
    weights = {
        "v.scale": np.array([0.01, 0.01 * ratio, 0.01, 0.01 * ratio], np.float32),
        "w.scale": np.array([0.01 * ratio, 0.01, 0.01 * ratio, 0.01], np.float32),
        **{
            name: np.random.default_rng(seed).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
            for seed, name in enumerate(("v", "w"))
        },
    }
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
    ]
    for name in ("v", "w"):
        nodes += [
            make("DequantizeLinear", [name, f"{name}.scale"], [f"{name}.real"], axis=0),
            make("Conv", ["xr", f"{name}.real"], [f"{name}.sum"], name=f"conv_{name}"),
            make("QuantizeLinear", [f"{name}.sum", "c", "cz"], [f"{name}.steps"]),
            make("DequantizeLinear", [f"{name}.steps", "c", "cz"], [f"{name}.rounded"]),
        ]
    nodes += [
        make("Add", ["v.rounded", "w.rounded"], ["sum"]),
        make("QuantizeLinear", ["sum", "s", "z"], ["steps"]),
        make("DequantizeLinear", ["steps", "s", "z"], ["y"]),
    ]
    return make_model(nodes, {**grids, **weights}, opset=21)


def test_sum_is_rounded_once():
    model = quantized_sum()
    (layer,) = quantize(model).layers
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    assert [source.tensor for source in layer.sources] == ["x", "x"]
    for source, name in zip(layer.sources, ("v", "w"), strict=True):
        np.testing.assert_array_equal(source.weight, constants[name])


def test_sources_that_cannot_share_a_scale_are_rounded_as_the_file_does():
    model = quantized_sum(ratio=0.02)
    graph = quantize(model)
    assert [len(layer.sources) for layer in graph.layers] == [1, 1, 2]
    scales = [layer.output.scale for layer in graph.layers]
    assert scales == [float(np.float32(scale)) for scale in (0.02, 0.02, 0.03)]
    assert_follows_onnx(model, graph)


@pytest.mark.parametrize("operator", ["Relu", "Add"])
def test_rounding_before_a_clamp_or_an_offset_is_left_out(operator):
    model = quantized_convolution()
    model.graph.node[-1].output[0] = "first"
    operands = ["first", "os"] if operator == "Add" else ["first"]
    model.graph.node.extend(
        [
            helper.make_node(operator, operands, ["second"]),
            helper.make_node("QuantizeLinear", ["second", "os", "oz"], ["steps"]),
            helper.make_node("DequantizeLinear", ["steps", "os", "oz"], ["y"]),
        ]
    )
    graph = quantize(model)
    assert [layer.name for layer in graph.layers] == ["conv"]
    assert_follows_onnx(model, graph)


TABULATED = (
    "Sigmoid",
    "Tanh",
    "HardSwish",
    "Gelu",
    "Softplus",
    "Elu",
    "Selu",
    "Mish",
    "Erf",
    "Exp",
)


def quantized_function(operator, *, multiplied=False):
    """A function between roundings; `multiplied` with its rounded argument once more."""
    make = helper.make_node
    # With these scales no result lies half way between two steps, where float32 decides.
    grids = {
        "s": np.float32(0.03),
        "z": np.int8(-9),
        "os": np.float32(0.01137),
        "oz": np.int8(-100),
        "ps": np.float32(0.0277),
        "pz": np.int8(-88),
    }
    last = ["os", "oz"]
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
        make(operator, ["xr"], ["f"]),
    ]
    if multiplied:
        last = ["ps", "pz"]
        nodes += [
            make("QuantizeLinear", ["f", "os", "oz"], ["fq"]),
            make("DequantizeLinear", ["fq", "os", "oz"], ["fr"]),
            make("Mul", ["fr", "xr"], ["f*x"]),
        ]
    nodes += [
        make("QuantizeLinear", [nodes[-1].output[0], *last], ["yq"]),
        make("DequantizeLinear", ["yq", *last], ["y"]),
    ]
    return make_model(nodes, grids, image=(1, 16, 16), opset=21)


@pytest.mark.parametrize("multiplied", [False, True], ids=["alone", "times its argument"])
@pytest.mark.parametrize("operator", TABULATED)
def test_function_between_roundings_is_exact_for_every_int8_number(operator, multiplied):
    model = quantized_function(operator, multiplied=multiplied)
    graph = quantize(model)
    (layer,) = graph.layers
    assert layer.table is not None
    every = np.arange(-128, 128).reshape(1, 1, 16, 16)
    batch = (np.float32(0.03) * (every + 9)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": batch})
    output = graph.output
    grid = {"scale": output.scale, "zero": output.zero}
    actual = reference.run(graph, every.astype(np.int8))
    assert np.array_equal(actual, np.rint(expected / output.scale).astype(int) + output.zero)
    assert len(np.unique(actual)) > 30
    assert_close(arithmetic.dequantize(actual.astype(np.float64), **grid), expected)
    runtime = pytest.importorskip("onnxruntime")
    (expected,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": batch})
    assert np.array_equal(actual, np.rint(expected / output.scale).astype(int) + output.zero)


def test_silu_of_a_rounded_convolution_is_part_of_its_layer():
    model = quantized_convolution()
    make = helper.make_node
    del model.graph.node[-1]
    model.graph.node.extend(
        [
            make("DequantizeLinear", ["cq", "os", "oz"], ["cr"]),
            make("Sigmoid", ["cr"], ["g"]),
            make("QuantizeLinear", ["g", "gs", "gz"], ["gq"]),
            make("DequantizeLinear", ["gq", "gs", "gz"], ["gr"]),
            make("Mul", ["cr", "gr"], ["m"]),
            make("QuantizeLinear", ["m", "ms", "mz"], ["mq"]),
            make("DequantizeLinear", ["mq", "ms", "mz"], ["y"]),
        ]
    )
    numbers = {"gs": np.float32(1 / 255), "gz": np.int8(-128), "ms": np.float32(0.21)}
    for name, value in {**numbers, "mz": np.int8(-120)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    graph = quantize(model)
    (layer,) = graph.layers
    assert (layer.name, layer.table_zero) == ("conv", -10)
    assert (graph.output.scale, graph.output.zero) == (float(np.float32(0.21)), -120)
    # One step of the convolution, in which float32 rounds differently, is up to two of the result.
    assert_follows_onnx(model, graph, largest=2)


def test_transposed_convolution_keeps_the_weights_of_the_file():
    make = helper.make_node
    weight = np.random.default_rng(0).integers(-127, 128, (6, 2, 3, 3)).astype(np.int8)
    constants = {
        "s": np.float32(0.05),
        "z": np.int8(3),
        "os": np.float32(0.5),
        "oz": np.int8(-10),
        "w": weight,
        "ws": np.array([0.01, 0.02], np.float32),
    }
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
        make("DequantizeLinear", ["w", "ws"], ["wr"], axis=1),
        make("ConvTranspose", ["xr", "wr"], ["c"], strides=[2, 2], group=2),
        make("QuantizeLinear", ["c", "os", "oz"], ["cq"]),
        make("DequantizeLinear", ["cq", "os", "oz"], ["y"]),
    ]
    model = make_model(nodes, constants, image=(6, 5, 5), opset=21)
    graph = quantize(model)
    (source,) = graph.layers[0].sources
    grouped = weight.reshape(2, 3, 2, 3, 3).transpose(0, 2, 1, 3, 4).reshape(4, 3, 3, 3)
    np.testing.assert_array_equal(source.weight, grouped[:, :, ::-1, ::-1])
    runtime = pytest.importorskip("onnxruntime")
    batch = random(8, 6, 5, 5, seed=3)
    (expected,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": batch})
    difference = steps(graph, torch.from_numpy(batch)) - (np.rint(expected / 0.5) - 10)
    # Half a step is a tie, which float32 may round to the other side.
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) < 0.01 * difference.size


def test_rounding_that_is_an_activation_function_stays():
    graph = quantize(quantized_sum(zero=-128))
    assert [layer.name for layer in graph.layers] == ["conv_v", "conv_w", "sum"]
    assert_follows_onnx(quantized_sum(zero=-128), graph)


@pytest.mark.parametrize(
    "options", [{"equalize": True}, {"correct_bias": True}, {"weight_bits": 4}]
)
def test_options_that_would_change_the_numbers_of_a_quantized_network_are_refused(options):
    with pytest.raises(ValueError, match=r"are for float networks, .* leave them out"):
        quantize(quantized_convolution(), [torch.from_numpy(random(8, *IMAGE))], **options)


def test_network_that_is_partly_quantized_needs_images():
    model = quantized_convolution()
    del model.graph.node[-2:]
    model.graph.output[0].name = "c"
    with pytest.raises(ValueError, match="only partly quantized: tensor 'conv' has no scale"):
        quantize(model)
    graph = quantize(model, [torch.from_numpy(random(8, *IMAGE))])
    assert (graph.input.scale, graph.input.zero) == (float(np.float32(0.05)), 3)


def test_network_quantized_by_onnxruntime_follows_it(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self._batches = iter([{"x": images(64).numpy()}])

        def get_next(self):
            return next(self._batches, None)

    onnx.save(export(residual(), images(2)), tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "quantized.onnx",
        Reader(),
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    batch = images(64, seed=5)
    session = runtime.InferenceSession(tmp_path / "quantized.onnx")
    (expected,) = session.run(None, {"x": batch.numpy()})
    program = coprune.compile(tmp_path / "quantized.onnx", SMALL)
    assert program.network == "quantized"
    assert [len(layer.sources) for layer in program.graph.layers] == [1, 2, 1, 1]
    error = np.abs(program.simulate(batch) - expected) / program.graph.output.scale
    # The file rounds the convolution before it adds the shortcut, and coprune does not.
    assert error.max() < 3.5
    assert error.mean() < 0.6


# ResNet-20, the same in ONNX and in PyTorch.

BATCHES = list(cifar10.normalize(cifar10.load_sample().calibration.images).split(64))


@pytest.fixture(scope="module")
def networks():
    """ResNet-20 as integer graphs by their origin."""
    model = resnet20("dense")
    example = torch.zeros(2, 3, 32, 32)
    expected = quantize(model, BATCHES)
    folded = export(model, example)
    return {
        "torch": expected,
        "float": quantize(export(model, example, folded=False), BATCHES),
        "folded": quantize(folded, BATCHES),
        "TorchScript": quantize(export(model, example, dynamo=False), BATCHES),
        "int8": quantize(rewrite_quantized(folded, expected)),
        "uint8": quantize(rewrite_quantized(folded, expected, unsigned=True)),
    }


LARGEST_ERROR = {"float": 0, "folded": 2, "TorchScript": 2, "int8": 1, "uint8": 1}
"""In steps of the output. Exporters that fold batch norms do so in float32, and what that changes
flips the rounding of a few multipliers."""


def compare(networks, origin, batch):
    grid = networks["torch"].input
    pixels = arithmetic.quantize(batch, scale=grid.scale, zero=grid.zero).to(torch.int8).numpy()
    outputs = [Simulator(networks[name]).run(pixels) for name in ("torch", origin)]
    expected, actual = (output.reshape(len(batch), -1).astype(int) for output in outputs)
    difference = np.abs(actual - expected)
    agreement = float(np.mean(actual.argmax(axis=1) == expected.argmax(axis=1)))
    counts = np.bincount(difference.ravel(), minlength=3)
    print(f"{origin}: outputs by difference {counts.tolist()}, top-1 agreement {agreement:.2%}")
    return int(difference.max()), agreement


@pytest.mark.parametrize("origin", list(LARGEST_ERROR))
def test_resnet20_computes_what_it_computes_from_pytorch(networks, origin):
    assert len(networks[origin].layers) == len(networks["torch"].layers) == 21
    batch = cifar10.normalize(cifar10.load_sample().test.images)
    largest, agreement = compare(networks, origin, batch)
    assert largest <= LARGEST_ERROR[origin]
    assert agreement >= 0.995


@pytest.mark.slow
@pytest.mark.parametrize("origin", list(LARGEST_ERROR))
def test_resnet20_agrees_on_all_test_images(networks, origin):
    try:
        test = cifar10.load_test()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    largest, agreement = compare(networks, origin, cifar10.normalize(test.images))
    assert largest <= LARGEST_ERROR[origin]
    assert agreement >= 0.995


def test_float_network_computes_what_pytorch_computes():
    model = resnet20("dense")
    batch = cifar10.normalize(cifar10.load_sample().test.images[:2])
    exported = export(model, batch)
    (expected,) = ReferenceEvaluator(exported).run(None, {"x": batch.numpy()})
    with torch.inference_mode():
        assert_close(model(batch).numpy(), expected)
    values = real_values(lower_onnx(exported).graph, batch)
    assert_close(values.reshape(expected.shape), expected)


def test_program_of_a_file_is_that_of_the_network(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    onnx.save(export(model, images(2)), tmp_path / "net.onnx")
    program = coprune.compile(str(tmp_path / "net.onnx"), SMALL, calibration=[images(8)])
    expected = coprune.compile(model, SMALL, calibration=[images(8)])
    assert program.network == "net"
    assert program.output_shape == expected.output_shape == (8, 6, 6)
    assert np.array_equal(program.simulate(images(4)), expected.simulate(images(4)))
