"""The PT2E flow with the accelerator's quantizer: what is rounded, and what the program does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import coprune
from coprune import zoo
from coprune.compiler.exported import UnsupportedOperatorError, operation_of
from coprune.data import cifar10
from coprune.quantize import OBSERVERS, quantize
from coprune.quantize.calibration import BINS
from coprune.quantize.pt2e import AcceleratorQuantizer
from coprune_hw.contract.arithmetic import DIAGONAL_WEIGHT_MAX, WEIGHT_MAX
from coprune_sim import machine, reference

from .agreement import agreements, converted, input_steps, output_difference, prepared

IMAGE = (3, 12, 12)
FIXED_POINT_ERROR = 3 * 2.0**-10
"""Of the drain before its rounding, in output steps: see docs/numerics.md."""


class Network(nn.Module):
    """Some layers, and a function of them and the input."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm_a = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.norm_b = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.linear = nn.Linear(8, 5)
        self.function = function
        for norm in (self.norm_a, self.norm_b):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x):
        return self.function(self, x)


def network(function):
    return Network(function).eval()


def residual(m, x):
    a = F.relu(m.norm_a(m.a(x)))
    b = F.relu(m.norm_b(m.b(a)) + a)
    return m.linear(F.relu6(m.depthwise(F.max_pool2d(b, 2))).mean((2, 3)))


def images(count=16, *, seed=1, image=IMAGE):
    return torch.randn(count, *image, generator=torch.Generator().manual_seed(seed))


def operators(module, name):
    return [
        node
        for node in module.graph.nodes
        if node.op == "call_function" and operation_of(node) == name
    ]


def assert_agrees(simulation, graph, batch):
    """Every rounding is that of the simulation, but for values close to the middle of two steps.

    Before it rounds, the drain is within `FIXED_POINT_ERROR` of the exact sum, the bias within half
    an accumulator step, and the simulation within float32's error; together that is far below half
    an output step, so the roundings differ by 1 at most, and do so in that fraction of values at
    most, to either side, if values are spread evenly. What a table makes of a step is its slope.
    """
    found = agreements(simulation, graph, batch)
    slopes = {
        layer.name: 1 if layer.table is None else np.abs(np.diff(layer.table.astype(int))).max()
        for layer in graph.layers
    }
    for layer in found:
        assert layer.largest <= slopes[layer.name], layer
    differing = sum(layer.differing for layer in found)
    values = sum(layer.values for layer in found)
    assert differing <= 2 * FIXED_POINT_ERROR * values
    return found, differing, values


def resnet20():
    sample = cifar10.load_sample()
    calibration = cifar10.normalize(sample.calibration.images[:64])
    return zoo.build("resnet20-dense"), calibration, cifar10.normalize(sample.test.images[:16])


def mobilenetv2():
    model = zoo.build("mobilenetv2", width=0.35, resolution=32)
    return model, images(8, image=model.input_shape), images(4, seed=2, image=model.input_shape)


def squeezenet():
    model = zoo.build("squeezenet")
    return model, images(4, image=model.input_shape), images(2, seed=2, image=model.input_shape)


@pytest.mark.parametrize("build", [resnet20, mobilenetv2, squeezenet])
def test_every_layer_rounds_as_the_simulation_does(build):
    model, calibration, test = build()
    simulation = converted(model.eval(), [calibration])
    graph = quantize(simulation)
    found, differing, values = assert_agrees(simulation, graph, test)
    # Layers that only pass values on are not rounded in the simulation.
    passing = [layer for layer in graph.layers if layer.maximum or layer.operation == "copy"]
    assert len(found) == len(graph.layers) - len(passing)
    print(f"{build.__name__}: {differing:,} of {values:,} values differ by 1")
    steps = np.abs(output_difference(simulation, graph, test))
    print(f"outputs: {100 * np.mean(steps > 0):.1f} % differ, by {steps.max()} at most")


def test_fused_layer_is_rounded_once():
    simulation = converted(network(residual), [images()])
    rounded = [node.args[0] for node in operators(simulation, "quantize_per_tensor")]
    names = [operation_of(node) if node.op != "placeholder" else node.op for node in rounded]
    assert names == ["placeholder", "relu", "relu", "relu6", "mean", "linear"]


def test_argument_of_a_table_is_rounded_too():
    simulation = converted(network(curved), [images()])
    rounded = [node.args[0] for node in operators(simulation, "quantize_per_tensor")[1:]]
    names = [operation_of(node) for node in rounded]
    assert names == ["conv2d", "silu", "add", "sigmoid", "tanh", "conv2d"]
    graph = quantize(simulation)
    assert [layer.table is not None for layer in graph.layers] == [True, True, True, False]
    assert_agrees(simulation, graph, images(seed=2))


