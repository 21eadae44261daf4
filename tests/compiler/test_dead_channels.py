"""Channels that no output depends on go; everything else stays as it was."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from coprune.compiler.dead_channels import remove_dead_channels
from coprune.compiler.lowering import lower, transform
from coprune.program import count_cycles
from coprune_sim import machine, reference
from coprune_sim.graph import IntegerGraph, Layer

from ..end_to_end.configurations import SMALL
from ..graphs import GRAPHS, GraphBuilder, random_graph


def channels(graph: IntegerGraph) -> list[int]:
    return [layer.output.channels for layer in graph.layers]


def random_pixels(graph: IntegerGraph) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-128, 128, (2, *graph.input.shape)).astype(np.int8)


def assert_same_output(graph: IntegerGraph, other: IntegerGraph) -> None:
    pixels = random_pixels(graph)
    np.testing.assert_array_equal(reference.run(graph, pixels), reference.run(other, pixels))


def change_layer(graph: IntegerGraph, index: int, change: Callable[[Layer], Layer]) -> IntegerGraph:
    layers = list(graph.layers)
    layers[index] = change(layers[index])
    return replace(graph, layers=tuple(layers))


def prune_outputs(layer: Layer, outputs, *, bias: int | None = None) -> Layer:
    """Zero rows of weights; with `bias`, also choose what the channels become."""
    sources = []
    for source in layer.sources:
        weight = source.weight.copy()
        weight[outputs] = 0
        sources.append(replace(source, weight=weight))
    biases = layer.bias.copy()
    if bias is not None:
        biases[outputs] = bias
    return replace(layer, sources=tuple(sources), bias=biases)


def prune_inputs(layer: Layer, inputs) -> Layer:
    weight = layer.sources[0].weight.copy()
    weight[:, inputs] = 0
    return replace(layer, sources=(replace(layer.sources[0], weight=weight), *layer.sources[1:]))


def chain(*, kernel: int) -> IntegerGraph:
    """Three convolutions, the middle one 20 channels wide."""
    builder = GraphBuilder(5, (6, 7), seed=1)
    x = builder.add(builder.conv("input", 20))
    builder.add(builder.conv(builder.add(builder.conv(x, 20, kernel)), 6, kernel))
    return builder.graph()


def test_graph_without_dead_channels_is_returned_as_it_is():
    graph = chain(kernel=3)
    assert remove_dead_channels(graph) is graph


def test_channels_without_readers_are_removed():
    graph = change_layer(chain(kernel=3), 2, lambda layer: prune_inputs(layer, [0, 3, 19]))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [20, 17, 6]
    assert_same_output(graph, smaller)


def test_what_only_dead_channels_read_is_removed_too():
    graph = change_layer(chain(kernel=3), 2, lambda layer: prune_inputs(layer, range(1, 20)))
    graph = change_layer(graph, 1, lambda layer: prune_inputs(layer, range(5, 20)))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [5, 1, 6]
    assert_same_output(graph, smaller)


def test_constant_channels_become_biases_of_readers_that_stay_inside():
    graph = change_layer(chain(kernel=1), 1, lambda layer: prune_outputs(layer, [2, 7]))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [20, 18, 6]
    assert (smaller.layers[2].bias != graph.layers[2].bias).any()
    assert_same_output(graph, smaller)


def test_constants_of_constants_are_constants():
    graph = change_layer(chain(kernel=1), 0, lambda layer: prune_outputs(layer, range(20)))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [1, 1, 6]
    assert_same_output(graph, smaller)


def test_constants_stay_where_a_reader_sees_the_border():
    graph = change_layer(chain(kernel=3), 1, lambda layer: prune_outputs(layer, [2], bias=10**6))
    assert remove_dead_channels(graph) is graph


def test_constants_at_the_zero_point_go_even_there():
    graph = change_layer(chain(kernel=3), 1, lambda layer: prune_outputs(layer, [2, 5], bias=0))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [20, 18, 6]
    assert_same_output(graph, smaller)


def test_shortcuts_keep_a_channel_that_one_side_needs():
    builder = GraphBuilder(4, (6, 6), seed=2)
    x = builder.add(builder.conv("input", 12))
    y = builder.add(builder.conv(x, 12), builder.shortcut(x))
    builder.add(builder.conv(y, 3))
    graph = change_layer(builder.graph(), 2, lambda layer: prune_inputs(layer, [1, 2]))
    assert remove_dead_channels(graph) is graph
    graph = change_layer(graph, 1, lambda layer: prune_inputs(layer, [2]))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [11, 11, 3]
    assert_same_output(graph, smaller)


def test_pooling_follows_its_source():
    builder = GraphBuilder(4, (8, 8), seed=3)
    x = builder.add(builder.conv("input", 12))
    x = builder.add(builder.window(x, (3, 3), padding=(1, 1), stride=2), maximum=True)
    builder.add(builder.conv(x, 3, 1))
    graph = change_layer(builder.graph(), 0, lambda layer: prune_outputs(layer, [4], bias=-(10**9)))
    assert remove_dead_channels(graph) is graph
    graph = change_layer(graph, 2, lambda layer: prune_inputs(layer, [4, 5]))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [10, 10, 3]
    assert_same_output(graph, smaller)


def test_maximum_passes_a_constant_on():
    builder = GraphBuilder(4, (8, 8), seed=3)
    x = builder.add(builder.conv("input", 12))
    x = builder.add(builder.window(x, (2, 2), stride=2), maximum=True)
    builder.add(builder.conv(x, 3, 1))
    graph = change_layer(builder.graph(), 0, lambda layer: prune_outputs(layer, [4, 9]))
    smaller = remove_dead_channels(graph)
    assert channels(smaller) == [10, 10, 3]
    assert_same_output(graph, smaller)


def test_grouped_convolutions_keep_all_channels():
    builder = GraphBuilder(4, (6, 6), seed=4)
    x = builder.add(builder.conv("input", 12))
    builder.add(builder.conv(builder.add(builder.conv(x, 12, groups=3)), 3))
    graph = change_layer(builder.graph(), 2, lambda layer: prune_inputs(layer, [0, 1]))
    assert remove_dead_channels(graph) is graph


def prune_structured(graph: IntegerGraph, *, share: float) -> IntegerGraph:
    """Zero a share of the output channels of every layer but the last and the maxima."""
    rng = np.random.default_rng(5)
    layers = list(graph.layers)
    for index, layer in enumerate(layers[:-1]):
        if not layer.maximum:
            dead = np.flatnonzero(rng.random(layer.output.channels) < share)
            layers[index] = prune_outputs(layer, dead, bias=0)
    return replace(graph, layers=tuple(layers))


NETWORKS = GRAPHS | {
    f"random {seed}": lambda seed=seed: random_graph(seed=seed) for seed in range(12)
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_outputs_of_networks_do_not_change(network, share):
    graph = transform(prune_structured(NETWORKS[network](), share=share))
    smaller = remove_dead_channels(graph)
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in graph.layers]
    assert sum(channels(smaller)) <= sum(channels(graph))
    assert_same_output(graph, smaller)
    pixels = random_pixels(graph)[0]
    run = machine.run(lower(smaller, SMALL), pixels)
    np.testing.assert_array_equal(run.output, reference.run(graph, pixels[None])[0])


def test_compiler_leaves_them_out_where_that_saves_cycles():
    graph = prune_structured(GRAPHS["residual"](), share=0.6)
    given, smaller = (
        count_cycles(graph, SMALL, channel_order=order).total.cycles for order in (False, True)
    )
    assert smaller < 0.8 * given


def test_structured_pruning_saves_channel_tiles():
    graph = prune_structured(GRAPHS["residual"](), share=0.6)
    tiles = [
        sum(-(-count // SMALL.lanes) for count in channels(shrunk))
        for shrunk in (graph, remove_dead_channels(graph))
    ]
    assert tiles[1] < tiles[0]
