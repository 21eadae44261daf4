"""Pruning of a quantized network for one number of lanes: N of every `lanes`, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from coprune.prune.block_pattern import block_grid
from coprune.prune.importance import energy_scores
from coprune.prune.knapsack import solve
from coprune.prune.layer_menu import LayerMenu
from coprune_sim.graph import IntegerGraph, Layer, Source


@dataclass(frozen=True)
class PrunedGraph:
    """A network with fewer weights.

    Parameters
    ----------
    graph : IntegerGraph
    kept : dict
        Layer that can be pruned to the mean N of N:lanes of its blocks.
    kept_importance : float
        Share of the importance of all weights that can be pruned; 1 where none is.
    """

    graph: IntegerGraph
    kept: dict[str, float]
    kept_importance: float


@dataclass(frozen=True)
class _Prunable:
    """A source that can be pruned.

    Parameters
    ----------
    layer, source : int
        Its place in the graph.
    name : str
    scores : float tensor, in the shape of the weight
    slots : int
        That every N costs: blocks of the weight times pixels.
    """

    layer: int
    source: int
    name: str
    scores: torch.Tensor
    slots: int


def prune_graph(graph: IntegerGraph, *, lanes: int, speedup: float) -> PrunedGraph:
    """Prune the convolutions and linear layers to N of every `lanes` input channels.

    Every block has its own N. Together they keep the most importance for at most a `speedup`-th of
    the slots that the layers have with all weights: `prune_to_budget`'s knapsack and importance
    (``"energy"``), with slots in place of cycles. So the same pruning serves all accelerators of as
    many lanes.

    Layers stay dense that have fewer than `lanes` input channels or groups, and so does the last
    linear one.

    Parameters
    ----------
    graph : IntegerGraph
        Quantized, not pruned.
    lanes : int
    speedup : float
        1 prunes nothing.

    Raises
    ------
    ValueError
        Not even one slot of each layer leaves the network as fast as that.
    """
    layers = list(_find_prunable(graph, lanes=lanes))
    if speedup == 1 or not layers:
        return PrunedGraph(graph, {layer.name: float(lanes) for layer in layers}, 1.0)
    menus = [
        LayerMenu(layer.scores, cycles=layer.slots * np.arange(lanes + 1.0), lanes=lanes)
        for layer in layers
    ]
    dense, least = (sum(int(menu.menu.cost[end]) for menu in menus) for end in (-1, 0))
    capacity = int(dense / speedup)
    if capacity < least:
        raise ValueError(
            f"speedup must be at most {dense / least:.1f}, which leaves a slot of each layer on "
            f"{lanes} lanes, not {speedup:g}"
        )
    chosen = solve([menu.menu for menu in menus], capacity=capacity)
    pruned, kept, sums = list(graph.layers), {}, []
    for prunable, menu, option in zip(layers, menus, chosen, strict=True):
        pattern = menu.pattern(option)
        mask = pattern.mask(prunable.scores)
        pruned[prunable.layer] = _mask_source(
            pruned[prunable.layer], prunable.source, mask=mask.numpy(), graph=graph
        )
        kept.setdefault(prunable.name, []).append(pattern.kept.ravel())
        sums.append([float(scores.sum()) for scores in (prunable.scores[mask], prunable.scores)])
    importance, whole = np.sum(sums, axis=0)
    return PrunedGraph(
        replace(graph, layers=tuple(pruned)),
        {name: float(np.concatenate(blocks).mean()) for name, blocks in kept.items()},
        float(importance / whole) if whole else 1.0,
    )


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
            blocks = np.prod(block_grid(source.weight.shape, lanes=lanes))
            pixels = layer.output.height * layer.output.width // layer.input_dilation**2
            yield _Prunable(number, place, layer.name, _score(layer, source), int(blocks) * pixels)


def _score(layer: Layer, source: Source) -> torch.Tensor:
    """Importance of the weights, in units that the output channels have in common."""
    step = np.ldexp(layer.multiplier.astype(np.float64), -(layer.pre_shift + layer.post_shift))
    return energy_scores(torch.from_numpy(source.weight * step[:, None, None, None]))


def _mask_source(layer: Layer, place: int, *, mask: np.ndarray, graph: IntegerGraph) -> Layer:
    """The layer with some weights of one source, and the bias that goes with them."""
    source = layer.sources[place]
    weight = np.where(mask, source.weight, 0).astype(source.weight.dtype)
    removed = (source.weight.astype(np.int64) - weight).sum(axis=(1, 2, 3))
    sources = list(layer.sources)
    sources[place] = replace(source, weight=weight)
    # The bias holds the zero point times the weights' sum, with the opposite sign.
    bias = layer.bias + graph.tensor(source.tensor).zero * removed
    return replace(layer, sources=tuple(sources), bias=bias)
