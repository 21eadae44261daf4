"""Channels that may only move together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coprune_sim.graph import IntegerGraph, Tensor

from .orders import is_depthwise, is_selection, list_tensors


@dataclass(frozen=True, eq=False)
class Atom:
    """Channels of several tensors that move together: copies of each other, or the same channel.

    Parameters
    ----------
    channels : dict
        Tensor name to the given channel.
    """

    channels: dict[str, int]


def movable_atoms(graph: IntegerGraph, *, free_ends: bool) -> dict[tuple[str, ...], list[Atom]]:
    """Group the channels that may change their order into atoms, by the tensors that these span."""
    first, total = {}, 0
    for tensor in list_tensors(graph):
        first[tensor.name] = total
        total += tensor.channels
    owner = np.arange(total)
    fixed = np.zeros(total, bool)

    def find(channel: int) -> int:
        while owner[channel] != channel:
            owner[channel] = channel = owner[owner[channel]]
        return channel

    def fix(tensor: Tensor) -> None:
        fixed[first[tensor.name] : first[tensor.name] + tensor.channels] = True

    if not free_ends:
        fix(graph.input)
        fix(graph.output)
    for layer in graph.layers:
        for source in layer.sources:
            tensor = graph.tensor(source.tensor)
            if is_depthwise(source, tensor):
                outputs = inputs = np.arange(tensor.channels)
            elif source.groups > 1:
                fix(tensor)
                fix(layer.output)
                continue
            elif is_selection(source):
                outputs, inputs = np.nonzero(source.weight[:, :, 0, 0])
            else:
                continue
            for output, channel in zip(outputs.tolist(), inputs.tolist(), strict=True):
                owner[find(first[layer.output.name] + output)] = find(
                    first[source.tensor] + channel
                )
    members: dict[int, list[tuple[str, int]]] = {}
    for tensor in list_tensors(graph):
        for channel in range(tensor.channels):
            members.setdefault(find(first[tensor.name] + channel), []).append(
                (tensor.name, channel)
            )
    atoms: dict[tuple[str, ...], list[Atom]] = {}
    for channels in members.values():
        atom = Atom(dict(channels))
        is_fixed = any(fixed[first[name] + channel] for name, channel in channels)
        if not is_fixed and len(atom.channels) == len(channels):
            atoms.setdefault(tuple(atom.channels), []).append(atom)
    return atoms
