"""Channels of inner tensors in an order that suits N:M; the network computes the same."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from coprune.prune.block_pattern import BlockPattern
from coprune.prune.channel_graph import ChannelGraph
from coprune.prune.channel_selection import select_channels
from coprune.prune.permutation_search import ESCAPES, ChannelReader, search_order

TOLERANCE = 1e-6
"""Of the outputs in float64, relative to the largest: sums are added up in another order."""
_IMAGES = 8
"""Of the example that the outputs are compared on."""


def permute_channels(
    model: nn.Module,
    *,
    scores: Mapping[str, torch.Tensor],
    patterns: Mapping[str, BlockPattern],
    example: torch.Tensor,
    escapes: int = ESCAPES,
) -> dict[str, torch.Tensor]:
    """Put channels that N:M pruning groups into the order that keeps the most importance.

    Every layer that writes or reads a channel goes along, through batch norms, residual shortcuts
    and concatenations. Only inner channels move whose way through the network is known; where a
    shortcut pads channels, those in the middle stay in the middle.

    Parameters
    ----------
    model
        Changed in place, before it is pruned. An optimizer's momentum does not move along.
    scores
        Importances of the layers to prune, by module name.
    patterns
        Of the same layers; each the same in all blocks.
    example
        A typical input [N, C, H, W]. On the first of these images the new network is compared with
        the old one, before it is changed.
    escapes
        Local optima that the search tries to leave for each set of channels.

    Returns
    -------
    dict
        The scores in the new order.

    Raises
    ------
    ValueError
        A pattern differs from block to block; or the network's own code depends on the order of
        its channels.
    """
    for name, pattern in patterns.items():
        if pattern.n is None:
            raise ValueError(
                f"channels must have one N for a whole layer to be permuted, but {name!r} has "
                f"{pattern}: prune it without permute"
            )
    trial = copy.deepcopy(model).eval()
    graph = ChannelGraph.of(trial, image=tuple(example.shape[1:]))
    moved = _search(graph, scores=scores, patterns=patterns, escapes=escapes)
    selection = {
        name: {
            role: _order(axes[name], moved=moved)
            for role, axes in (("inputs", graph.inputs), ("outputs", graph.outputs))
            if name in axes
        }
        for name in {**graph.inputs, **graph.outputs}
    }
    _check_unchanged(trial, selection, example=example[:_IMAGES])
    select_channels(model, selection)
    return {
        name: values[selection[name]["outputs"]][:, selection[name]["inputs"]]
        if name in selection
        else values
        for name, values in scores.items()
    }


def _search(
    graph: ChannelGraph,
    *,
    scores: Mapping[str, torch.Tensor],
    patterns: Mapping[str, BlockPattern],
    escapes: int,
) -> np.ndarray:
    """Return which channel comes in the place of every channel."""
    names = [name for name in patterns if name in graph.inputs]
    moved = np.arange(1 + max((int(ids.max()) for ids in graph.tensors if len(ids)), default=0))
    # Channels that a layer reads at several places would move several at once: they stay.
    repeated = {
        channel
        for name in names
        for channel, count in zip(*np.unique(graph.inputs[name], return_counts=True), strict=True)
        if count > 1
    }
    classes = [members for members in graph.classes() if not repeated & set(members.tolist())]
    for together in _coupled(classes, graph=graph, names=names):
        channels = np.concatenate([classes[number] for number in together])
        slot_of = {int(channel): slot for slot, channel in enumerate(channels)}
        readers = []
        for name in names:
            slots = np.array([slot_of.get(int(channel), -1) for channel in graph.inputs[name]])
            if (slots >= 0).any():
                rows = scores[name].detach().cpu().movedim(1, -1).flatten(0, -2)
                pattern = patterns[name]
                readers.append(ChannelReader(rows, slots=slots, n=pattern.n, m=pattern.lanes))
        order = search_order(
            readers,
            classes=np.repeat(together, [len(classes[number]) for number in together]),
            escapes=escapes,
        )
        moved[channels] = channels[order]
    return moved


def _coupled(
    classes: list[np.ndarray], *, graph: ChannelGraph, names: list[str]
) -> list[list[int]]:
    """Numbers of the classes that the same layers read: the best order of one is not its own."""
    parts: list[tuple[set[int], set[str]]] = []
    for number, members in enumerate(classes):
        readers = {name for name in names if np.isin(members, graph.inputs[name]).any()}
        if not readers:
            continue
        numbers = {number}
        for part in [part for part in parts if part[1] & readers]:
            numbers |= part[0]
            readers |= part[1]
            parts.remove(part)
        parts.append((numbers, readers))
    return [sorted(numbers) for numbers, _ in parts]


def _order(channels: np.ndarray, *, moved: np.ndarray) -> list[int]:
    """Which position of an axis comes to each; channels that are there again keep their turn."""
    positions: dict[int, list[int]] = {}
    for position, channel in enumerate(channels.tolist()):
        positions.setdefault(channel, []).append(position)
    turns = {channel: iter(found) for channel, found in positions.items()}
    return [next(turns[int(moved[channel])]) for channel in channels.tolist()]


@torch.no_grad()
def _check_unchanged(
    model: nn.Module, selection: Mapping[str, Mapping[str, list[int]]], *, example: torch.Tensor
) -> None:
    parameter = next(model.parameters())
    example = example.to(parameter.device, torch.float64)
    model.double()
    before = model(example)
    select_channels(model, selection)
    after = model(example)
    if not torch.allclose(before, after, rtol=0, atol=TOLERANCE * float(before.abs().max())):
        raise ValueError(
            "the network's output changes with the order of its inner channels, by "
            f"{float((before - after).abs().max()):.3g}: prune it without permute"
        )
