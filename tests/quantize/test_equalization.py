"""What equalization changes in a float graph, and what it leaves as it is."""

import math
from dataclasses import replace

import pytest
import torch

from coprune import zoo
from coprune.compiler.float_graph import evaluate
from coprune.data import cifar10
from coprune.prune import prune_pattern
from coprune.quantize import measure_errors, quantize, quantize_traced
from coprune.quantize.equalization import choose_scales, equalize, measure_channels, rescale

from .networks import FUNCTIONS, bounded, chain, images, lowered, mobile, network, shortcuts

SPREAD = 2.0
"""Standard deviation of the logarithms of factors between channels."""


def tensors(graph, batch):
    return dict(evaluate(graph, batch.double()))


def outputs(graph, batch):
    return tensors(graph, batch)[graph.layers[-1].output.name]


def scales_of(graph, batch):
    return choose_scales(graph, measure_channels(graph, [batch]))


def spread_factors(channels, *, seed=0):
    normal = torch.randn(channels, generator=torch.Generator().manual_seed(seed))
    return (SPREAD * normal.double()).exp()


def badly_scaled(model):
    """The same function, with the output channels of a and b at very different scales."""
    with torch.no_grad():
        for seed, (layer, reader) in enumerate(((model.a, model.b), (model.b, model.linear))):
            factors = spread_factors(layer.out_channels, seed=seed).float()
            layer.weight *= factors.view(-1, 1, 1, 1)
            layer.bias *= factors
            reader.weight /= factors.view(1, -1, *(1,) * (reader.weight.dim() - 2))
    return model


def output_sqnr_db(model, **options):
    quantized = quantize_traced(model, [images(64)], observer="minmax", **options)
    return measure_errors(quantized.exact, quantized.integers, images(64, seed=2))[-1].sqnr_db


@pytest.mark.parametrize("function", FUNCTIONS)
def test_outputs_stay_the_same(function):
    graph = lowered(network(function))
    equalized = equalize(graph, [images()])
    before, after = (outputs(each, images()) for each in (graph, equalized))
    # float64 rounds by 2**-53 an operation. A value passes fewer than 1,000 of them, and its terms
    # are less than 100 times the largest output: 1e-11 of that. A channel that is enlarged to a
    # bound was measured in float32, whose rounding is 2**-24.
    tolerance = 1e-6 if function in (mobile, bounded) else 1e-11
    assert (before - after).abs().max() < tolerance * before.abs().max()
    moved = [(scales - 1).abs().max() > 0.1 for scales in scales_of(graph, images()).values()]
    assert any(moved)


def test_outputs_of_other_images_stay_the_same_without_bounds():
    graph = lowered(network(shortcuts))
    equalized = equalize(graph, [images()])
    before, after = (outputs(each, 10 * images(seed=2)) for each in (graph, equalized))
    # As above.
    assert (before - after).abs().max() < 1e-11 * before.abs().max()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_input_and_output_keep_their_scale(function):
    graph = lowered(network(function))
    scales = scales_of(graph, images())
    assert (scales[graph.input.name] == 1).all()
    assert (scales[graph.layers[-1].output.name] == 1).all()


def test_ranges_of_tensors_stay_the_same():
    graph = lowered(network(shortcuts))
    before, after = (tensors(each, images()) for each in (graph, equalize(graph, [images()])))
    for name, values in before.items():
        # As for outputs; ranges are those of float32, 2**-24 a rounding.
        assert after[name].max() == pytest.approx(float(values.max()), rel=1e-5)


def test_depthwise_convolutions_let_their_channels_fill_the_range():
    def depthwise(m, x):
        return m.b(m.d(torch.relu(m.a(x))))

    graph = lowered(network(depthwise))
    values = tensors(equalize(graph, [images()]), images())["a"]
    reach = values.amax(dim=(0, 2, 3))
    # Measured in float32, whose rounding is 2**-24 an operation.
    torch.testing.assert_close(reach, reach.max().expand(16), rtol=1e-5, atol=0)


def test_channels_that_reach_a_bound_keep_their_scale_and_others_stay_below():
    graph = lowered(network(mobile))
    scales, extremes = scales_of(graph, images()), measure_channels(graph, [images()])
    seen = 0
    for layer in graph.layers:
        if layer.high != 6.0:
            continue
        highest, factors = extremes[layer.output.name].high, scales[layer.output.name]
        reaches = highest == 6.0
        seen += int(reaches.sum())
        assert (factors[reaches] == 1).all()
        assert (factors <= 1).all()
        assert (highest / factors <= 6.0 * (1 + 1e-12)).all()  # a division's rounding
    assert seen


@pytest.mark.parametrize("low", [-math.inf, 0.0])
def test_clamp_that_begins_at_another_number_than_zero_keeps_its_channels(low):
    graph = lowered(network(chain))
    first, *others = graph.layers
    graph = replace(graph, layers=(replace(first, low=0.1), *others))
    assert (scales_of(graph, images())["a"] == 1).all()
    # The bound is what holds them.
    graph = replace(graph, layers=(replace(first, low=low), *others))
    assert not (scales_of(graph, images())["a"] == 1).all()


