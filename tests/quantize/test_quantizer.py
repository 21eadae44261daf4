"""Integer graphs against the float networks that they were made of."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.compiler.frontend import UnsupportedOperatorError, export
from coprune.data import find_cifar10, load_sample, load_test, normalize
from coprune.quantize import quantize
from coprune.zoo import resnet20
from coprune_hw.contract import arithmetic
from coprune_sim import reference

IMAGE = (3, 12, 12)


class Network(nn.Module):
    """Convolutions a (3 to 8 channels) and b (8 to 8) with a function of them and the input."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def network(function):
    return Network(function).eval()


def residual(m, x):
    a = F.relu(m.a(x))
    return F.relu(m.b(a) + a)


def images(count=16, *, seed=1, image=IMAGE):
    return torch.randn(count, *image, generator=torch.Generator().manual_seed(seed))


def quantized_inputs(graph, batch):
    grid = {"scale": graph.input.scale, "zero": graph.input.zero}
    return arithmetic.quantize(batch, **grid).to(torch.int8)


def real_outputs(graph, batch):
    outputs = reference.run(graph, quantized_inputs(graph, batch)).astype(np.float64)
    return arithmetic.dequantize(outputs, scale=graph.output.scale, zero=graph.output.zero)


def signal_to_noise_db(model, graph, batch):
    with torch.no_grad():
        expected = model(batch).double().numpy()
    error = real_outputs(graph, batch).reshape(expected.shape) - expected
    return 10 * np.log10((expected**2).mean() / (error**2).mean())


@pytest.mark.parametrize(
    "function",
    [
        residual,
        lambda m, x: m.norm(m.b(F.relu6(m.a(x)))),
        lambda m, x: F.avg_pool2d(m.a(x), 2) + F.max_pool2d(m.a(x), 2),
        lambda m, x: F.max_pool2d(F.relu(m.a(x)), 3, stride=2, padding=1),
        lambda m, x: torch.cat([m.a(x), m.b(F.relu(m.a(x)))], 1).mean((2, 3)),
        lambda m, x: m.norm(F.hardtanh(m.a(x))),
    ],
    ids=["residual", "norm", "pools", "maximum", "concatenation", "stand-alone norm"],
)
def test_integer_graph_follows_the_float_network(function):
    model = network(function)
    graph = quantize(model, [images()])
    assert signal_to_noise_db(model, graph, images(seed=2)) > 30


def test_integer_graph_of_an_exported_program_is_the_same():
    model = network(residual)
    graphs = [quantize(source, [images()]) for source in (model, export(model, image=IMAGE))]
    outputs = [reference.run(graph, quantized_inputs(graph, images())) for graph in graphs]
    np.testing.assert_array_equal(*outputs)


def test_batches_of_calibration_images_are_one_set():
    graphs = [quantize(network(residual), batches) for batches in ([images()], images().split(3))]
    outputs = [reference.run(graph, quantized_inputs(graph, images())) for graph in graphs]
    np.testing.assert_array_equal(*outputs)


def test_values_after_relu_use_the_whole_int8_range():
    graph = quantize(network(residual), [images()])
    for layer in graph.layers:
        assert (layer.output.zero, layer.low, layer.high) == (-128, -128, 127)


def test_activation_clamps_at_its_bounds():
    model = network(lambda m, x: F.hardtanh(m.a(x)))
    model.a.weight.data *= 100
    (layer,) = quantize(model, [images()]).layers
    for bound, real in ((layer.low, -1.0), (layer.high, 1.0)):
        step = layer.output.scale
        assert abs(step * (bound - layer.output.zero) - real) <= step / 2


def test_identity_shortcut_is_exact_in_accumulator_steps():
    graph = quantize(network(residual), [images()])
    main, shortcut = graph.layers[-1].sources
    assert 1 <= shortcut.weight.min() <= shortcut.weight.max() <= arithmetic.DIAGONAL_WEIGHT_MAX
    assert np.abs(main.weight).max() <= arithmetic.WEIGHT_MAX
    step = graph.tensor(shortcut.tensor).scale / shortcut.weight[:, 0, 0, 0]
    weight_scale = step / graph.tensor(main.tensor).scale
    weights = network(residual).b.weight.detach().double().numpy()
    error = np.abs(main.weight * weight_scale[:, None, None, None] - weights)
    assert (error <= weight_scale[:, None, None, None] * 0.5001).all()


