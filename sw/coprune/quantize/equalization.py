"""Cross-layer equalization: channels share a tensor's grid better where their ranges are alike.

After Nagel et al. (2019), "Data-Free Quantization Through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721. ReLU(s x) = s ReLU(x) for s > 0, so whatever a layer's output
channel is divided by, the layers that read it can multiply their weights by.

The paper has one grid for all weights of a layer, and equalizes ranges of weights: a channel is
divided by s = sqrt(r1 / r2), with the ranges of the weights that write and that read it. Here
every output channel has a grid of weights of its own, so r1 is the range of the channel's values,
which do share a grid, and r2 says how much of the grids of those who read it the channel takes.
This is also what the noise asks for. A grid of step d for the tensor, and one of step e for the
weights w of a filter that reads it, add the noise

    d^2 / 12 * sum((s w)^2)  +  e^2 / 12 * sum((x / s)^2)

over the channels x; where d and e hold still, it is least for s^2 = e / d * |x| / |w|. The more a
channel is spread over the grid of activations, the less it is left of that of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from coprune.compiler.float_graph import FloatGraph, FloatLayer, FloatSource
from coprune.quantize.calibration import evaluate_batches

ITERATIONS = 50
"""The steps e depend on the scales, so these are approached, half of the way each time."""
SMALLEST_REACH = 2.0**-16
"""A channel counts as at least this fraction of the tensor's range: smaller ones are noise."""


@dataclass(frozen=True, eq=False)
class Extremes:
    """Smallest and largest value of every channel of a tensor: float64 [channels]."""

    low: torch.Tensor
    high: torch.Tensor

    @property
    def reach(self) -> torch.Tensor:
        """Largest magnitude of every channel."""
        return torch.maximum(self.low.abs(), self.high.abs())


@dataclass(frozen=True, eq=False)
class _Demand:
    """What those that read a tensor, and its clamp, ask of the scales of its channels.

    Parameters
    ----------
    norms : float64 tensor [filters, channels]
        Of the weights that each filter has for each channel; diagonal ones, in whose grid a channel
        is alone, are left out.
    least, most : float64 tensor [channels]
        Bounds of the scales.
    """

    norms: torch.Tensor
    least: torch.Tensor
    most: torch.Tensor

    @classmethod
    def nothing(cls, channels: int) -> _Demand:
        zeros = torch.zeros(channels, dtype=torch.float64)
        return cls(torch.zeros(0, channels, dtype=torch.float64), zeros, zeros + math.inf)

    def fixed(self) -> _Demand:
        """The channels keep their scale."""
        return replace(self, least=torch.ones_like(self.least), most=torch.ones_like(self.most))

    def joined(self, other: _Demand) -> _Demand:
        return _Demand(
            norms=torch.cat([self.norms, other.norms]),
            least=torch.maximum(self.least, other.least),
            most=torch.minimum(self.most, other.most),
        )


def equalize(graph: FloatGraph, batches: Sequence[torch.Tensor]) -> FloatGraph:
    """Scale the channels of inner tensors, so that int8 grids suit all of a tensor's channels.

    All layers that read a tensor take part, shortcuts included. Layers that only pass values on
    keep the scales of their input. Input and output of the network stay as they are, and so do
    arguments and values of functions that are not homogeneous. What the graph computes stays the
    same, but for the rounding of floats. One exception: a layer has one clamp, so where it has
    bounds other than 0 (ReLU6), channels that reach a bound keep their scale, and others are at
    most enlarged to where they reach it on these images. On images that drive such a channel
    further, it is clamped there.

    Parameters
    ----------
    graph : FloatGraph
    batches : sequence of float32 tensors [N, C, H, W]
        What the values of a channel are measured on.
    """
    return rescale(graph, choose_scales(graph, measure_channels(graph, batches)))


def measure_channels(graph: FloatGraph, batches: Sequence[torch.Tensor]) -> dict[str, Extremes]:
    """Return the extremes of every tensor of a graph, by name."""
    extremes: dict[str, Extremes] = {}
    for name, values in evaluate_batches(graph, batches):
        low, high = values.amin(dim=(0, 2, 3)).double(), values.amax(dim=(0, 2, 3)).double()
        if name in extremes:
            low = torch.minimum(low, extremes[name].low)
            high = torch.maximum(high, extremes[name].high)
        extremes[name] = Extremes(low, high)
    return extremes


def choose_scales(graph: FloatGraph, extremes: Mapping[str, Extremes]) -> dict[str, torch.Tensor]:
    """Return what to divide each channel by: float64 [channels] for every tensor, by name."""
    tensors = (graph.input, *(layer.output for layer in graph.layers))
    demands = {tensor.name: _Demand.nothing(tensor.channels) for tensor in tensors}
    for name in (graph.input.name, graph.layers[-1].output.name):
        demands[name] = demands[name].fixed()
    scales = {graph.input.name: torch.ones(graph.input.channels, dtype=torch.float64)}
    # Backwards: all that read a tensor come before the layer that writes it.
    for layer in reversed(graph.layers):
        name = layer.output.name
        demand = demands[name].joined(_demand_of_clamp(layer, extremes[name]))
        if layer.function is not None:
            demand = demand.fixed()
        if layer.copies:
            (source,) = layer.sources
            demands[source.tensor.name] = demands[source.tensor.name].joined(
                _before_copy(demand, source)
            )
            continue
        scales[name] = _balance(demand, extremes[name].reach)
        for source in layer.sources:
            if not source.diagonal:
                tensor = source.tensor.name
                read = replace(_Demand.nothing(source.tensor.channels), norms=_norms(source))
                demands[tensor] = demands[tensor].joined(read)
    for layer in graph.layers:
        if layer.copies:
            (source,) = layer.sources
            outputs, inputs = _copied_channels(source)
            copied = torch.ones(layer.output.channels, dtype=torch.float64)
            copied[outputs] = scales[source.tensor.name][inputs]
            scales[layer.output.name] = copied
    return scales


