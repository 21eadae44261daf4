"""Pruning of a quantized network: the budget, the choice of N, and what the integers become."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coprune.explore import prune_graph
from coprune.explore.pruning import _find_prunable

from ..graphs import GraphBuilder, residual_graph


def two_layers():
    builder = GraphBuilder(8, (4, 4), seed=3)
    x = builder.add(builder.conv("input", 8))
    builder.add(builder.conv(x, 16, 1))
    return builder.graph()


def slots(graph, kept, *, lanes):
    return sum(layer.slots * kept[layer.name] for layer in _find_prunable(graph, lanes=lanes))


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("speedup", [1.5, 2, 3, 4, 8])
def test_keeps_n_of_every_lanes_within_the_budget(lanes, speedup):
    graph = residual_graph(size=8)
    pruned = prune_graph(graph, lanes=lanes, speedup=speedup)
    dense = dict.fromkeys(pruned.kept, lanes)
    assert slots(graph, pruned.kept, lanes=lanes) <= slots(graph, dense, lanes=lanes) / speedup
    assert pruned.kept
    for layer, before in zip(pruned.graph.layers, graph.layers, strict=True):
        n = pruned.kept.get(layer.name)
        if n is None:
            assert layer is before
            continue
        weight, whole = layer.sources[0].weight, before.sources[0].weight
        groups = np.count_nonzero(weight.reshape(len(weight), -1, lanes, *weight.shape[2:]), axis=2)
        # Fewer only where the weights had zeros before.
        assert groups.max() == n
        assert np.array_equal(weight[weight != 0], whole[weight != 0])


def test_the_choice_keeps_the_most_importance():
    graph = two_layers()
    layers = list(_find_prunable(graph, lanes=8))
    for speedup in (1.3, 2, 3, 5):
        budget = sum(layer.slots for layer in layers) * 8 / speedup
        best = max(
            sum(layer.energy[n] for layer, n in zip(layers, ns, strict=True))
            for ns in itertools.product(range(1, 9), repeat=2)
            if sum(layer.slots * n for layer, n in zip(layers, ns, strict=True)) <= budget
        )
        kept = prune_graph(graph, lanes=8, speedup=speedup).kept_importance
        # A budget that is not used up may hide a better pair: by one step of a layer at most.
        assert best / 2 - 0.02 <= kept <= best / 2 + 1e-12


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


def test_a_speedup_beyond_the_lanes_is_an_error():
    message = r"speedup must be at most lanes \(8\), which leaves 1 of 8 weights, not 9"
    with pytest.raises(ValueError, match=message):
        prune_graph(residual_graph(size=8), lanes=8, speedup=9)