def test_average_has_integer_weights_of_one():
    graph = quantize(network(lambda m, x: F.avg_pool2d(F.relu(m.a(x)), 4)), [images()])
    np.testing.assert_array_equal(graph.layers[-1].sources[0].weight, np.ones((8, 1, 4, 4)))


def test_maximum_passes_values_on_unchanged():
    graph = quantize(network(lambda m, x: F.max_pool2d(F.relu(m.a(x)), 2)), [images()])
    outputs = reference.run(graph, quantized_inputs(graph, images()), keep_layers=True)
    expected = F.max_pool2d(torch.from_numpy(outputs["a"]).float(), 2).numpy()
    np.testing.assert_array_equal(outputs["max_pool2d"], expected)


def test_function_of_a_stored_tensor_has_its_grid_as_argument():
    model = network(lambda m, x: (a := m.a(x)) + F.silu(a))
    graph = quantize(model, [images()])
    (layer,) = (layer for layer in graph.layers if layer.table is not None)
    read, output = graph.tensor(layer.sources[0].tensor), layer.output
    assert layer.table_zero == read.zero
    values = reference.run(graph, quantized_inputs(graph, images()), keep_layers=True)
    arguments = read.scale * (values[read.name].astype(np.float64) - read.zero)
    exact = F.silu(torch.from_numpy(arguments)).numpy()
    expected = arithmetic.quantize(exact, scale=output.scale, zero=output.zero)
    assert np.array_equal(values[output.name], expected)


def test_function_of_a_convolution_is_rounded_to_a_grid_of_its_own():
    graph = quantize(network(lambda m, x: torch.sigmoid(100 * m.a(x))), [images()])
    (layer,) = graph.layers
    grids = arithmetic.dequantize(
        layer.table.astype(np.float64), scale=layer.output.scale, zero=layer.output.zero
    )
    # The argument's steps are where the sigmoid is steep, not spread over the sums' range.
    assert np.count_nonzero(np.diff(layer.table)) > 80
    assert (np.diff(layer.table.astype(int)) >= 0).all()
    assert grids[0] < 0.01
    assert grids[-1] > 0.99


def test_function_that_is_infinite_on_the_images_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"'a' holds NaN .* as log does of .*: clamp its argument"):
        quantize(network(lambda m, x: torch.log(m.a(x))), [images()])


def test_copied_pixels_keep_their_values():
    graph = quantize(network(lambda m, x: F.relu(m.a(x))[:, 2:5, ::2, ::2]), [images()])
    outputs = reference.run(graph, quantized_inputs(graph, images()), keep_layers=True)
    first, last = (outputs[layer.name] for layer in graph.layers)
    np.testing.assert_array_equal(last, first[:, 2:5, ::2, ::2])


def test_depthwise_weights_use_twelve_bits():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3)).eval()
    (layer,) = quantize(model, [images()]).layers
    assert np.abs(layer.sources[0].weight).max() == arithmetic.DIAGONAL_WEIGHT_MAX


@pytest.mark.parametrize("gain", [1e-30, 1e-3, 1.0, 100.0, 1e3, 1e6])
def test_shortcut_and_convolution_of_any_ratio_add_up(gain):
    model = network(residual)
    model.b.weight.data *= gain
    graph = quantize(model, [images()])
    assert signal_to_noise_db(model, graph, images(seed=2)) > 33


def test_sources_whose_scales_do_not_fit_get_layers_of_their_own():
    def unlike(m, x):
        return F.relu(m.a(x) + m.norm(m.c(x)))

    model = network(unlike)
    model.c = nn.Conv2d(3, 8, 1)
    model.eval()
    model.a.weight.data[::2] *= 0.05
    model.norm.weight.data[1::2] *= 0.05
    graph = quantize(model, [images()])
    assert [layer.name for layer in graph.layers] == ["a", "a.add"]
    assert [source.tensor for source in graph.layers[-1].sources] == ["a", "x"]
    assert signal_to_noise_db(model, graph, images(seed=2)) > 33


def test_projection_of_similar_scale_stays_in_the_same_layer():
    model = network(lambda m, x: F.relu(m.a(x) + m.c(x)))
    model.c = nn.Conv2d(3, 8, 1).eval()
    model.c.weight.data *= 0.3
    (layer,) = quantize(model, [images()]).layers
    assert [source.weight.shape[2:] for source in layer.sources] == [(3, 3), (1, 1)]


def test_dead_channels_do_not_overflow():
    model = network(lambda m, x: m.b(m.a(x)))
    model.a.weight.data[0] *= 1e-30
    model.a.weight.data[1] = 0.0
    model.a.bias.data[1] = 0.0
    model.b.weight.data[2] = 0.0
    model.b.bias.data[3] = -1e4
    graph = quantize(model, [images()])
    assert signal_to_noise_db(model, graph, images(seed=2)) > 33


