"""What an operator's result is before it is stored: a view of a stored tensor, or an open sum.

The front end keeps results in these forms as long as it can, so that batch norms, residual
additions, activation functions and padding end up in one layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from coprune.compiler.float_graph import FloatGraph, FloatLayer, FloatSource, FloatTensor


class UnsupportedError(ValueError):
    """An operator, or the way it is used, has no counterpart on the accelerator."""


@dataclass(frozen=True)
class View:
    """Some channels and every n-th pixel of a stored tensor, with zeros around.

    Parameters
    ----------
    tensor : FloatTensor
    channels : tuple of int or None
        The tensor's channel behind each channel of the view; None reads as zero.
    height, width : int
        Size of the view, zeros included.
    stride : tuple of int
        Rows, columns.
    padding : tuple of int
        Rows of zeros above and below, columns left and right, in pixels of the view.
    """

    tensor: FloatTensor
    channels: tuple[int | None, ...]
    height: int
    width: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def of(cls, tensor: FloatTensor) -> View:
        """All of a tensor."""
        return cls(tensor, tuple(range(tensor.channels)), tensor.height, tensor.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (len(self.channels), self.height, self.width)

    @property
    def all_channels(self) -> bool:
        """The view has the tensor's channels, in their order."""
        return self.channels == tuple(range(self.tensor.channels))

    @property
    def uncropped(self) -> bool:
        """Beyond the pixels of the view the tensor has none either."""
        above, below, left, right = self.padding
        rows, columns = self.height - above - below, self.width - left - right
        return (rows, columns) == (
            math.ceil(self.tensor.height / self.stride[0]),
            math.ceil(self.tensor.width / self.stride[1]),
        )

    @property
    def padded(self) -> bool:
        """There are zeros around."""
        return any(self.padding)

    @property
    def contiguous(self) -> bool:
        """The view is the tensor itself, perhaps with zeros around."""
        return self.all_channels and self.stride == (1, 1) and self.uncropped


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum of convolutions that is not stored yet; the fields are those of `FloatLayer`."""

    name: str
    operation: str
    shape: tuple[int, int, int]
    sources: tuple[FloatSource, ...]
    bias: torch.Tensor
    low: float = -math.inf
    high: float = math.inf
    maximum: bool = False

    @property
    def linear(self) -> bool:
        """More can be added to the sum, and it can be scaled."""
        return not self.maximum and (self.low, self.high) == (-math.inf, math.inf)

    def scaled(self, factor: torch.Tensor, *, offset: torch.Tensor) -> Sum:
        """Return ``factor * sum + offset``, with float64 tensors of one value per channel."""
        sources = tuple(
            replace(source, weight=source.weight * factor.view(-1, 1, 1, 1))
            for source in self.sources
        )
        return replace(self, sources=sources, bias=self.bias * factor + offset)

    def clamped(self, *, low: float, high: float) -> Sum:
        """Return the sum within `low` and `high`."""

        def clamp(bound: float) -> float:
            return min(max(bound, low), high)

        return replace(self, low=clamp(self.low), high=clamp(self.high))


Expression = View | Sum


def copy(view: View, *, name: str) -> Sum:
    """Return a view as a sum of one source that picks its channels and pixels.

    Raises
    ------
    UnsupportedError
        The view skips rows and columns at different rates.
    """
    outputs, inputs = len(view.channels), view.tensor.channels
    if view.all_channels:
        weight, groups = torch.ones(outputs, 1, 1, 1, dtype=torch.float64), inputs
    else:
        weight, groups = torch.zeros(outputs, inputs, 1, 1, dtype=torch.float64), 1
        for output, channel in enumerate(view.channels):
            if channel is not None:
                weight[output, channel] = 1.0
    stride = common_stride(view.stride, output=(view.height, view.width))
    source = FloatSource(
        name=name,
        operation="copy",
        tensor=view.tensor,
        weight=weight,
        groups=groups,
        stride=stride,
        padding=(view.padding[0] * stride, view.padding[2] * stride),
        diagonal=True,
    )
    return Sum(name, "copy", view.shape, (source,), torch.zeros(outputs, dtype=torch.float64))


def common_stride(stride: Sequence[int], *, output: tuple[int, int]) -> int:
    """Return the one stride that serves both directions of a window.

    In a direction in which the output has one pixel the stride does not matter.

    Raises
    ------
    UnsupportedError
        The strides differ, or are none of 1, 2 and 4.
    """
    used = {step for step, size in zip(stride, output, strict=True) if size > 1} or {1}
    if len(used) > 1 or not used <= {1, 2, 4}:
        raise UnsupportedError(f"strides must be equal and 1, 2 or 4, not {tuple(stride)}")
    return used.pop()


class GraphBuilder:
    """Collects the layers of a float graph.

    Parameters
    ----------
    tensor : FloatTensor
        The network's input.
    """

    def __init__(self, tensor: FloatTensor):
        self._input = tensor
        self._layers: list[FloatLayer] = []
        self._names = {tensor.name}

    def store(self, expression: Expression, *, name: str) -> View:
        """Return all of a tensor that holds the expression, after adding the layer that it takes.

        `name` serves where the expression is a view that must be copied.
        """
        if isinstance(expression, View):
            if expression.contiguous and not expression.padded:
                return expression
            expression = copy(expression, name=name)
        unique = unique_name(expression.name, taken=self._names)
        self._names.add(unique)
        layer = FloatLayer(
            name=unique,
            operation=expression.operation,
            output=FloatTensor(unique, *expression.shape),
            sources=expression.sources,
            bias=expression.bias,
            low=expression.low,
            high=expression.high,
            maximum=expression.maximum,
        )
        self._layers.append(layer)
        return View.of(layer.output)

    def graph(self) -> FloatGraph:
        """Return the graph of all layers so far."""
        return FloatGraph(self._input, tuple(self._layers))


def unique_name(name: str, *, taken: set[str]) -> str:
    """Return `name`, with the first number appended that makes it unique where it is taken."""
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
