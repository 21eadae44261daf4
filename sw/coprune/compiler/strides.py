"""Passes that give every tensor one stride: it is stored in the phases of that stride."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

STRIDES = (1, 2, 4)
"""Strides that a tensor can be split for."""

_IDENTITY_SHIFT = 16


def simplify_strides(graph: IntegerGraph) -> IntegerGraph:
    """Let layers with one output pixel read with stride 1: a stride shows in the second pixel."""
    layers = []
    for layer in graph.layers:
        if (layer.output.height, layer.output.width) == (1, 1):
            sources = tuple(replace(source, stride=1) for source in layer.sources)
            layer = replace(layer, sources=sources)
        layers.append(layer)
    return replace(graph, layers=tuple(layers))


def unify_strides(graph: IntegerGraph) -> IntegerGraph:
    """Insert copies so that every tensor is read with one stride.

    Where readers differ, the tensor itself is read with stride 1, and readers with another stride
    read a copy of it. One copy serves all readers of a stride; it comes right before the first.

    Raises
    ------
    ValueError
        A stride is none of `STRIDES`.
    """
    strides = read_strides(graph)
    copies: dict[tuple[str, int], str] = {}
    layers: list[Layer] = []
    for layer in graph.layers:
        sources = []
        for source in layer.sources:
            if len(strides[source.tensor]) > 1 and source.stride > 1:
                key = (source.tensor, source.stride)
                if key not in copies:
                    layers.append(_copy(graph.tensor(source.tensor), stride=source.stride))
                    copies[key] = layers[-1].output.name
                source = replace(source, tensor=copies[key])
            sources.append(source)
        layers.append(replace(layer, sources=tuple(sources)))
    return replace(graph, layers=tuple(layers))


def read_strides(graph: IntegerGraph) -> dict[str, set[int]]:
    """The strides with which each tensor is read; a tensor that nobody reads is not in it.

    Raises
    ------
    ValueError
        A stride is none of `STRIDES`.
    """
    strides: dict[str, set[int]] = {}
    for layer in graph.layers:
        for source in layer.sources:
            if source.stride not in STRIDES:
                raise ValueError(
                    f"layer {layer.name!r}: stride must be one of {', '.join(map(str, STRIDES))}, "
                    f"not {source.stride}"
                )
            strides.setdefault(source.tensor, set()).add(source.stride)
    return strides


def _copy(tensor: Tensor, *, stride: int) -> Layer:
    """A layer that copies a tensor exactly: weight 1, and a factor of 2**16 / 2**16."""
    name = f"{tensor.name}.stride{stride}"
    channels = tensor.channels
    source = Source(
        tensor=tensor.name, weight=np.ones((channels, 1, 1, 1), np.int16), groups=channels
    )
    return Layer(
        name=name,
        operation="copy",
        output=replace(tensor, name=name),
        sources=(source,),
        bias=np.full(channels, -tensor.zero, np.int64),
        multiplier=np.full(channels, 1 << _IDENTITY_SHIFT, np.int64),
        pre_shift=np.zeros(channels, np.int64),
        post_shift=np.full(channels, _IDENTITY_SHIFT, np.int64),
        low=-128,
        high=127,
    )
