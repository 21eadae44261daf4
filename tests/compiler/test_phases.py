"""Layers over dilated images in phases: together they are the layer, and cost no zeros."""

from dataclasses import replace

import numpy as np
import pytest

from coprune.compiler.phases import PhaseLayer, split_phases
from coprune_sim import reference
from coprune_sim.graph import IntegerGraph, Layer

from ..graphs import GraphBuilder, residual_graph, upsampling_graph


def draw_graph(seed: int) -> IntegerGraph:
    """One layer over an image with zeros in between, its zero point not 0."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(3, tuple(int(size) for size in rng.integers(1, 6, 2)), seed=seed)
    kernel = [int(taps) for taps in rng.integers(1, 6, 2)]
    source = replace(
        builder.transposed("input", 4, 1),
        weight=builder.weight(4, 3, *kernel),
        padding=tuple(int(rng.integers(-1, taps + 1)) for taps in kernel),
        dilation=tuple(int(step) for step in rng.integers(1, 4, 2)),
    )
    builder.add(source, size=[int(size) for size in rng.integers(1, 12, 2)])
    return builder.graph()


def as_plain(part: PhaseLayer) -> Layer:
    """The phase as a layer of its own, whose output has the pixels that it computes."""
    height, width = part.computed
    plain = {name: getattr(part, name) for name in Layer.__dataclass_fields__}
    return Layer(**{**plain, "output": replace(part.output, height=height, width=width)})


@pytest.mark.parametrize("seed", range(30))
def test_phases_put_together_are_the_layer(seed):
    graph = draw_graph(seed)
    split, numbers = split_phases(graph)
    pixels = (
        np.random.default_rng(seed).integers(-128, 128, (2, *graph.input.shape)).astype(np.int8)
    )
    expected = reference.run(graph, pixels)
    result = np.zeros_like(expected)
    written = np.zeros(expected.shape[2:], int)
    for part in split.layers:
        row, column = part.phase
        result[:, :, row::2, column::2] = reference.run(
            IntegerGraph(graph.input, (as_plain(part),)), pixels
        )
        written[row::2, column::2] += 1
    assert np.array_equal(result, expected)
    assert (written == 1).all()
    assert numbers == (0,) * len(split.layers)


@pytest.mark.parametrize("dilation", [1, 3])
def test_every_tap_belongs_to_one_phase(dilation):
    builder = GraphBuilder(5, (6, 7), seed=1)
    source = builder.transposed("input", 4, 4, dilation=(dilation, dilation))
    builder.add(source)
    split, _ = split_phases(builder.graph())
    parts = [part.sources[0] for part in split.layers]
    assert all(part.input_dilation == 1 for part in parts)
    assert sum(part.weight.size for part in parts) == source.weight.size
    assert sum(part.weight.sum() for part in parts) == source.weight.sum()


def test_taps_that_are_an_even_distance_apart_are_all_in_one_phase():
    builder = GraphBuilder(5, (6, 7), seed=1)
    builder.add(builder.transposed("input", 4, 3, dilation=(2, 2), padding=(2, 2)))
    split, _ = split_phases(builder.graph())
    weights = {part.phase: part.sources[0].weight for part in split.layers}
    assert weights[0, 0].shape == (4, 5, 3, 3)
    for phase in ((0, 1), (1, 0), (1, 1)):
        assert not weights[phase].any()


def test_other_layers_stay_as_they_are():
    graph = residual_graph()
    split, numbers = split_phases(graph)
    assert all(part is layer for part, layer in zip(split.layers, graph.layers, strict=True))
    assert numbers == tuple(range(len(graph.layers)))


def test_layers_are_numbered_by_the_one_that_they_are_a_part_of():
    graph = upsampling_graph()
    split, numbers = split_phases(graph)
    assert [split.layers[place].name for place in range(len(numbers))] == [
        graph.layers[number].name for number in numbers
    ]
    parts = [numbers.count(number) for number in range(len(graph.layers))]
    assert parts == [4 if layer.input_dilation == 2 else 1 for layer in graph.layers]


def test_single_row_has_the_phases_of_its_columns():
    builder = GraphBuilder(3, (1, 4), seed=1)
    source = replace(builder.transposed("input", 2, 1), weight=builder.weight(2, 3, 1, 2))
    builder.add(source, size=(1, 8))
    split, _ = split_phases(builder.graph())
    assert [part.phase for part in split.layers] == [(0, 0), (0, 1)]


def add_to(builder: GraphBuilder, *sources, **more) -> IntegerGraph:
    builder.add(*sources, size=(8, 8), **more)
    return builder.graph()


def test_distance_of_three_is_refused():
    builder = GraphBuilder(3, (4, 4), seed=1)
    graph = add_to(builder, builder.conv("input", 4, input_dilation=3))
    with pytest.raises(ValueError, match=r"'layer0': the input dilation .* must be 1 or 2 .*\[3\]"):
        split_phases(graph)


def test_different_distances_in_one_layer_are_refused():
    builder = GraphBuilder(3, (4, 4), seed=1)
    graph = add_to(builder, builder.transposed("input", 4), builder.conv("input", 4))
    with pytest.raises(ValueError, match=r"'layer0': .* the same for all, not \[1, 2\]"):
        split_phases(graph)


@pytest.mark.parametrize(("stride", "maximum"), [(1, True), (2, False)])
def test_maximum_or_stride_over_a_dilated_image_is_refused(stride, maximum):
    builder = GraphBuilder(4, (4, 4), seed=1)
    source = builder.window("input", (2, 2), input_dilation=2, stride=stride)
    graph = add_to(builder, source, maximum=maximum)
    with pytest.raises(ValueError, match=r"'layer0': .* must be a sum with stride 1"):
        split_phases(graph)