def test_balance_does_not_depend_on_the_scales_that_a_network_comes_with():
    graph = lowered(network(shortcuts))
    names = [layer.output.name for layer in graph.layers[:-1] if not layer.copies]
    factors = {name: spread_factors(16, seed=seed) for seed, name in enumerate(names)}
    scales, expected = (scales_of(each, images()) for each in (rescale(graph, factors), graph))
    for name in names:
        # A tensor's range stays what it is, so tensors may differ by one factor each.
        ratio = scales[name] * factors[name] / expected[name]
        # What 50 halvings leave of the way, and ranges that are measured in float32.
        torch.testing.assert_close(ratio, ratio[:1].expand(16), rtol=1e-4, atol=0)


def test_all_layers_that_read_a_tensor_count():
    functions = (
        lambda m, x: m.b(torch.relu(m.a(x))),
        lambda m, x: m.b(y := torch.relu(m.a(x))) + m.c(y),
        lambda m, x: m.c(y := torch.relu(m.a(x))) + m.b(y),
    )
    alone, first, second = (
        scales_of(lowered(network(function)), images())["a"] for function in functions
    )
    torch.testing.assert_close(first, second, rtol=1e-9, atol=0)  # sums in another order
    assert (first / alone - 1).abs().max() > 0.01


def test_badly_scaled_channels_cost_nothing_any_more():
    well = output_sqnr_db(network(chain))
    badly = output_sqnr_db(badly_scaled(network(chain)))
    equalized = output_sqnr_db(badly_scaled(network(chain)), equalize=True)
    assert badly < well - 30
    assert equalized > well - 1


def test_badly_scaled_channels_cost_nothing_any_more_with_four_bits():
    badly = output_sqnr_db(badly_scaled(network(chain)), weight_bits=4)
    equalized = output_sqnr_db(badly_scaled(network(chain)), weight_bits=4, equalize=True)
    assert equalized > badly + 15


def test_resnet20_with_badly_scaled_blocks_is_as_good_as_before():
    model = zoo.build("resnet20-dense")
    with torch.no_grad():
        for seed, block in enumerate((*model.layer1, *model.layer2, *model.layer3)):
            factors = spread_factors(block.bn1.num_features, seed=seed).float()
            block.bn1.weight *= factors
            block.bn1.bias *= factors
            block.conv2.weight /= factors.view(1, -1, 1, 1)
    sample = cifar10.load_sample()
    calibration = [cifar10.normalize(sample.calibration.images[:64])]
    test = cifar10.normalize(sample.test.images[:32])
    ratios = []
    for options in ({}, {"equalize": True}):
        quantized = quantize_traced(model, calibration, **options)
        ratios.append(measure_errors(quantized.exact, quantized.integers, test)[-1].sqnr_db)
    assert ratios[0] < 15
    assert ratios[1] > 28


def test_pruned_weights_stay_zero():
    model = network(shortcuts)
    prune_pattern(model, "4:16")
    graph = lowered(model)
    for layer, before in zip(equalize(graph, [images()]).layers, graph.layers, strict=True):
        for source, original in zip(layer.sources, before.sources, strict=True):
            assert torch.equal(source.weight == 0, original.weight == 0)


def test_weights_of_a_dead_channel_do_not_widen_grids():
    model = network(chain)
    model.a.bias.data[3] = -100.0
    model.b.weight.data[:, 3] *= 1000
    weights = equalize(lowered(model), [images()]).layers[1].sources[0].weight
    norms = weights.square().sum(dim=(2, 3)).sqrt()
    others = [channel for channel in range(16) if channel != 3]
    # As wide as the widest other one in one filter, but for a rounding, and narrower in the rest.
    shares = norms[:, 3] / norms[:, others].amax(dim=1)
    assert shares.max() == pytest.approx(1.0, rel=1e-12)


def test_channel_that_nothing_reads_may_fill_the_range():
    model = network(chain)
    model.b.weight.data[:, 5] = 0.0
    reach = measure_channels(equalize(lowered(model), [images()]), [images()])["a"].reach
    assert reach[5] == pytest.approx(float(reach.max()), rel=1e-5)  # measured in float32


def test_tensor_that_is_always_zero_keeps_its_scale():
    model = network(chain)
    model.b.bias.data[:] = -100.0
    assert (scales_of(lowered(model), images())["b"] == 1).all()


def test_network_of_zeros_is_equalized_and_quantized():
    model = network(chain)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert not outputs(equalize(lowered(model), [images()]), images()).any()
    quantize(model, [images()], equalize=True)


def test_calibration_with_nan_is_refused_as_without_equalization():
    batch = torch.full((1, 3, 12, 12), math.nan)
    with pytest.raises(ValueError, match="tensor 'x' holds NaN"):
        quantize(network(chain), [batch], equalize=True)
