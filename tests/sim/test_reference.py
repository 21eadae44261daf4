"""The integer reference against a naive int64 model of one layer."""

import numpy as np
import pytest
import torch

from coprune_hw.contract.arithmetic import fixed_point, requantize
from coprune_sim import reference
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor


def naive_layer(layer, graph, values):
    """One multiplication after the other, in int64."""
    channels, height, width = layer.output.shape
    images = len(values[graph.input.name])
    start = np.iinfo(np.int64).min if layer.maximum else 0
    sums = np.full((images, channels, height, width), start, np.int64)
    for source in layer.sources:
        tensor, image = graph.tensor(source.tensor), values[source.tensor].astype(np.int64)
        group_inputs = source.weight.shape[1]
        group_outputs = channels // source.groups
        for output, i, ky, kx, y, x in np.ndindex(*source.weight.shape, height, width):
            weight = int(source.weight[output, i, ky, kx])
            channel = output // group_outputs * group_inputs + i
            row = y * source.stride + ky * source.dilation[0] - source.padding[0]
            column = x * source.stride + kx * source.dilation[1] - source.padding[1]
            if 0 <= row < tensor.height and 0 <= column < tensor.width:
                pixels = image[:, channel, row, column]
            else:
                pixels = np.int64(-128 if layer.maximum else tensor.zero)
            combine = np.maximum if layer.maximum else np.add
            place = sums[:, output, y, x]
            sums[:, output, y, x] = combine(place, pixels * weight)
    return requantize(
        sums,
        bias=layer.bias[:, None, None],
        multiplier=layer.multiplier[:, None, None],
        pre_shift=layer.pre_shift[:, None, None],
        post_shift=layer.post_shift[:, None, None],
        zero=layer.output.zero,
        low=layer.low,
        high=layer.high,
    )


def random_layer(rng, sources, *, output, maximum=False, low=-128, high=127):
    channels = output.channels
    factors = [
        fixed_point(scale, output_reach=255, accumulator_bound=1 << 24)
        for scale in rng.uniform(0.001, 0.05, channels)
    ]
    return Layer(
        name=output.name,
        operation="conv2d",
        output=output,
        sources=tuple(sources),
        bias=rng.integers(-2000, 2000, channels),
        multiplier=np.array([factor.multiplier for factor in factors]),
        pre_shift=np.array([factor.pre_shift for factor in factors]),
        post_shift=np.array([factor.post_shift for factor in factors]),
        low=low,
        high=high,
        maximum=maximum,
    )


def random_weight(rng, *shape, largest=127):
    return rng.integers(-largest, largest + 1, shape).astype(np.int16)


def check(graph, *, seed, images=2):
    rng = np.random.default_rng(seed)
    inputs = rng.integers(-128, 128, (images, *graph.input.shape)).astype(np.int8)
    results = reference.run(graph, inputs, keep_layers=True)
    values = {graph.input.name: inputs}
    for layer in graph.layers:
        expected = naive_layer(layer, graph, values)
        result = results[layer.name]
        assert result.dtype == np.int8
        differing = np.argwhere(result != expected)
        if len(differing):
            place = tuple(differing[0])
            pytest.fail(f"{layer.name} {place}: {result[place]}, not {expected[place]}")
        values[layer.output.name] = result
    np.testing.assert_array_equal(reference.run(graph, inputs), results[graph.layers[-1].name])


