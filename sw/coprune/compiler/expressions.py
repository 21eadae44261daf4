"""What an operator's result is before it is stored: a view of a stored tensor, or an open sum.

The front end keeps results in these forms as long as it can, so that batch norms, residual
additions, activation functions and padding end up in one layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from coprune.compiler.float_graph import (
    FloatGraph,
    FloatLayer,
    FloatSource,
    FloatTensor,
    Function,
)
from coprune_hw.contract.slots import SHIFT_MIN

PADDING_REACH = -SHIFT_MIN
"""Rows of zeros above an image, or columns left of it, that a layer can read."""
MOST_PIECES = 16
"""Rows or columns that are copied one by one, a layer each, where no stride fits."""


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
    stride, first : tuple of int
        Rows, columns. The first pixel of the view is this one of the tensor.
    padding : tuple of int
        Rows of zeros above and below, columns left and right, in pixels of the view.
    """

    tensor: FloatTensor
    channels: tuple[int | None, ...]
    height: int
    width: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    first: tuple[int, int] = (0, 0)

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
        return self.first == (0, 0) and (rows, columns) == (
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
    function: Function | None = None

    @property
    def linear(self) -> bool:
        """More can be added to the sum, and it can be scaled."""
        unclamped = (self.low, self.high) == (-math.inf, math.inf)
        return not self.maximum and unclamped and self.function is None

    def scaled(self, factor: torch.Tensor, *, offset: torch.Tensor) -> Sum:
        """Return ``factor * sum + offset``, with float64 tensors of one value per channel."""
        sources = tuple(
            replace(source, weight=source.weight * factor.view(-1, 1, 1, 1))
            for source in self.sources
        )
        return replace(self, sources=sources, bias=self.bias * factor + offset)

    def clamped(self, *, low: float, high: float) -> Sum:
        """Return the sum within `low` and `high`."""
        if self.function is not None:
            return self.tabulated(Function("clamp", lambda values: values.clamp(low, high)))

        def clamp(bound: float) -> float:
            return min(max(bound, low), high)

        return replace(self, low=clamp(self.low), high=clamp(self.high))

    def tabulated(self, function: Function) -> Sum:
        """Return a function of the sum."""
        if self.function is not None:
            function = function.after(self.function)
        return replace(self, function=function)


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
    if stride is None:
        raise UnsupportedError(f"strides must be equal and 1, 2 or 4, not {view.stride}")
    above, _, left, _ = view.padding
    source = FloatSource(
        name=name,
        operation="copy",
        tensor=view.tensor,
        weight=weight,
        groups=groups,
        stride=stride,
        padding=(above * stride - view.first[0], left * stride - view.first[1]),
        diagonal=True,
    )
    return Sum(name, "copy", view.shape, (source,), torch.zeros(outputs, dtype=torch.float64))


def common_stride(stride: Sequence[int], *, output: tuple[int, int]) -> int | None:
    """Return the one stride that serves both directions of a window, or None.

    In a direction in which the output has one pixel the stride does not matter. The machine has
    the strides 1, 2 and 4.
    """
    used = {step for step, size in zip(stride, output, strict=True) if size > 1} or {1}
    return used.pop() if len(used) == 1 and used <= {1, 2, 4} else None


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
        self._stored: dict[Sum, FloatTensor] = {}

    def store(self, expression: Expression, *, name: str) -> View:
        """Return all of a tensor that holds the expression, after adding the layer that it takes.

        `name` serves where the expression is a view that must be copied.
        """
        if isinstance(expression, View):
            if expression.contiguous and not expression.padded:
                return expression
            expression = self.copy(expression, name=name)
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
            function=expression.function,
        )
        self._layers.append(layer)
        self._stored[expression] = layer.output
        return View.of(layer.output)

    def tensor(self, expression: Expression) -> FloatTensor | None:
        """Return the tensor that is just this expression, or None where none is."""
        if isinstance(expression, Sum):
            return self._stored.get(expression)
        whole = expression.contiguous and not expression.padded
        return expression.tensor if whole else None

    def copy(self, view: View, *, name: str) -> Sum:
        """Return a view as a sum of copies, whatever its strides and however many zeros around.

        Raises
        ------
        UnsupportedError
            Too many rows or columns would have to be copied one by one.
        """
        while max(view.padding[0], view.padding[2]) > PADDING_REACH:
            view = self._pad_partly(view, name=name)
        size = (view.height, view.width)
        if common_stride(view.stride, output=size) is None and view.padded:
            above, below, left, right = view.padding
            inner = replace(
                view,
                height=view.height - above - below,
                width=view.width - left - right,
                padding=(0, 0, 0, 0),
            )
            inner = self.store(inner, name=name)
            view = replace(inner, height=size[0], width=size[1], padding=view.padding)
        if common_stride(view.stride, output=size) is not None:
            return copy(view, name=name)
        rows, columns = view.stride
        # The stride of a single row or column does not matter.
        stride = (rows if view.height > 1 else columns, columns if view.width > 1 else rows)
        return self._copy_in_pieces(replace(view, stride=stride), name=name)

    def join(self, pieces: Sequence[Expression], *, axis: int, name: str) -> Sum:
        """Return images side by side along rows, axis 1, or columns, axis 2.

        Every piece becomes an image of full size with zeros around; the sum of these is the result.
        """
        size = sum(piece.shape[axis] for piece in pieces)
        sources, before = (), 0
        for piece in pieces:
            view = self.store(piece, name=f"{name}.piece")
            after = size - before - view.shape[axis]
            padding = (before, after, 0, 0) if axis == 1 else (0, 0, before, after)
            height, width = (size, view.width) if axis == 1 else (view.height, size)
            whole = replace(view, height=height, width=width, padding=padding)
            sources += copy(self.store(whole, name=f"{name}.piece"), name=name).sources
            before += piece.shape[axis]
        zeros = torch.zeros(whole.shape[0], dtype=torch.float64)
        return Sum(name, "join", whole.shape, sources, zeros)

    def flatten(self, expression: Expression, *, name: str) -> View:
        """Return an image with all its values as channels of one pixel, in their order."""
        view = self.store(expression, name=name)
        values = math.prod(view.shape)
        if view.shape == (values, 1, 1):
            return view
        weight = torch.eye(values, dtype=torch.float64).reshape(values, *view.shape)
        source = FloatSource(name, "copy", view.tensor, weight, diagonal=True)
        zeros = torch.zeros(values, dtype=torch.float64)
        return self.store(Sum(name, "copy", (values, 1, 1), (source,), zeros), name=name)

    def _pad_partly(self, view: View, *, name: str) -> View:
        """Store a view with as many of its zeros as one layer reaches."""
        above, below, left, right = view.padding
        now = (min(above, PADDING_REACH), min(left, PADDING_REACH))
        part = replace(
            view,
            height=view.height - (above - now[0]) - below,
            width=view.width - (left - now[1]) - right,
            padding=(now[0], 0, now[1], 0),
        )
        return replace(
            self.store(part, name=name),
            height=view.height,
            width=view.width,
            padding=(above - now[0], below, left - now[1], right),
        )

    def _copy_in_pieces(self, view: View, *, name: str) -> Sum:
        """Copy every so many rows, and every so many columns, one by one."""
        for stride in (4, 2):
            if all(step % stride == 0 for step in view.stride):
                # Every second or fourth pixel first: one layer, and fewer pieces.
                rest = tuple(step // stride for step in view.stride)
                height, width = (
                    (size - 1) * step + 1 for size, step in zip(view.shape[1:], rest, strict=True)
                )
                part = replace(view, height=height, width=width, stride=(stride, stride))
                part = self.store(part, name=name)
                part = replace(part, height=view.height, width=view.width, stride=rest)
                return self.copy(part, name=name)
        by_rows = view.stride[0] > 1 and view.height > 1
        count = view.height if by_rows else view.width
        if count > MOST_PIECES:
            raise UnsupportedError(
                f"strides must be equal powers of 2, not {view.stride}, where more than "
                f"{MOST_PIECES} rows or columns would have to be copied one by one"
            )
        row, column = view.first
        if by_rows:
            firsts = [(row + view.stride[0] * index, column) for index in range(count)]
            pieces = [replace(view, height=1, first=first) for first in firsts]
        else:
            firsts = [(row, column + view.stride[1] * index) for index in range(count)]
            pieces = [replace(view, width=1, first=first) for first in firsts]
        return self.join(pieces, axis=1 if by_rows else 2, name=name)

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
