"""Exported networks that somebody else quantized: what they say holds, or is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)
from torchao.quantization.quant_primitives import dequantize_affine
from torchao.testing.pt2e._xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from typer.testing import CliRunner

import coprune
from coprune.cli.app import app
from coprune.compiler.export import export
from coprune.compiler.exported import UnsupportedOperatorError
from coprune.compiler.frontend import lower
from coprune.compiler.scheme import Scheme, complete
from coprune.quantize import quantize
from coprune_sim import reference

from .agreement import converted, input_steps, output_difference
from .test_pt2e import IMAGE, images, network, residual

OPS = torch.ops.quantized_decomposed
INT8 = (-128, 127, torch.int8)
GRID = (0.02, 3, *INT8)


def xnnpack():
    return XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))


def x86():
    return X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())


class Quantized(nn.Module):
    """A convolution of an input and weights that are quantized as told.

    `activation` and `output` follow the tensor in quantize_per_tensor, `weight` the integers in
    dequantize_per_channel or dequantize_per_tensor.
    """

    def __init__(self, *, integers=None, weight=None, activation=GRID, output=GRID, groups=1):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        if integers is None:
            integers = torch.randint(-127, 128, (6, 3, 3, 3), generator=generator).to(torch.int8)
        if weight is None:
            outputs = len(integers)
            weight = (torch.full((outputs,), 0.01), torch.zeros(outputs), 0, -127, 127, torch.int8)
        self.register_buffer("integers", integers)
        for name, value in zip(("scale", "zero"), weight, strict=False):
            self.register_buffer(name, torch.as_tensor(value))
        self.rest, self.activation, self.output, self.groups = (
            weight[2:],
            activation,
            output,
            groups,
        )

    def forward(self, x):
        x = round_as(x, self.activation)
        if self.scale.dim():
            weight = OPS.dequantize_per_channel(self.integers, self.scale, self.zero, *self.rest)
        else:
            weight = OPS.dequantize_per_tensor.tensor(
                self.integers, self.scale, self.zero, *self.rest
            )
        return round_as(self.convolve(x, weight), self.output)

    def convolve(self, x, weight):
        return F.conv2d(x, weight, groups=self.groups)


def round_as(x, grid):
    return OPS.dequantize_per_tensor(OPS.quantize_per_tensor(x, *grid), *grid)


def exported(model, *, image=IMAGE):
    with torch.no_grad():
        return torch.export.export(model.eval(), (images(2, image=image),))


def test_grids_and_weights_of_the_graph_are_those_of_the_program():
    model = Quantized(output=(0.05, -7, *INT8))
    graph = quantize(exported(model))
    (layer,) = graph.layers
    assert (graph.input.scale, graph.input.zero) == (0.02, 3)
    assert (layer.output.scale, layer.output.zero) == (0.05, -7)
    np.testing.assert_array_equal(layer.sources[0].weight, model.integers.numpy())


def test_uint8_is_int8_with_another_zero_point():
    signed = Quantized()
    unsigned = Quantized(activation=(0.02, 131, 0, 255, torch.uint8))
    graphs = [quantize(exported(model)) for model in (signed, unsigned)]
    assert graphs[0].input == graphs[1].input
    outputs = [reference.run(graph, input_steps(graph, images())) for graph in graphs]
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
    "weight",
    [
        (torch.tensor(0.01), torch.tensor(0), -127, 127, torch.int8),
        (torch.full((6,), 0.01), torch.zeros(6), 0, -8, 7, torch.int8),
    ],
    ids=["one scale", "few steps"],
)
def test_weights_may_have_one_scale_or_few_steps(weight):
    model = Quantized(weight=weight)
    (layer,) = quantize(exported(model)).layers
    np.testing.assert_array_equal(layer.sources[0].weight, model.integers.numpy())


def test_factor_after_the_convolution_joins_the_steps():
    factor = torch.linspace(-2.0, 2.0, 6).view(6, 1, 1)

    class Scaled(Quantized):
        def convolve(self, x, weight):
            return super().convolve(x, weight) * factor

    integers = torch.arange(6 * 27, dtype=torch.int8).reshape(6, 3, 3, 3) % 50
    (layer,) = quantize(exported(Scaled(integers=integers))).layers
    np.testing.assert_array_equal(np.abs(layer.sources[0].weight), integers.numpy())


def test_depthwise_weights_of_twelve_bits_are_kept():
    integers = torch.arange(-2047, 2048, 160, dtype=torch.int16)[:24].reshape(6, 1, 2, 2)
    model = Quantized(
        integers=integers,
        weight=(torch.full((6,), 0.01), torch.zeros(6), 0, -2047, 2047, torch.int16),
        groups=6,
    )
    (layer,) = quantize(exported(model, image=(6, 8, 8))).layers
    np.testing.assert_array_equal(layer.sources[0].weight, integers.numpy())


def test_xnnpack_quantizer_needs_no_images():
    """It rounds a convolution before it is added, and the hardware after it.

    That is half a step of the convolution's grid more, and another half for a shortcut's weights.
    """
    simulation = converted(network(residual), [images()], quantizer=xnnpack())
    graph = quantize(simulation)
    assert [len(layer.sources) for layer in graph.layers] == [1, 2, 1, 1, 1, 1]
    assert np.abs(output_difference(simulation, graph, images(seed=2))).max() <= 2


def test_x86_quantizer_leaves_tensors_out_and_needs_images():
    """It uses uint8, and rounds neither the output nor what is pooled."""
    simulation = converted(network(residual), [images()], quantizer=x86())
    with pytest.raises(ValueError, match=r"only partly quantized: tensor '\w+' has no scale"):
        quantize(simulation)
    graph = quantize(simulation, [images()])
    assert np.abs(output_difference(simulation, graph, images(seed=2))).max() <= 2


SIX = (torch.full((6,), 0.01), torch.zeros(6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"activation": (0.02, 0, -(2**15), 2**15 - 1, torch.int16)},
            r"tensor 'x' is quantized to int16, but must be int8 or uint8",
        ),
        (
            {"activation": (0.02, 0, -127, 127, torch.int8)},
            r"tensor 'x' is quantized to -127\.\.127, but must use all values of int8, -128\.\.127",
        ),
        (
            {"activation": (0.02, 64, 0, 127, torch.uint8)},
            r"quantized to 0\.\.127, but must use all values of uint8, 0\.\.255",
        ),
        (
            {"activation": (0.0, 0, *INT8)},
            r"the scale of tensor 'x' must be positive and finite, not 0.0",
        ),
        (
            {"weight": (SIX[0], torch.ones(6), 0, -127, 127, torch.int8)},
            r"weights 'b_integers' are asymmetric, but their int8 zero points must be 0",
        ),
        (
            {"weight": (-SIX[0], SIX[1], 0, -127, 127, torch.int8)},
            r"weights 'b_integers' have a scale that is not positive and finite",
        ),
        (
            {"weight": (torch.ones(3), torch.zeros(3), 1, -127, 127, torch.int8)},
            r"weights 'b_integers' have a scale for each index of axis 1, but it must be the outp",
        ),
        (
            {
                "integers": torch.ones(6, 3, 3, 3, dtype=torch.int16),
                "weight": (*SIX, 0, -2047, 2047, torch.int16),
            },
            r"weights 'b_integers' are int16, but must be int8: only depthwise layers have more",
        ),
        (
            {
                "integers": torch.ones(6, 3, 3, 3, dtype=torch.int32),
                "weight": (*SIX, 0, -2047, 2047, torch.int32),
            },
            r"weights 'b_integers' are int32, but must be int8",
        ),
    ],
)
def test_scheme_that_the_hardware_lacks_is_refused(options, message):
    with pytest.raises(UnsupportedOperatorError, match=rf"\(node '\w+'.*{message}"):
        quantize(exported(Quantized(**options)))


class Misused(nn.Module):
    """A network that is a function of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def in_blocks(integers):
    return dequantize_affine(integers, (1, 3), torch.ones(4, 1), None, torch.int8, -8, 7)


