"""Channels of tensors in other orders, and the layers that write and read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

Orders = Mapping[str, np.ndarray]
"""Tensor name to the given channel at each position. Tensors whose order stays may be absent."""


def reorder(graph: IntegerGraph, orders: Orders) -> IntegerGraph:
    """Permute the channels of tensors, and with them the layers that write and read them.

    Parameters
    ----------
    graph : IntegerGraph
    orders : Orders

    Raises
    ------
    ValueError
        A layer with groups would have its output in another order than its source.
    """
    if not orders:
        return graph
    return replace(
        graph, layers=tuple(_reorder_layer(layer, graph, orders) for layer in graph.layers)
    )


def order_of(orders: Orders, tensor: Tensor) -> np.ndarray:
    """The given channel at each position of a tensor."""
    return orders.get(tensor.name, np.arange(tensor.channels))


def list_tensors(graph: IntegerGraph) -> list[Tensor]:
    """All tensors of a graph, in the order in which they are written."""
    return [graph.input, *(layer.output for layer in graph.layers)]


def is_identity(order: np.ndarray) -> bool:
    """Every channel is in its given place."""
    return bool((order == np.arange(len(order))).all())


def is_depthwise(source: Source, tensor: Tensor) -> bool:
    """Every output channel reads the channel of its own number alone."""
    return source.groups == len(source.weight) == tensor.channels


def is_selection(source: Source) -> bool:
    """Outputs take one channel each, and no two the same: as shortcuts and concatenations do."""
    if source.groups > 1 or not source.selects:
        return False
    return bool((np.count_nonzero(source.weight, axis=0) <= 1).all())


def _reorder_layer(layer: Layer, graph: IntegerGraph, orders: Orders) -> Layer:
    rows = order_of(orders, layer.output)
    sources = []
    for source in layer.sources:
        tensor = graph.tensor(source.tensor)
        columns = order_of(orders, tensor)
        weight = source.weight[rows]
        stays = is_identity(rows) and is_identity(columns)
        together = is_depthwise(source, tensor) and np.array_equal(rows, columns)
        if source.groups == 1:
            weight = weight[:, columns]
        elif not (stays or together):
            raise ValueError(
                f"layer {layer.name!r}: its output and {source.tensor!r} must keep their channels' "
                f"order, or have the same one, as the source has {source.groups} groups"
            )
        sources.append(replace(source, weight=np.ascontiguousarray(weight)))
    parameters = {
        name: getattr(layer, name)[rows]
        for name in ("bias", "multiplier", "pre_shift", "post_shift")
    }
    return replace(layer, sources=tuple(sources), **parameters)
