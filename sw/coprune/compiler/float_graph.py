"""The float graph: a network as fused sums of convolutions, before quantization.

It has the structure of `coprune_sim.graph.IntegerGraph`, with real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from coprune_sim.reference import window_padding


@dataclass(frozen=True)
class FloatTensor:
    """An image of real numbers, without its batch axis."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, self.height, self.width)


@dataclass(frozen=True, eq=False)
class FloatSource:
    """One convolution that a layer sums.

    Parameters
    ----------
    name, operation : str
        The operator's name in the user's network, and what it was there.
    tensor : FloatTensor
        The image that it reads.
    weight : float64 tensor [outputs, inputs / groups, kernel rows, kernel columns]
    groups, stride : int
    padding : tuple of int
        Rows above and columns left of the image; the rest follows from the output's size.
    dilation : tuple of int
        Rows, columns.
    diagonal : bool
        Every output channel reads at most one input channel: a depthwise convolution, a copy or a
        selection of channels.
    """

    name: str
    operation: str
    tensor: FloatTensor
    weight: torch.Tensor
    groups: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    diagonal: bool = False


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """A clamped sum of convolutions and a bias.

    Parameters
    ----------
    name, operation : str
        The layer's name in the user's network, and what it was there.
    output : FloatTensor
    sources : tuple of FloatSource
    bias : float64 tensor [outputs]
    low, high : float
        The activation function's clamp; infinite where there is none.
    maximum : bool
        Take the maximum of the products instead of their sum.
    """

    name: str
    operation: str
    output: FloatTensor
    sources: tuple[FloatSource, ...]
    bias: torch.Tensor
    low: float = -math.inf
    high: float = math.inf
    maximum: bool = False

    @property
    def copies(self) -> bool:
        """The layer only passes on values of its input."""
        if self.maximum:
            return True
        source, *others = self.sources
        ones = bool(((source.weight == 0) | (source.weight == 1)).all())
        unclamped = (self.low, self.high) == (-math.inf, math.inf)
        copied = source.operation == "copy" and ones
        return copied and not others and not self.bias.any() and unclamped


@dataclass(frozen=True)
class FloatGraph:
    """Layers in execution order; the last one's output is the network's."""

    input: FloatTensor
    layers: tuple[FloatLayer, ...]


def evaluate(graph: FloatGraph, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and the values of every tensor of a graph, in execution order.

    Parameters
    ----------
    graph : FloatGraph
    images : float32 tensor [N, C, H, W]

    Yields
    ------
    str, float32 tensor [N, C, H, W]
    """
    last_reader = {
        source.tensor.name: index
        for index, layer in enumerate(graph.layers)
        for source in layer.sources
    }
    values = {graph.input.name: images}
    yield graph.input.name, images
    for index, layer in enumerate(graph.layers):
        output = _evaluate_layer(layer, values)
        values[layer.output.name] = output
        yield layer.output.name, output
        for name in [name for name in values if last_reader.get(name, -1) <= index]:
            del values[name]


def _evaluate_layer(layer: FloatLayer, values: dict[str, torch.Tensor]) -> torch.Tensor:
    total = 0
    for source in layer.sources:
        padding = window_padding(
            kernel=source.weight.shape[2:],
            stride=source.stride,
            padding=source.padding,
            dilation=source.dilation,
            image=source.tensor.shape[1:],
            output=layer.output.shape[1:],
        )
        outside = -math.inf if layer.maximum else 0.0
        image = F.pad(values[source.tensor.name], padding, value=outside)
        if layer.maximum:
            kernel = tuple(source.weight.shape[2:])
            total = F.max_pool2d(image, kernel, source.stride, dilation=source.dilation)
        else:
            total = total + F.conv2d(
                image,
                source.weight.to(image.dtype),
                stride=source.stride,
                dilation=source.dilation,
                groups=source.groups,
            )
    biased = total + layer.bias.to(total.dtype).view(-1, 1, 1)
    return biased.clamp(layer.low, layer.high)