def round_channels(x):
    numbers = (torch.full((3,), 0.02), torch.zeros(3), 1, *INT8)
    return OPS.dequantize_per_channel(OPS.quantize_per_channel(x, *numbers), *numbers)


def round_dynamically(x):
    numbers = OPS.choose_qparams.tensor(x, -128, 127, 1e-6, torch.int8)
    integers = OPS.quantize_per_tensor.tensor(x, *numbers, *INT8)
    return OPS.dequantize_per_tensor.tensor(integers, *numbers, *INT8)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            round_dynamically,
            r"operator quantized_decomposed.choose_qparams.tensor \(node 'choose_qparams'.*: the "
            r"accelerator has int8 activations of one scale and zero point for each tensor, known",
        ),
        (
            lambda x: F.linear(x.mean((2, 3)), in_blocks(torch.ones(4, 3, dtype=torch.int8))),
            r"operator torchao.dequantize_affine.default .*: the accelerator has int8 activations",
        ),
        (round_channels, r"tensor 'x' has 3 scales, but activations must have one"),
        (
            lambda x: OPS.dequantize_per_tensor(OPS.quantize_per_tensor(x, *GRID), 0.5, 3, *INT8),
            r"is dequantized with scale 0.5 and int8 zero point 3, but was quantized with scale 0",
        ),
        (
            lambda x: round_as(x, GRID) + round_as(x, (0.5, 3, *INT8)),
            r"tensor 'x' is quantized in two ways, scale 0.02 and int8 zero point 3 and scale 0.5",
        ),
        (
            lambda x: OPS.quantize_per_tensor(x, *GRID).flatten(1).float(),
            r"its result must be float32, not int8",
        ),
    ],
    ids=["dynamic", "blocks", "channels", "other grid", "two ways", "integers"],
)
def test_misused_grids_are_refused(function, message):
    with pytest.raises(UnsupportedOperatorError, match=message):
        quantize(exported(Misused(function)))