def rescale(graph: FloatGraph, scales: Mapping[str, torch.Tensor]) -> FloatGraph:
    """Divide channels of tensors, and let those that read them make up for it.

    Parameters
    ----------
    graph : FloatGraph
    scales : mapping of float64 tensors [channels], > 0
        By the name of the tensor; one that is missing stays as it is. Layers that only pass values
        on must have the scales of their input, and those with a function or a clamp other than a
        ReLU the scale 1, or what the graph computes changes.
    """

    def scale(name: str, channels: int) -> torch.Tensor:
        return scales.get(name, torch.ones(channels, dtype=torch.float64))

    layers = []
    for layer in graph.layers:
        outputs = scale(layer.output.name, layer.output.channels)
        sources = tuple(
            # The weights of a maximum, all 1, stand for its window.
            source
            if layer.maximum
            else _rescaled(source, scale(source.tensor.name, source.tensor.channels), outputs)
            for source in layer.sources
        )
        layers.append(replace(layer, sources=sources, bias=layer.bias / outputs))
    return replace(graph, layers=tuple(layers))


def _rescaled(source: FloatSource, inputs: torch.Tensor, outputs: torch.Tensor) -> FloatSource:
    group_inputs = source.weight.shape[1]
    factors = inputs.view(source.groups, 1, group_inputs) / outputs.view(source.groups, -1, 1)
    return replace(source, weight=source.weight * factors.view(-1, group_inputs, 1, 1))


def _balance(demand: _Demand, reach: torch.Tensor) -> torch.Tensor:
    """The scales of a tensor, with which its range stays what it is."""
    alive = reach > 0
    if not alive.any():
        return torch.ones_like(reach)
    widest = reach.max()
    norms = demand.norms[demand.norms[:, alive].any(dim=1)]
    scales = torch.ones_like(reach)
    scales[alive] = _balance_alive(norms[:, alive], reach[alive] / widest)
    if len(norms):
        # Nothing is known of the range of a channel that is always 0, but its weights must not
        # widen the grids of those that read it.
        grids = (norms[:, alive] * scales[alive]).amax(dim=1, keepdim=True)
        taken = (norms / grids).amax(dim=0)
        scales[~alive] = torch.where(taken > 0, 1 / taken, 1.0)[~alive]
    return scales.clamp(min=demand.least, max=demand.most)


def _balance_alive(norms: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """The scales of channels with values other than 0, where the widest channel reaches 1."""
    reach = reach.clamp(min=SMALLEST_REACH)
    scales = reach
    if not len(norms):
        return scales
    for _ in range(ITERATIONS):
        grids = (norms * scales).amax(dim=1, keepdim=True)
        taken = (norms / grids).square().mean(dim=0).sqrt()
        wanted = (reach / taken).sqrt()
        # A channel that no filter reads may have the whole range.
        read = taken > 0
        wanted = torch.where(read, wanted * (reach / wanted)[read].max(), reach)
        scales = (scales * wanted).sqrt()
    return scales


def _demand_of_clamp(layer: FloatLayer, extremes: Extremes) -> _Demand:
    """Bounds that no value of the images crosses, and never wider than they were."""
    demand = _Demand.nothing(layer.output.channels)
    if layer.low > 0 or layer.high < 0:
        return demand.fixed()
    for bound, largest in ((layer.high, extremes.high), (-layer.low, -extremes.low)):
        if 0 < bound < math.inf:
            least = torch.maximum(demand.least, largest / bound)
            demand = replace(demand, least=least, most=torch.ones_like(least))
    return demand


def _before_copy(demand: _Demand, source: FloatSource) -> _Demand:
    """What is asked of a copy's output, as asked of its input."""
    outputs, inputs = _copied_channels(source)
    before = _Demand.nothing(source.tensor.channels)
    norms = torch.zeros(len(demand.norms), source.tensor.channels, dtype=torch.float64)
    copied = demand.norms[:, outputs]
    return _Demand(
        norms=norms.scatter_reduce(1, inputs.expand(copied.shape), copied, "amax"),
        least=before.least.scatter_reduce(0, inputs, demand.least[outputs], "amax"),
        most=before.most.scatter_reduce(0, inputs, demand.most[outputs], "amin"),
    )


def _copied_channels(source: FloatSource) -> tuple[torch.Tensor, torch.Tensor]:
    """Channels of the output that a copy writes, and that of the input behind each."""
    outputs, columns = source.weight.any(dim=3).any(dim=2).nonzero(as_tuple=True)
    group_outputs, group_inputs = len(source.weight) // source.groups, source.weight.shape[1]
    return outputs, outputs // group_outputs * group_inputs + columns


def _norms(source: FloatSource) -> torch.Tensor:
    """Norms of the weights of every filter, for every channel of the tensor that it reads."""
    norms = source.weight.square().sum(dim=(2, 3)).sqrt()
    blocks = norms.view(source.groups, -1, norms.shape[1])
    return torch.block_diag(*blocks)
