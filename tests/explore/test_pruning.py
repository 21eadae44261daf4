"""Pruning of a quantized network: the budget, the choice of N, and what the integers become."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coprune.explore import prune_graph

from ..graphs import GraphBuilder, residual_graph


def two_layers():
    builder = GraphBuilder(8, (4, 4), seed=3)
    x = builder.add(builder.conv("input", 8))
    builder.add(builder.conv(x, 16, 1))
    return builder.graph()


def block_slots(weight, *, lanes):
    """Slots of each block [tiles, groups, rows, columns]: most weights of an output channel."""
    outputs, inputs = weight.shape[:2]
    padded = np.pad(weight, [(0, -outputs % lanes), (0, -inputs % lanes), (0, 0), (0, 0)])
    blocks = padded.reshape(
        len(padded) // lanes, lanes, padded.shape[1] // lanes, lanes, *weight.shape[2:]
    )
    return np.count_nonzero(blocks, axis=3).max(axis=1)


def slots(graph, *, lanes):
    """Of the layers that can be pruned."""
    return sum(
        block_slots(layer.sources[0].weight, lanes=lanes).sum()
        * layer.output.height
        * layer.output.width
        for layer in graph.layers
        if layer.name in prune_graph(graph, lanes=lanes, speedup=1).kept
    )


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("speedup", [1.5, 2, 3, 4, 8])
def test_largest_weights_are_kept_within_the_budget(lanes, speedup):
    graph = residual_graph(size=8)
    pruned = prune_graph(graph, lanes=lanes, speedup=speedup)
    assert 0.9 / speedup < slots(pruned.graph, lanes=lanes) / slots(graph, lanes=lanes)
    assert slots(pruned.graph, lanes=lanes) <= slots(graph, lanes=lanes) / speedup
    assert pruned.kept
    for layer, before in zip(pruned.graph.layers, graph.layers, strict=True):
        if layer.name not in pruned.kept:
            assert layer is before
            continue
        weight, whole = layer.sources[0].weight, before.sources[0].weight
        assert np.array_equal(weight[weight != 0], whole[weight != 0])
        # Zeros among the weights may take a slot.
        assert block_slots(weight, lanes=lanes).mean() <= pruned.kept[layer.name]
        step = np.ldexp(layer.multiplier, -(layer.pre_shift + layer.post_shift))
        scores = np.abs(whole * step[:, None, None, None])
        kept, removed = np.where(weight, scores, np.inf), np.where(weight, 0, scores)
        for output in range(len(weight)):
            for first in range(0, weight.shape[1], lanes):
                group = np.s_[output, first : first + lanes]
                assert (kept[group].min(axis=0) >= removed[group].max(axis=0)).all()


def test_the_choice_keeps_the_most_importance():
    builder = GraphBuilder(8, (4, 4), seed=3)
    x = builder.add(builder.conv("input", 8, 1))
    builder.add(builder.conv(x, 16, 1))
    graph = builder.graph()
    # A block of the first layer and two of the second: importance by number of slots.
    worth = []
    for layer in graph.layers:
        step = np.ldexp(layer.multiplier, -(layer.pre_shift + layer.post_shift))
        squares = (layer.sources[0].weight[:, :, 0, 0] * step[:, None]) ** 2
        shares = squares.size**0.25 * squares / squares.sum()
        for tile in -np.sort(-shares.reshape(-1, 8, 8), axis=2):
            worth.append(np.concatenate([[0], tile.sum(axis=0).cumsum()]))
    for speedup in (1.3, 2, 3, 5):
        best = max(
            sum(block[n] for block, n in zip(worth, ns, strict=True))
            for ns in itertools.product(range(9), repeat=3)
            if sum(ns) <= 24 / speedup and ns[0] and ns[1] + ns[2]
        )
        pruned = prune_graph(graph, lanes=8, speedup=speedup)
        whole = sum(block[-1] for block in worth)
        assert pruned.kept_importance == pytest.approx(best / whole, rel=1e-12)


def test_no_speedup_changes_nothing():
    graph = residual_graph(size=8)
    pruned = prune_graph(graph, lanes=8, speedup=1)
    assert pruned.graph is graph
    assert pruned.kept_importance == 1
    assert set(pruned.kept.values()) == {8}


def test_pruned_weights_count_as_zero_in_real_numbers():
    """The sums are those of the kept weights with the pixels less their zero point."""
    graph = two_layers()
    layer = graph.layers[0]
    assert graph.input.zero != 0
    pruned = prune_graph(graph, lanes=8, speedup=4).graph.layers[0]
    weight = torch.from_numpy(pruned.sources[0].weight.astype(np.int64))
    whole = torch.from_numpy(layer.sources[0].weight.astype(np.int64))
    assert int((weight != 0).sum()) < int((whole != 0).sum())
    bias = torch.from_numpy(layer.bias) + graph.input.zero * whole.sum(dim=(1, 2, 3))
    images = np.random.default_rng(0).integers(-128, 128, (2, *graph.input.shape)).astype(np.int8)
    pixels = torch.from_numpy(images.astype(np.int64)) - graph.input.zero
    sums = F.conv2d(pixels.double(), weight.double(), bias.double(), padding=1).long()
    zero = graph.input.zero
    stored = F.conv2d(
        F.pad(torch.from_numpy(images).double(), (1, 1, 1, 1), value=zero), weight.double()
    )
    assert torch.equal(stored.long() + torch.from_numpy(pruned.bias).view(-1, 1, 1), sums)


def test_layers_without_enough_channels_stay_dense():
    builder = GraphBuilder(3, (4, 4), seed=1)
    x = builder.add(builder.conv("input", 16))
    x = builder.add(builder.depthwise(x))
    builder.add_raw(builder.conv(x, 16, 1))
    pruned = prune_graph(builder.graph(), lanes=8, speedup=4)
    assert pruned.kept == {}
    assert pruned.kept_importance == 1


def test_a_speedup_beyond_one_slot_of_each_layer_is_an_error():
    message = r"speedup must be at most 44.0, which leaves a slot of each layer on 8 lanes, not 45"
    with pytest.raises(ValueError, match=message):
        prune_graph(two_layers(), lanes=8, speedup=45)
