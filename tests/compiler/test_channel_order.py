"""Other orders of channels: the same values, in fewer cycles."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from coprune.compiler.channel_order import (
    Orders,
    estimate_cycles,
    find_orders,
    order_channels,
    reorder,
)
from coprune.compiler.lowering import arrange_channels, lower, transform
from coprune.compiler.streams import build_streams
from coprune.program import compile_graph, count_cycles
from coprune_hw.contract import AcceleratorConfig
from coprune_sim import machine, reference
from coprune_sim.graph import IntegerGraph, Source

from ..end_to_end.configurations import NARROW, SMALL
from ..graphs import GRAPHS, GraphBuilder, random_graph, residual_graph


def concatenation_graph(*, density: float = 0.3) -> IntegerGraph:
    """A fire module behind a pooled convolution, and a shortcut into its end."""
    builder = GraphBuilder(3, (9, 8), seed=6)
    x = builder.add(builder.conv("input", 40, density=density))
    x = builder.add(builder.window(x, (3, 3), padding=(1, 1), stride=2), maximum=True)
    squeezed = builder.add(builder.conv(x, 24, 1, density=density))
    left = builder.add(builder.conv(squeezed, 20, 1, density=density))
    right = builder.add(builder.conv(squeezed, 36, density=density))
    sides = [
        builder.selection(left, 56, first=0),
        builder.selection(right, 56, first=20),
    ]
    x = builder.add(*sides)
    x = builder.add(builder.conv(x, 56, 1, density=density), builder.shortcut(x))
    builder.add(builder.conv(x, 9))
    return builder.graph()


def wide_graph(*, density: float = 0.25) -> IntegerGraph:
    """Convolutions of 64 channels pruned at random, with a shortcut over two of them."""
    builder = GraphBuilder(3, (8, 8), seed=7)
    x = builder.add(builder.conv("input", 64))
    y = builder.add(builder.conv(x, 64, density=density))
    x = builder.add(builder.conv(y, 64, density=density), builder.shortcut(x))
    y = builder.add(builder.conv(x, 64, density=density))
    builder.add(builder.conv(y, 10, 1))
    return builder.graph()


def patterned_graph(*, lanes: int) -> IntegerGraph:
    """Every output channel has a quarter of the weights of each group of input channels."""
    builder = GraphBuilder(lanes, (8, 8), seed=8)
    x = builder.add(builder.conv("input", 4 * lanes))
    for _ in range(2):
        source = builder.conv(x, 4 * lanes)
        groups = source.weight.reshape(4 * lanes, 4, lanes, 3, 3)
        kept = builder.rng.random(groups.shape).argsort(axis=2) < lanes // 4
        weight = np.where(kept, np.where(groups == 0, 1, groups), 0).reshape(source.weight.shape)
        x = builder.add(replace(source, weight=weight.astype(np.int16)))
    builder.add(builder.conv(x, 4))
    return builder.graph()


NETWORKS = {
    **GRAPHS,
    "concatenation": concatenation_graph,
    "wide": wide_graph,
    **{f"random {seed}": lambda seed=seed: random_graph(seed=seed) for seed in range(12)},
}
CONFIGS = {"8x4": SMALL, "16x2": NARROW}


def random_pixels(graph: IntegerGraph) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-128, 128, (2, *graph.input.shape)).astype(np.int8)


def count_slots(graph: IntegerGraph, config: AcceleratorConfig) -> int:
    return sum(int(build_streams(layer, lanes=config.lanes).counts.sum()) for layer in graph.layers)


@cache
def prepare(network: str, config: str) -> tuple[IntegerGraph, Orders]:
    """A graph, and orders of its channels."""
    graph = transform(NETWORKS[network]())
    return graph, find_orders(graph, config=CONFIGS[config])


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("network", NETWORKS)
class TestEveryNetwork:
    def test_layers_are_permuted_and_nothing_else(self, network, config):
        graph, orders = prepare(network, config)
        ordered = reorder(graph, orders)
        pixels = random_pixels(graph)
        expected = reference.run(graph, pixels, keep_layers=True)
        result = reference.run(ordered, pixels, keep_layers=True)
        assert list(result) == list(expected)
        for layer in graph.layers:
            name = layer.output.name
            order = orders.get(name, np.arange(layer.output.channels))
            assert sorted(order) == list(range(layer.output.channels))
            np.testing.assert_array_equal(
                result[layer.name], expected[layer.name][:, order], err_msg=name
            )
        np.testing.assert_array_equal(
            result[graph.layers[-1].name], expected[graph.layers[-1].name]
        )

    def test_cycles_are_estimated_to_be_no_more(self, network, config):
        graph, orders = prepare(network, config)
        ordered = reorder(graph, orders)
        given, found = (estimate_cycles(each, config=CONFIGS[config]) for each in (graph, ordered))
        assert found < given if orders else found == given

    def test_dense_program_takes_no_more(self, network, config):
        graph, _ = prepare(network, config)
        options = {"config": CONFIGS[config], "skip_zeros": False}
        ordered = order_channels(graph, **options)
        assert estimate_cycles(ordered, **options) <= estimate_cycles(graph, **options)


@pytest.mark.parametrize("network", NETWORKS)
def test_cycles_are_never_more(network):
    graph = NETWORKS[network]()
    given = count_cycles(graph, SMALL).total.cycles
    assert count_cycles(graph, SMALL, channel_order=True).total.cycles <= given


@pytest.mark.parametrize("network", ["residual", "concatenation", "wide", "random 3"])
def test_instruction_simulator_computes_the_same_output(network):
    graph = NETWORKS[network]()
    pixels = random_pixels(graph)
    program = compile_graph(graph, SMALL, channel_order=True)
    run = machine.run(program.machine, pixels[0])
    np.testing.assert_array_equal(run.output, reference.run(graph, pixels[:1])[0])
    for name, layer in reference.run(program.graph, pixels[:1], keep_layers=True).items():
        np.testing.assert_array_equal(run.layers[name], layer[0], err_msg=name)


def test_search_is_deterministic():
    graph = transform(wide_graph())
    first, second = (find_orders(graph, config=SMALL) for _ in range(2))
    assert first
    assert list(first) == list(second)
    for name, order in first.items():
        np.testing.assert_array_equal(order, second[name])


def test_unstructured_weights_gain_slots_and_cycles():
    graph = transform(wide_graph())
    ordered = order_channels(graph, config=NARROW)
    assert count_slots(ordered, NARROW) < 0.95 * count_slots(graph, NARROW)
    cycles = [count_cycles(each, NARROW).total.cycles for each in (graph, ordered)]
    assert cycles[1] < 0.95 * cycles[0]


def test_lanes_with_many_weights_come_together():
    """Every second output channel is dense, the others nearly empty."""
    builder = GraphBuilder(16, (8, 8), seed=9)
    source = builder.conv("input", 64)
    source.weight[1::2, 1:] = 0
    x = builder.add(source)
    builder.add(builder.conv(x, 5, 1))
    graph = builder.graph()
    ordered = order_channels(graph, config=NARROW)
    counts = build_streams(ordered.layers[0], lanes=NARROW.lanes).counts
    assert sorted(counts // 9) == [1, 1, 16, 16]


def test_balance_of_one_tensor_serves_all_its_readers():
    """Every second channel is used by both readers: a word of those costs more than it saves."""
    builder = GraphBuilder(3, (8, 8), seed=10)
    x = builder.add(builder.conv("input", 32))
    readers = [builder.conv(x, 16) for _ in range(2)]
    for reader in readers:
        reader.weight[:8, :16] = 0
        reader.weight[8:, 16:] = 0
    first, second = (builder.add(reader) for reader in readers)
    builder.add(builder.conv(first, 4, 1), builder.conv(second, 4, 1))
    graph = builder.graph()
    ordered = order_channels(graph, config=NARROW)
    for index in (1, 2):
        given, balanced = (
            int(build_streams(each.layers[index], lanes=NARROW.lanes).counts.sum())
            for each in (graph, ordered)
        )
        assert balanced < 0.6 * given


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_patterns_of_groups_are_kept(config):
    graph = transform(patterned_graph(lanes=config.lanes))
    ordered = order_channels(graph, config=config)
    assert count_slots(ordered, config) <= count_slots(graph, config)
    for layer in ordered.layers[1:3]:
        tiles = 4 * 4 * 9 * config.lanes // 4
        assert build_streams(layer, lanes=config.lanes).counts.sum() == tiles


def test_shortcuts_that_move_channels_become_diagonal():
    graph = transform(residual_graph(size=8, density=0.3))
    ordered = reorder(graph, find_orders(graph, config=NARROW, skip_zeros=False))
    diagonal = []
    for each in (graph, ordered):
        streams = [build_streams(layer, lanes=NARROW.lanes) for layer in each.layers]
        diagonal.append(
            [
                bool(stream.diagonal[stream.blocks.source[stream.block] == 1].all())
                for layer, stream in zip(each.layers, streams, strict=True)
                if len(layer.sources) == 2
            ]
        )
    assert diagonal == [[True, False, True], [True, True, True]]


def test_copies_of_channels_move_with_them():
    graph = transform(concatenation_graph())
    orders = find_orders(graph, config=SMALL)
    pooled, convolved = (orders[graph.layers[index].output.name] for index in (1, 0))
    np.testing.assert_array_equal(pooled, convolved)


def test_refuses_to_permute_one_side_of_a_depthwise_convolution():
    builder = GraphBuilder(6, (4, 4), seed=11)
    x = builder.add(builder.depthwise("input"))
    builder.add(builder.conv(x, 3))
    with pytest.raises(ValueError, match="'layer0': its output and 'input' must keep"):
        reorder(builder.graph(), {x: np.arange(6)[::-1]})


def test_grouped_convolutions_keep_their_channels():
    builder = GraphBuilder(3, (6, 6), seed=12)
    x = builder.add(builder.conv("input", 32, density=0.3))
    y = builder.add(builder.conv(x, 32, groups=2, density=0.3))
    builder.add(builder.conv(y, 4))
    orders = find_orders(builder.graph(), config=SMALL)
    for name in (x, y):
        np.testing.assert_array_equal(orders.get(name, np.arange(32)), np.arange(32))


def test_network_that_fits_in_no_order_says_so_when_it_is_compiled():
    graph = transform(wide_graph())
    tiny = replace(SMALL, slot_depth=32)
    assert arrange_channels(graph, tiny) is graph
    with pytest.raises(ValueError, match="slot_depth is 32"):
        lower(arrange_channels(graph, tiny), tiny)


def test_one_channel_is_no_shortcut_to_many():
    builder = GraphBuilder(4, (6, 6), seed=13)
    x = builder.add(builder.conv("input", 1))
    y = builder.add(Source(x, builder.weight(32, 1, 1, 1)))
    builder.add(builder.conv(y, 20, density=0.3), Source(y, builder.weight(20, 32, 1, 1)))
    graph = builder.graph()
    ordered = order_channels(graph, config=SMALL)
    pixels = random_pixels(graph)
    np.testing.assert_array_equal(reference.run(ordered, pixels), reference.run(graph, pixels))