def test_rounding_to_another_grid_is_a_layer():
    program = exported(Misused(lambda x: round_as(round_as(x, GRID), (0.04, 0, *INT8))))
    graph = quantize(program)
    (layer,) = graph.layers
    assert (layer.output.scale, layer.output.zero) == (0.04, 0)
    steps = torch.arange(-128, 128, dtype=torch.int8)[:144].expand(1, 3, 144).reshape(1, *IMAGE)
    expected = OPS.quantize_per_tensor((steps.float() - 3) * 0.02, 0.04, 0, *INT8)
    difference = reference.run(graph, steps).astype(int) - expected.numpy()
    # Half of the values lie in the middle of two steps.
    assert np.abs(difference).max() <= 1


def test_part_of_a_tensor_may_be_rounded_to_another_grid():
    program = exported(Misused(lambda x: round_as(round_as(x, GRID)[:, 1:], (0.04, 0, *INT8))))
    graph = quantize(program)
    assert (graph.input.scale, graph.output.scale) == (0.02, 0.04)
    assert graph.output.channels == 2


def test_given_grids_are_passed_on_and_never_replaced():
    simulation = converted(network(lambda m, x: F.max_pool2d(F.relu(m.a(x)), 2)), [images()])
    graph = quantize(simulation)
    assert graph.layers[-1].maximum
    assert graph.output.scale == graph.layers[0].output.scale


def test_completing_leaves_an_unknown_range_open():
    def concatenate(m, x):
        a = m.a(x)
        return torch.cat([a, m.b(a)], 1)

    graph = lower(export(network(concatenate), image=IMAGE))
    assert complete(graph, Scheme(grids={"x": (0.1, 0)})).grids == {"x": (0.1, 0)}
    completed = complete(graph, Scheme(grids={"cat": (0.1, 0)})).grids
    assert completed == {"cat": (0.1, 0), "b": (0.1, 0)}


def add_parts(m, x):
    return m.a(x)[:, ::2] + m.b(m.a(x))[:, 1::2]


def add_concatenations(m, x):
    a = m.a(x)
    b = m.b(a)
    return torch.cat([a, b], 1) + torch.cat([b, a], 1)


@pytest.mark.parametrize("function", [add_parts, add_concatenations])
def test_completing_tells_sums_from_what_is_put_together(function):
    graph = lower(export(network(function), image=IMAGE))
    assert [layer.name for layer in graph.layers][-1] == "add"
    assert complete(graph, Scheme(grids={"add": (0.1, 0)})).grids == {"add": (0.1, 0)}


def test_archive_is_compiled_from_the_command_line(tmp_path):
    simulation = converted(network(residual), [images()])
    archive, file = tmp_path / "network.pt2", tmp_path / "network.coprune"
    torch.export.save(torch.export.export(simulation, (images(2),)), archive)
    result = CliRunner().invoke(app, ["compile", str(archive), "-o", str(file)])
    assert result.exit_code == 0, result.output
    program = coprune.load(file)
    expected = coprune.compile(simulation, program.machine.config)
    batch = images(3, seed=2)
    np.testing.assert_array_equal(
        program.simulate(batch, integer=True), expected.simulate(batch, integer=True)
    )


def test_reading_an_archive_needs_no_torchao(tmp_path):
    archive = tmp_path / "network.pt2"
    torch.export.save(exported(Quantized()), archive)
    script = (
        "import sys; from coprune.cli.network import find_network;"
        f"program = find_network({str(archive)!r});"
        "from coprune.quantize import quantize; quantize(program);"
        "print('torchao' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr
