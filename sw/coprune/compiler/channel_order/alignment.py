"""Channels that are copied into another tensor get the same lane there."""

from __future__ import annotations

import numpy as np

from coprune_sim.graph import IntegerGraph

from .orders import Orders, is_depthwise, is_selection, list_tensors


def align(graph: IntegerGraph, *, lanes: int) -> Orders:
    """Give channels that are copied into another tensor the same lane there, within their tile.

    Layer by layer, the output follows the source; where its order is settled, the source follows.
    """
    owner = {tensor.name: tensor.name for tensor in list_tensors(graph)}
    settled = {graph.input.name, graph.output.name}
    for layer in graph.layers:
        for source in layer.sources:
            if is_depthwise(source, graph.tensor(source.tensor)):
                joined = owner[layer.output.name], owner[source.tensor]
                owner = {
                    name: joined[1] if own == joined[0] else own for name, own in owner.items()
                }
            elif source.groups > 1:
                settled |= {layer.output.name, source.tensor}
    settled = {owner[name] for name in settled}
    positions = {
        own: np.arange(graph.tensor(own).channels) for own in dict.fromkeys(owner.values())
    }
    for layer in graph.layers:
        for source in filter(is_selection, layer.sources):
            output, read = owner[layer.output.name], owner[source.tensor]
            outputs, inputs = np.nonzero(source.weight[:, :, 0, 0])
            if output not in settled and output != read:
                wanted = positions[read][inputs] % lanes
                positions[output] = _to_lanes(positions[output], outputs, wanted, lanes=lanes)
            elif read not in settled and output != read:
                wanted = positions[output][outputs] % lanes
                positions[read] = _to_lanes(positions[read], inputs, wanted, lanes=lanes)
            settled |= {output, read}
    return {name: np.argsort(positions[own]) for name, own in owner.items()}


def _to_lanes(
    positions: np.ndarray, channels: np.ndarray, wanted: np.ndarray, *, lanes: int
) -> np.ndarray:
    """Move channels to wanted lanes of their tiles where these exist and are not taken yet."""
    lane_of = dict(zip(channels.tolist(), wanted.tolist(), strict=True))
    moved = positions.copy()
    for first in range(0, len(positions), lanes):
        members = np.flatnonzero(positions // lanes == first // lanes).tolist()
        members.sort(key=positions.__getitem__)
        free = dict.fromkeys(range(len(members)))
        rest = []
        for channel in members:
            lane = lane_of.get(channel)
            if lane in free:
                moved[channel] = first + lane
                del free[lane]
            else:
                rest.append(channel)
        for channel, lane in zip(rest, free, strict=True):
            moved[channel] = first + lane
    return moved
