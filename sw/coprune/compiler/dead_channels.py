"""Removal of channels that no output depends on, as structured pruning leaves them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from coprune_hw.contract.arithmetic import requantize
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor
from coprune_sim.reference import ACTIVATION_REACH, window_padding


def remove_dead_channels(graph: IntegerGraph) -> IntegerGraph:
    """Remove channels that nobody reads, and constant ones that fit into their readers' biases.

    A channel is constant where its weights are zero or reach only constant channels. Pixels outside
    the image read as the zero point, so a constant other than that is a bias only for a reader that
    stays inside the image. What both sides of a depthwise or grouped convolution need keeps its
    channel in both.

    Parameters
    ----------
    graph : IntegerGraph

    Returns
    -------
    IntegerGraph
        With the same layers, and exactly the same values in the channels that are left; `graph`
        itself if all are. Input and output keep all channels, every tensor at least one.
    """
    constants = _find_constants(graph)
    alive = _find_alive(graph, constants)
    if all(channels.all() for channels in alive.values()):
        return graph
    layers = tuple(_shrink_layer(layer, graph, constants, alive) for layer in graph.layers)
    return replace(graph, layers=layers)


@dataclass(frozen=True)
class _Constants:
    """Which channels of a tensor are constant, and their values. Arrays [channels]."""

    known: np.ndarray
    value: np.ndarray

    def as_bias(self, source: Source, *, tensor: Tensor, layer: Layer) -> np.ndarray:
        """Which channels are constant for a reader, what it reads outside the image included.

        A raw output has no bias: for it only zeros are.
        """
        foldable = self.known
        if layer.output.raw:
            foldable = foldable & (self.value == 0)
        if _reads_outside(source, tensor=tensor, output=layer.output):
            pad = -ACTIVATION_REACH if layer.maximum else tensor.zero
            foldable = foldable & (self.value == pad)
        return foldable


def _find_constants(graph: IntegerGraph) -> dict[str, _Constants]:
    """Constant channels of every tensor, by name."""
    none = np.zeros(graph.input.channels, bool)
    found = {graph.input.name: _Constants(none, none.astype(np.int64))}
    for layer in graph.layers:
        known = np.ones(layer.output.channels, bool)
        accumulator = np.zeros(layer.output.channels, np.int64)
        for source in layer.sources:
            tensor, constants = graph.tensor(source.tensor), found[source.tensor]
            used, sums = _by_channel(source, channels=tensor.channels)
            readable = constants.as_bias(source, tensor=tensor, layer=layer)
            known &= ~(used & ~readable).any(axis=1)
            accumulator += sums @ np.where(readable, constants.value, 0)
        if layer.maximum:
            # The maximum over a window of one source and weight 1 passes a constant on.
            known &= len(layer.sources) == 1
            (source, *_) = layer.sources
            known &= (source.weight == 1).all(axis=(1, 2, 3))
            accumulator = np.where(known, accumulator // source.weight[0, 0].size, 0)
        value = requantize(
            accumulator,
            bias=layer.bias,
            multiplier=layer.multiplier,
            pre_shift=layer.pre_shift,
            post_shift=layer.post_shift,
            zero=layer.requantized_zero,
            low=layer.low,
            high=layer.high,
        )
        if layer.table is not None:
            value = layer.table[value + ACTIVATION_REACH].astype(np.int64)
        found[layer.output.name] = _Constants(known, value)
    return found


def _find_alive(graph: IntegerGraph, constants: dict[str, _Constants]) -> dict[str, np.ndarray]:
    """Channels to keep of every tensor, by name: the fewest that have all they need."""
    tensors = [graph.input, *(layer.output for layer in graph.layers)]
    alive = {tensor.name: np.zeros(tensor.channels, bool) for tensor in tensors}
    alive[graph.input.name][:] = alive[graph.output.name][:] = True
    _spread(graph, constants, alive)
    for channels in alive.values():
        channels[0] |= not channels.any()
    _spread(graph, constants, alive)
    return alive


def _spread(
    graph: IntegerGraph, constants: dict[str, _Constants], alive: dict[str, np.ndarray]
) -> None:
    """Add what the channels that are alive need, until nothing is missing."""
    before = -1
    while before != (before := sum(int(channels.sum()) for channels in alive.values())):
        for layer in reversed(graph.layers):
            outputs = alive[layer.output.name]
            for source in layer.sources:
                tensor, inputs = graph.tensor(source.tensor), alive[source.tensor]
                if source.groups == len(source.weight) == tensor.channels:
                    inputs |= outputs
                    outputs |= inputs
                elif source.groups > 1:
                    inputs[:] = outputs[:] = True
                else:
                    used, _ = _by_channel(source, channels=tensor.channels)
                    folded = constants[source.tensor].as_bias(source, tensor=tensor, layer=layer)
                    inputs |= (used & outputs[:, None] & ~folded).any(axis=0)


def _shrink_layer(
    layer: Layer,
    graph: IntegerGraph,
    constants: dict[str, _Constants],
    alive: dict[str, np.ndarray],
) -> Layer:
    rows = alive[layer.output.name]
    bias = layer.bias.copy()
    sources = []
    for source in layer.sources:
        columns, weight, groups = alive[source.tensor], source.weight, source.groups
        if groups == 1:
            _, sums = _by_channel(source, channels=len(columns))
            bias += sums @ np.where(columns, 0, constants[source.tensor].value)
            weight = weight[:, columns]
        elif groups == len(columns):
            groups = int(columns.sum())
        sources.append(replace(source, weight=np.ascontiguousarray(weight[rows]), groups=groups))
    parameters = {
        name: getattr(layer, name)[rows] for name in ("multiplier", "pre_shift", "post_shift")
    }
    return replace(
        layer,
        output=replace(layer.output, channels=int(rows.sum())),
        sources=tuple(sources),
        bias=bias[rows],
        **parameters,
    )


def _by_channel(source: Source, *, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """For every output and input channel: is there a weight, and the sum over all taps."""
    outputs, group_inputs = source.weight.shape[:2]
    used = np.zeros((outputs, channels), bool)
    sums = np.zeros((outputs, channels), np.int64)
    output, group_input = np.indices((outputs, group_inputs))
    channel = output // (outputs // source.groups) * group_inputs + group_input
    used[output, channel] = (source.weight != 0).any(axis=(2, 3))
    sums[output, channel] = source.weight.sum(axis=(2, 3), dtype=np.int64)
    return used, sums


def _reads_outside(source: Source, *, tensor: Tensor, output: Tensor) -> bool:
    padding = window_padding(
        kernel=source.weight.shape[2:],
        stride=source.stride,
        padding=source.padding,
        dilation=source.dilation,
        image=(tensor.height, tensor.width),
        output=(output.height, output.width),
    )
    return max(padding) > 0 or source.input_dilation > 1