@pytest.mark.parametrize("factor_is_rounded", [False, True])
def test_product_of_two_functions_is_one_table(factor_is_rounded):
    def swish(m, x):
        y = m.a(x)
        factor = torch.sigmoid(y)
        if factor_is_rounded:
            factor = quantize_dequantize(factor)
        return m.depthwise(y * factor)

    def quantize_dequantize(x):
        steps = torch.ops.quantized_decomposed.quantize_per_tensor(
            x, 1 / 255, -128, -128, 127, torch.int8
        )
        return torch.ops.quantized_decomposed.dequantize_per_tensor(
            steps, 1 / 255, -128, -128, 127, torch.int8
        )

    simulation = converted(network(swish), [images()])
    rounded = [node.args[0] for node in operators(simulation, "quantize_per_tensor")]
    assert [operation_of(node) for node in rounded if node.op != "placeholder"] == [
        "conv2d",
        *(["sigmoid"] if factor_is_rounded else []),
        "mul",
        "conv2d",
    ]
    graph = quantize(simulation)
    assert [layer.name for layer in graph.layers] == ["a", "depthwise"]
    assert [layer.table is not None for layer in graph.layers] == [True, False]
    assert_agrees(simulation, graph, images(seed=2))


def test_weights_have_a_step_for_each_output_and_the_width_of_their_slots():
    simulation = converted(network(residual), [images()])
    kinds = []
    for node in operators(simulation, "dequantize_per_channel"):
        integers = getattr(simulation, node.args[0].target)
        scale = getattr(simulation, node.args[1].target)
        assert scale.shape == (len(integers),)
        kinds.append((integers.dtype, int(integers.abs().max())))
    assert kinds == [
        (torch.int8, WEIGHT_MAX),
        (torch.int8, WEIGHT_MAX),
        (torch.int16, DIAGONAL_WEIGHT_MAX),
        (torch.int8, WEIGHT_MAX),
    ]


STEPS_OF_OBSERVERS = {
    # The same extremes, as float32 holds them.
    "minmax": 1e-6,
    # Histograms that see each value once place it within half a bin.
    "percentile": 2 / BINS,
    # Ranges are tried in steps of 1 % of the extremes; close to the best one the error is flat.
    "mse": 0.015,
}
"""How far scales may be from those of `quantize`."""


def curved(m, x):
    """Functions that take tables, of a convolution, of a sum, and of what was pooled."""
    a = F.silu(m.norm_a(m.a(x)))
    b = torch.sigmoid(m.b(a) + a)
    return m.depthwise(torch.tanh(F.max_pool2d(b, 2)))


@pytest.mark.parametrize("function", [residual, curved])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_numbers_are_those_of_quantize(observer, function):
    model = network(function)
    quantizer = AcceleratorQuantizer(observer=observer)
    graph = quantize(converted(model, images().split(5), quantizer=quantizer))
    expected = quantize(model, [images()], observer=observer)
    assert [layer.name for layer in graph.layers] == [layer.name for layer in expected.layers]
    tolerance = STEPS_OF_OBSERVERS[observer]
    for layer, other in zip(graph.layers, expected.layers, strict=True):
        assert layer.output.scale == pytest.approx(other.output.scale, rel=tolerance)
        # A zero point counts steps from the lower end, of which there are up to 255.
        assert abs(layer.output.zero - other.output.zero) <= round(255 * tolerance)
        if observer == "minmax":
            for source, same in zip(layer.sources, other.sources, strict=True):
                np.testing.assert_array_equal(source.weight, same.weight)


def twice_with_shortcut(m, x):
    """The same weights need two scales, each to suit a shortcut."""
    a = m.a(x)
    b = m.b(a) + a
    return m.b(b) + b


def frozen_weights(simulation):
    return [
        getattr(simulation, node.args[0].target).numpy()
        for node in operators(simulation, "dequantize_per_channel")
    ]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.relu(m.norm_b(m.b(F.relu(m.a(x)))) + m.a(x)),
        lambda m, x: m.b(F.relu(m.a(x))) + m.depthwise(m.a(x)),
        lambda m, x: F.hardsigmoid(m.b(m.a(x))),
        lambda m, x: m.a(x) - m.b(m.a(x)),
        lambda m, x: m.b(m.b(m.a(x))),
        twice_with_shortcut,
        lambda m, x: m.b(m.a(x)) * -0.3,
    ],
    ids=[
        "shortcut",
        "projection",
        "factor",
        "difference",
        "twice",
        "twice with shortcut",
        "negative factor",
    ],
)
def test_integers_of_the_weights_are_kept(function):
    simulation = converted(network(function), [images()])
    graph = quantize(simulation)
    kept = [
        np.abs(source.weight)
        for layer in graph.layers
        for source in layer.sources
        if source.weight.shape[2:] == (3, 3)
    ]
    frozen = [np.abs(weight.astype(np.int16)) for weight in frozen_weights(simulation)]
    assert len(kept) >= 2
    assert all(any(np.array_equal(weight, other) for other in frozen) for weight in kept)
    assert_agrees(simulation, graph, images(seed=2))


