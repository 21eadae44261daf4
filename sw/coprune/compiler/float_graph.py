"""The float graph: a network as fused sums of convolutions, before quantization.

It has the structure of `coprune_sim.graph.IntegerGraph`, with real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from coprune_sim.reference import dilate, window_padding

JOINS = frozenset({"cat", "concat", "join"})
"""Operations that put tensors side by side: sums of copies, of which all but one are 0."""


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
    input_dilation : int
        Distance of the tensor's pixels in the image that the convolution reads, zeros in between.
    diagonal : bool
        Every output channel reads at most one input channel: a depthwise convolution, a copy or a
        selection of channels.
    weight_bits : int or None
        Width of its integer weights; None stands for as many as the hardware has.
    """

    name: str
    operation: str
    tensor: FloatTensor
    weight: torch.Tensor
    groups: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    input_dilation: int = 1
    diagonal: bool = False
    weight_bits: int | None = None

    @property
    def image(self) -> tuple[int, int]:
        """Rows and columns of the image that the convolution reads."""
        rows, columns = ((size - 1) * self.input_dilation + 1 for size in self.tensor.shape[1:])
        return rows, columns


@dataclass(frozen=True, eq=False)
class Function:
    """A function of single numbers.

    Parameters
    ----------
    name : str
    evaluate : callable
        From a float tensor to one of the same shape and dtype.
    """

    name: str
    evaluate: Callable[[torch.Tensor], torch.Tensor]

    def after(self, first: Function) -> Function:
        """The function of what another one gives."""
        return Function(
            f"{self.name} of {first.name}", lambda values: self.evaluate(first.evaluate(values))
        )


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
    function : Function, optional
        Of the clamped sum.
    """

    name: str
    operation: str
    output: FloatTensor
    sources: tuple[FloatSource, ...]
    bias: torch.Tensor
    low: float = -math.inf
    high: float = math.inf
    maximum: bool = False
    function: Function | None = None

    @property
    def requantized(self) -> str:
        """Name of the tensor to which sums are rounded: the output, or the function's argument."""
        return self.output.name if self.function is None else f"{self.output.name}.argument"

    @property
    def copies(self) -> bool:
        """What is requantized are values of the layer's one input, unclamped or as a maximum."""
        unclamped = (self.low, self.high) == (-math.inf, math.inf)
        return self.passes_on and len(self.sources) == 1 and (unclamped or self.maximum)

    @property
    def passes_on(self) -> bool:
        """What is requantized is one of the values read, perhaps clamped, or the largest."""
        if self.maximum:
            return True
        copied = all(
            source.operation == "copy" and bool(((source.weight == 0) | (source.weight == 1)).all())
            for source in self.sources
        )
        return (
            copied and not self.bias.any() and (len(self.sources) == 1 or self.operation in JOINS)
        )


@dataclass(frozen=True)
class FloatGraph:
    """Layers in execution order; the last one's output is the network's."""

    input: FloatTensor
    layers: tuple[FloatLayer, ...]


def evaluate(
    graph: FloatGraph,
    images: torch.Tensor,
    *,
    arguments: bool = False,
    store: Callable[[str, torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and the values of every tensor of a graph, in execution order.

    Parameters
    ----------
    graph : FloatGraph
    images : float tensor [N, C, H, W]
    arguments : bool
        Yield the arguments of functions, too: see `FloatLayer.requantized`.
    store : callable, optional
        From a tensor's name and its values to those that are yielded and read instead.

    Yields
    ------
    str, float tensor [N, C, H, W]
    """
    last_reader = {
        source.tensor.name: index
        for index, layer in enumerate(graph.layers)
        for source in layer.sources
    }
    values = {graph.input.name: store(graph.input.name, images) if store else images}
    yield graph.input.name, values[graph.input.name]
    for index, layer in enumerate(graph.layers):
        output = evaluate_sum(layer, values)
        if layer.function is not None:
            if arguments:
                yield layer.requantized, output
            output = layer.function.evaluate(output)
        if store:
            output = store(layer.output.name, output)
        values[layer.output.name] = output
        yield layer.output.name, output
        for name in [name for name in values if last_reader.get(name, -1) <= index]:
            del values[name]


def evaluate_sum(layer: FloatLayer, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute a layer, but for its function: what `FloatLayer.requantized` names.

    Parameters
    ----------
    layer : FloatLayer
    values : dict
        Tensor name to float tensor [N, C, H, W]: at least those that the layer reads.

    Returns
    -------
    tensor [N, C, H, W], of the same type
    """
    total = 0
    for source in layer.sources:
        padding = window_padding(
            kernel=source.weight.shape[2:],
            stride=source.stride,
            padding=source.padding,
            dilation=source.dilation,
            image=source.image,
            output=layer.output.shape[1:],
        )
        outside = -math.inf if layer.maximum else 0.0
        image = dilate(values[source.tensor.name], source.input_dilation, value=0.0)
        image = F.pad(image, padding, value=outside)
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
