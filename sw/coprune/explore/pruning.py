"""Pruning of a quantized network for one accelerator: N of every `lanes`, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from coprune_sim.graph import IntegerGraph, Layer, Source


@dataclass(frozen=True)
class PrunedGraph:
    """A network with fewer weights.

    Parameters
    ----------
    graph : IntegerGraph
    kept : dict
        Layer to the N of N:lanes that it keeps.
    kept_importance : float
        Mean over the layers of the part of their weights' energy that they keep; 1 where none is
        pruned.
    """

    graph: IntegerGraph
    kept: dict[str, int]
    kept_importance: float


@dataclass(frozen=True)
class _Prunable:
    """A source that can be pruned.

    Parameters
    ----------
    layer, source : int
        Its place in the graph.
    name : str
    scores : float64 array, in the shape of the weight
    energy : float64 array [lanes + 1]
        Part of the scores that N of `lanes` keep, by N.
    slots : int
        That every N costs: blocks of the weight times pixels.
    """

    layer: int
    source: int
    name: str
    scores: np.ndarray
    energy: np.ndarray
    slots: int


def prune_graph(graph: IntegerGraph, *, lanes: int, speedup: float) -> PrunedGraph:
    """Prune the convolutions and linear layers to N of every `lanes` input channels.

    Every layer has its own N, at least 1. Together they keep the most importance for at most a
    `speedup`-th of the slots that the layers have with all weights. N of the layers rise one by
    one, where a slot buys most: what N keeps is concave in N, so no choice that takes all slots
    keeps more.

    Layers stay dense that have fewer than `lanes` input channels or groups, and so does the last
    linear one.

    Parameters
    ----------
    graph : IntegerGraph
        Quantized, not pruned.
    lanes : int
    speedup : float
        From 1, which prunes nothing, to `lanes`.

    Raises
    ------
    ValueError
        Not all layers can keep a weight of every `lanes`.
    """
    layers = list(_find_prunable(graph, lanes=lanes))
    if speedup == 1 or not layers:
        return PrunedGraph(graph, {layer.name: lanes for layer in layers}, 1.0)
    if speedup > lanes:
        raise ValueError(
            f"speedup must be at most lanes ({lanes}), which leaves 1 of {lanes} weights, "
            f"not {speedup:g}"
        )
    kept = _choose_n(layers, lanes=lanes, speedup=speedup)
    pruned = list(graph.layers)
    for prunable, n in zip(layers, kept, strict=True):
        pruned[prunable.layer] = _prune_source(
            pruned[prunable.layer], prunable, n=n, lanes=lanes, graph=graph
        )
    energies = [float(layer.energy[n]) for layer, n in zip(layers, kept, strict=True)]
    return PrunedGraph(
        replace(graph, layers=tuple(pruned)),
        {layer.name: n for layer, n in zip(layers, kept, strict=True)},
        float(np.mean(energies)),
    )


def _choose_n(layers: list[_Prunable], *, lanes: int, speedup: float) -> list[int]:
    budget = sum(layer.slots for layer in layers) * lanes / speedup
    budget -= sum(layer.slots for layer in layers)
    steps = [
        (-(layer.energy[n + 1] - layer.energy[n]) / layer.slots, number, n)
        for number, layer in enumerate(layers)
        for n in range(1, lanes)
    ]
    kept = [1] * len(layers)
    # Of equal gains the lower N comes first, so that no N is left out.
    for _, number, n in sorted(steps):
        if kept[number] == n and layers[number].slots <= budget:
            budget -= layers[number].slots
            kept[number] = n + 1
    return kept


def _find_prunable(graph: IntegerGraph, *, lanes: int) -> Iterator[_Prunable]:
    linear = [number for number, layer in enumerate(graph.layers) if layer.operation == "linear"]
    classifier = linear[-1] if linear else None
    for number, layer in enumerate(graph.layers):
        if layer.operation not in ("conv2d", "linear") or number == classifier:
            continue
        if layer.maximum or layer.output.raw:
            continue
        for place, source in enumerate(layer.sources):
            if source.groups > 1 or source.selects or source.weight.shape[1] < lanes:
                continue
            scores = _score(layer, source)
            outputs, inputs, rows, columns = source.weight.shape
            blocks = -(-outputs // lanes) * -(-inputs // lanes) * rows * columns
            pixels = layer.output.height * layer.output.width // layer.input_dilation**2
            yield _Prunable(
                number, place, layer.name, scores, _kept_energy(scores, lanes), blocks * pixels
            )


def _score(layer: Layer, source: Source) -> np.ndarray:
    """Squares of the weights, in units that the output channels have in common."""
    step = np.ldexp(layer.multiplier.astype(np.float64), -(layer.pre_shift + layer.post_shift))
    return (source.weight * step[:, None, None, None]) ** 2


def _kept_energy(scores: np.ndarray, lanes: int) -> np.ndarray:
    outputs, inputs = scores.shape[:2]
    padded = np.zeros((outputs, -(-inputs // lanes) * lanes, *scores.shape[2:]))
    padded[:, :inputs] = scores
    groups = padded.reshape(outputs, -1, lanes, *scores.shape[2:])
    largest = -np.sort(-groups, axis=2)
    by_rank = largest.sum(axis=(0, 1, 3, 4))
    total = by_rank.sum()
    if total == 0:
        return np.ones(lanes + 1)
    return np.concatenate([[0.0], np.cumsum(by_rank) / total])


def _prune_source(
    layer: Layer, prunable: _Prunable, *, n: int, lanes: int, graph: IntegerGraph
) -> Layer:
    """The layer with N of every `lanes` weights of one source, and the bias that goes with them."""
    # PyTorch takes seconds to import.
    import torch

    from coprune.prune.block_pattern import BlockPattern

    source = layer.sources[prunable.source]
    pattern = BlockPattern.uniform(source.weight.shape, n=n, lanes=lanes)
    mask = pattern.mask(torch.from_numpy(prunable.scores)).numpy()
    weight = np.where(mask, source.weight, 0).astype(source.weight.dtype)
    removed = (source.weight.astype(np.int64) - weight).sum(axis=(1, 2, 3))
    sources = list(layer.sources)
    sources[prunable.source] = replace(source, weight=weight)
    # The bias holds the zero point times the weights' sum, with the opposite sign.
    bias = layer.bias + graph.tensor(source.tensor).zero * removed
    return replace(layer, sources=tuple(sources), bias=bias)