def test_each_use_of_the_same_weights_has_scales_of_its_own():
    simulation = converted(network(twice_with_shortcut), [images()])
    weights = operators(simulation, "dequantize_per_channel")
    assert len({node.args[1].target for node in weights}) == 3


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.leaky_relu(m.a(x), 0.1),
        lambda m, x: m.a(x).abs(),
        lambda m, x: F.relu(F.max_pool2d(m.a(x), 2)),
        lambda m, x: F.avg_pool2d(m.a(x), 3, 2, 1, count_include_pad=False),
        lambda m, x: torch.cat([m.a(x), m.b(m.a(x))], 2),
        lambda m, x: F.conv2d(x, m.a.weight, stride=3),
        lambda m, x: F.relu(m.a(x)[:, 2:5, ::2, ::2]).flatten(1),
        lambda m, x: F.adaptive_max_pool2d(m.a(x), 5),
    ],
    ids=["leaky relu", "abs", "relu after pool", "borders", "rows", "stride 3", "slice", "regions"],
)
def test_tensors_inside_an_operator_need_no_images(function):
    simulation = converted(network(function), [images()])
    assert_agrees(simulation, quantize(simulation), images(seed=2))


def test_tensor_of_unknown_range_inside_an_operator_needs_images():
    simulation = converted(network(lambda m, x: torch.maximum(m.a(x), m.a(-x))), [images()])
    message = "the network is only partly quantized: tensor 'maximum' has no scale"
    with pytest.raises(ValueError, match=message):
        quantize(simulation)
    graph = quantize(simulation, [images()])
    assert "maximum" in [layer.name for layer in graph.layers]


def test_what_overwrites_a_tensor_is_rounded_for_all_readers():
    def overwrite(m, x):
        a = m.a(x)
        m.b(F.relu(a, inplace=True))
        return m.depthwise(a) + m.b(a)

    simulation = converted(network(overwrite), [images()])
    (rounding, _) = operators(simulation, "quantize_per_tensor")[1:]
    assert operation_of(rounding.args[0]) == "relu_"
    assert_agrees(simulation, quantize(simulation), images(seed=2))


def test_calibration_in_batches_is_calibration_at_once():
    graphs = [
        quantize(converted(network(residual), batches, quantizer=AcceleratorQuantizer()))
        for batches in ([images()], images().split(3))
    ]
    outputs = [reference.run(graph, input_steps(graph, images(seed=2))) for graph in graphs]
    np.testing.assert_array_equal(*outputs)


def test_program_needs_no_images_and_computes_what_the_graph_does():
    simulation = converted(network(residual), [images()])
    program = coprune.compile(simulation, coprune.AcceleratorConfig.preset("8x8"))
    batch = images(2, seed=2)
    outputs = program.simulate(batch, integer=True)
    assert outputs.shape == (2, 5)
    expected = reference.run(program.graph, input_steps(program.graph, batch))
    np.testing.assert_array_equal(outputs.ravel(), expected.ravel())
    for image, output in zip(input_steps(program.graph, batch), expected, strict=True):
        np.testing.assert_array_equal(machine.run(program.machine, image.numpy()).output, output)


def test_exported_simulation_is_the_simulation():
    simulation = converted(network(residual), [images()])
    graphs = [
        quantize(source) for source in (simulation, torch.export.export(simulation, (images(4),)))
    ]
    outputs = [reference.run(graph, input_steps(graph, images(seed=2))) for graph in graphs]
    np.testing.assert_array_equal(*outputs)


def test_unknown_observer_is_refused():
    with pytest.raises(ValueError, match=r"observer must be one of mse, .*, not 'median'"):
        AcceleratorQuantizer(observer="median")


def test_operator_that_the_accelerator_lacks_is_refused_before_calibration():
    program = torch.export.export(network(lambda m, x: m.a(x).softmax(1)), (images(),))
    with pytest.raises(UnsupportedOperatorError, match=r"operator aten.softmax.int .*'softmax'"):
        prepare_pt2e(program.module(), AcceleratorQuantizer())


def test_conversion_without_images_is_refused():
    program = torch.export.export(network(residual), (images(),))
    fresh = prepare_pt2e(program.module(), AcceleratorQuantizer())
    with pytest.raises(ValueError, match=r"no values of .*'a' were seen: run the prepared"):
        convert_pt2e(fresh)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="an activation holds NaN or infinity"):
        prepared(network(residual), [torch.full((2, *IMAGE), float("nan"))])