def test_network_of_zeros_stays_zero():
    model = network(residual)
    for parameter in model.parameters():
        parameter.data.zero_()
    graph = quantize(model, [images()])
    assert not real_outputs(graph, images()).any()


@pytest.mark.parametrize("bits", [32, 24])
def test_no_sum_leaves_the_accumulator(bits):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(3, 512, 3), nn.ReLU(), nn.Conv2d(512, 4, 3)).eval()
    graph = quantize(model, [images()], accumulator_bits=bits)
    limit = 1 << (bits - 1)
    for layer in graph.layers:
        for channel, bias in enumerate(layer.bias):
            weights = np.concatenate([s.weight[channel].ravel() for s in layer.sources])
            products = np.multiply.outer(np.array([-128, 127]), weights.astype(np.int64))
            highest, lowest = products.max(axis=0).sum(), products.min(axis=0).sum()
            for extreme in (highest, lowest, highest + bias, lowest + bias, bias):
                assert abs(extreme) < limit
    assert signal_to_noise_db(model, graph, images(seed=2)) > 27


def test_layer_that_cannot_fit_the_accumulator_is_refused():
    model = nn.Sequential(nn.Linear(1 << 17, 2)).eval()
    model = nn.Sequential(nn.Flatten(), *model).eval()
    with pytest.raises(ValueError, match=r"layer '1', channel \d: sums may reach \d+, .* 24 bits"):
        quantize(model, [images(2, image=(32, 64, 64))], accumulator_bits=24)


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="the network is in training mode"):
        quantize(Network(residual), [images()])


def test_missing_calibration_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        quantize(network(residual), [])


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (torch.zeros(3, 12, 12), ValueError, r"shape \[N, C, H, W\], not \[3, 12, 12\]"),
        (torch.zeros(0, 3, 12, 12), ValueError, r"not \[0, 3, 12, 12\]"),
        (torch.zeros(1, 3, 12, 12).double(), TypeError, "float32 tensors, not torch.float64"),
        (np.zeros((1, 3, 12, 12), np.float32), TypeError, "float32 tensors, not ndarray"),
        (torch.full((1, 3, 12, 12), float("nan")), ValueError, "tensor 'x' holds NaN"),
    ],
)
def test_unsuitable_calibration_is_refused(batch, error, message):
    with pytest.raises(error, match=message):
        quantize(network(residual), [batch])


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        quantize(network(residual), [images(), images(image=(3, 10, 10))])


def test_images_of_another_size_than_the_exported_ones_are_refused():
    exported = export(network(residual), image=IMAGE)
    with pytest.raises(ValueError, match=r"must have the shape \(3, 12, 12\), not \(3, 10, 10\)"):
        quantize(exported, [images(image=(3, 10, 10))])


def test_unknown_observer_is_refused():
    with pytest.raises(ValueError, match="one of mse, percentile, minmax, not 'median'"):
        quantize(network(residual), [images()], observer="median")


def test_unsupported_operator_is_refused():
    with pytest.raises(UnsupportedOperatorError, match="cumsum"):
        quantize(network(lambda m, x: torch.cumsum(m.a(x), 2)), [images()])


@pytest.fixture(scope="module")
def cifar10():
    try:
        find_cifar10()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    test = load_test()
    return normalize(test.images[:1000]), test.labels[:1000]


@pytest.mark.parametrize(("weights", "count"), [("dense", 1000), ("4:16", 400)])
def test_resnet20_loses_little_accuracy_on_cifar10(weights, count, cifar10):
    batch, labels = (array[:count] for array in cifar10)
    model = resnet20(weights)
    graph = quantize(model, [normalize(load_sample().calibration.images)])
    assert len(graph.layers) == 21
    with torch.inference_mode():
        float_classes = model(batch).argmax(1).numpy()
    classes = real_outputs(graph, batch)[:, :, 0, 0].argmax(1)
    assert (classes == labels).mean() >= (float_classes == labels).mean() - 0.006
    assert (classes == float_classes).mean() > 0.97


def test_pruned_weights_stay_zero():
    model = resnet20("4:16")
    graph = quantize(model, [normalize(load_sample().calibration.images[:32])])
    for layer in graph.layers:
        if layer.operation == "conv2d":
            weight = model.get_submodule(layer.name).weight.detach().numpy()
            assert not layer.sources[0].weight[weight == 0].any()