CASES = {
    "plain": dict(inputs=3, outputs=5, kernel=(3, 3), padding=(1, 1), output=(7, 6)),
    "unpadded": dict(inputs=3, outputs=4, kernel=(3, 2), output=(5, 5)),
    "stride 2": dict(inputs=4, outputs=6, kernel=(3, 3), stride=2, padding=(1, 1), output=(4, 3)),
    "stride 4": dict(inputs=2, outputs=3, kernel=(3, 3), stride=4, padding=(1, 1), output=(2, 2)),
    "dilation": dict(
        inputs=2, outputs=3, kernel=(3, 2), dilation=(2, 3), padding=(2, 1), output=(7, 5)
    ),
    "groups": dict(inputs=4, outputs=6, groups=2, kernel=(3, 3), padding=(1, 1), output=(7, 6)),
    "depthwise": dict(inputs=4, outputs=4, groups=4, kernel=(3, 3), padding=(1, 1), output=(7, 6)),
    "strided depthwise": dict(
        inputs=4, outputs=4, groups=4, kernel=(3, 3), stride=2, padding=(1, 0), output=(4, 2)
    ),
    "channel multiplier": dict(inputs=3, outputs=6, groups=3, kernel=(1, 3), output=(7, 4)),
    "more padding below and right": dict(
        inputs=2, outputs=3, kernel=(2, 4), padding=(0, 1), output=(9, 8)
    ),
    "rows and columns left over": dict(inputs=2, outputs=3, kernel=(1, 1), output=(3, 4)),
    "whole image": dict(inputs=3, outputs=4, kernel=(7, 6), output=(1, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_convolution_equals_the_naive_sum(case):
    rng = np.random.default_rng(sum(map(ord, case)))
    shape = dict(CASES[case])
    inputs, outputs, kernel = shape.pop("inputs"), shape.pop("outputs"), shape.pop("kernel")
    height, width = shape.pop("output")
    image = Tensor("image", inputs, 7, 6, scale=1.0, zero=int(rng.integers(-128, 128)))
    weight = random_weight(rng, outputs, inputs // shape.get("groups", 1), *kernel)
    source = Source(tensor="image", weight=weight, **shape)
    layer = random_layer(
        rng, [source], output=Tensor("layer", outputs, height, width, scale=1.0, zero=-20), low=-20
    )
    check(IntegerGraph(image, (layer,)), seed=1)


def test_sources_of_different_tensors_add_up_before_one_requantization():
    rng = np.random.default_rng(2)
    image = Tensor("image", 4, 8, 8, scale=1.0, zero=-128)
    middle = Tensor("middle", 4, 4, 4, scale=1.0, zero=17)
    last = Tensor("last", 6, 4, 4, scale=1.0, zero=3)
    first = Source("image", random_weight(rng, 4, 4, 3, 3), stride=2, padding=(1, 1))
    main = Source("middle", random_weight(rng, 6, 4, 3, 3), padding=(1, 1))
    selection = np.zeros((6, 4, 1, 1), np.int16)
    selection[1:5, :, 0, 0] = np.diag([2047, 1, 300, 2000])
    shortcut = Source("image", selection, stride=2)
    layers = (
        random_layer(rng, [first], output=middle),
        random_layer(rng, [main, shortcut], output=last, high=90),
    )
    check(IntegerGraph(image, layers), seed=3)


def test_depthwise_identity_is_one_of_several_sources():
    rng = np.random.default_rng(4)
    image = Tensor("image", 4, 5, 5, scale=1.0, zero=-3)
    main = Source("image", random_weight(rng, 4, 4, 3, 3), padding=(1, 1))
    identity = Source("image", random_weight(rng, 4, 1, 1, 1, largest=2047), groups=4)
    layer = random_layer(rng, [main, identity], output=Tensor("sum", 4, 5, 5, 1.0, -128))
    check(IntegerGraph(image, (layer,)), seed=5)


@pytest.mark.parametrize(
    ("stride", "padding", "output"),
    [(2, (0, 0), (4, 3)), (2, (1, 1), (4, 4)), (1, (1, 0), (7, 5)), (4, (1, 1), (2, 2))],
)
def test_maximum_ignores_pixels_outside_the_image(stride, padding, output):
    rng = np.random.default_rng(6)
    image = Tensor("image", 3, 7, 6, scale=1.0, zero=50)
    source = Source("image", np.ones((3, 1, 3, 3), np.int16), 3, stride, padding)
    layer = random_layer(
        rng, [source], output=Tensor("maximum", 3, *output, scale=1.0, zero=50), maximum=True
    )
    check(IntegerGraph(image, (layer,)), seed=7)


def test_sums_beyond_24_bits_stay_exact():
    rng = np.random.default_rng(8)
    image = Tensor("image", 1200, 1, 1, scale=1.0, zero=0)
    weight = np.full((2, 1200, 1, 1), 127, np.int16)
    weight[1, ::2] = -126
    layer = random_layer(
        rng, [Source("image", weight)], output=Tensor("wide", 2, 1, 1, scale=1.0, zero=0)
    )
    assert reference.exact_float(layer) == torch.float64
    check(IntegerGraph(image, (layer,)), seed=9)


def test_worst_sum_is_reached_and_never_exceeded():
    rng = np.random.default_rng(10)
    weight = random_weight(rng, 5, 3, 3, 3)
    worst = reference.worst_sum(weight)
    flat = weight.reshape(5, -1).astype(np.int64)
    one_signed = np.abs(flat) @ np.full(27, -128)
    np.testing.assert_array_equal(np.abs(one_signed), worst)
    inputs = rng.choice([-128, 127], (27, 1000))
    partial_sums = np.cumsum(flat[:, :, None] * inputs, axis=1)
    assert (np.abs(partial_sums).max(axis=(1, 2)) <= worst).all()


@pytest.mark.parametrize(
    ("total", "dtype"), [((1 << 17) - 1, torch.float32), (1 << 17, torch.float64)]
)
def test_float32_is_used_up_to_the_last_sum_it_holds(total, dtype):
    weight = np.zeros((1, 100, 4, 4), np.int16)
    weight.flat[: total // 127] = 127
    weight.flat[total // 127] = total % 127
    rng = np.random.default_rng(11)
    output = Tensor("sum", 1, 1, 1, scale=1.0, zero=0)
    layer = random_layer(rng, [Source("image", weight)], output=output)
    assert reference.exact_float(layer) == dtype


def test_many_images_equal_the_same_images_one_by_one():
    rng = np.random.default_rng(12)
    image = Tensor("image", 3, 4, 4, scale=1.0, zero=-7)
    source = Source("image", random_weight(rng, 4, 3, 3, 3), padding=(1, 1))
    layer = random_layer(rng, [source], output=Tensor("layer", 4, 4, 4, scale=1.0, zero=0))
    graph = IntegerGraph(image, (layer,))
    count = 2 * reference.BATCH_IMAGES + 3
    inputs = rng.integers(-128, 128, (count, 3, 4, 4)).astype(np.int8)
    one_by_one = np.concatenate([reference.run(graph, inputs[i : i + 1]) for i in range(count)])
    np.testing.assert_array_equal(reference.run(graph, inputs), one_by_one)


def small_graph():
    rng = np.random.default_rng(13)
    image = Tensor("image", 3, 4, 4, scale=1.0, zero=0)
    source = Source("image", random_weight(rng, 2, 3, 1, 1))
    return IntegerGraph(
        image, (random_layer(rng, [source], output=Tensor("layer", 2, 4, 4, 1.0, 0)),)
    )


def test_other_number_formats_are_refused():
    with pytest.raises(TypeError, match=r"must be int8, not torch\.float32"):
        reference.run(small_graph(), np.zeros((1, 3, 4, 4), np.float32))


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \[N, 3, 4, 4\], not \[1, 3, 5, 4\]"):
        reference.run(small_graph(), np.zeros((1, 3, 5, 4), np.int8))
