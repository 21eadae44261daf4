"""Layers that slide a window over an image: the core of convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from coprune.compiler.expressions import (
    PADDING_REACH,
    GraphBuilder,
    Sum,
    UnsupportedError,
    View,
    common_stride,
)
from coprune.compiler.float_graph import FloatSource

MOST_REGIONS = 64
"""Regions of an output whose windows differ, a few layers each."""


@dataclass(frozen=True)
class Naming:
    """Name and operation of the layers that an operator becomes."""

    name: str
    operation: str


def convolve(
    view: View,
    weight: torch.Tensor,
    *,
    naming: Naming,
    builder: GraphBuilder,
    size: tuple[int, int],
    bias: torch.Tensor | None = None,
    groups: int = 1,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    input_dilation: int = 1,
    maximum: bool = False,
) -> Sum:
    """Return a convolution, or with `maximum` the largest product of every window.

    Where no stride of the machine is the given one, a finer convolution is computed and thinned.

    Parameters
    ----------
    view : View
        Zeros around it become padding of the convolution.
    weight : float64 tensor [outputs, inputs / groups, kernel rows, kernel columns]
    naming : Naming
    builder : GraphBuilder
    size : tuple of int
        Rows and columns of the result.
    bias : float64 tensor [outputs], optional
    groups : int
    stride, dilation : sequence of int
        Rows, columns.
    padding : sequence of int
        Rows above, columns left; negative ones skip pixels.
    input_dilation : int
        Distance of the view's pixels in the image that is convolved, zeros in between.
    maximum : bool

    Raises
    ------
    UnsupportedError
        Too many rows or columns would have to be copied one by one.
    """
    if not view.contiguous or ((maximum or input_dilation > 1) and view.padded):
        # A maximum must see the zeros around; its own padding loses against every value.
        view = builder.store(view, name=f"{naming.name}.input")
    fine = common_stride(stride, output=size)
    if fine is None:
        used = [step for step, count in zip(stride, size, strict=True) if count > 1]
        fine = max(step for step in (1, 2, 4) if all(other % step == 0 for other in used))
        steps = tuple(max(step // fine, 1) for step in stride)
        thinned, size = size, _thick(size, steps)
    else:
        thinned = None
    above, left = padding[0] + view.padding[0], padding[1] + view.padding[2]
    if max(above, left) > PADDING_REACH * fine * input_dilation and not maximum:
        padded = replace(
            view,
            height=view.tensor.height + max(above, 0),
            width=view.tensor.width + max(left, 0),
            padding=(max(above, 0), 0, max(left, 0), 0),
        )
        view = builder.store(padded, name=f"{naming.name}.input")
        above, left = min(above, 0), min(left, 0)
    outputs = len(weight)
    source = FloatSource(
        name=naming.name,
        operation=naming.operation,
        tensor=view.tensor,
        weight=weight,
        groups=groups,
        stride=fine,
        padding=(above, left),
        dilation=tuple(dilation),
        input_dilation=input_dilation,
        diagonal=groups == outputs == view.tensor.channels,
    )
    result = Sum(
        name=naming.name,
        operation=naming.operation,
        shape=(outputs, *size),
        sources=(source,),
        bias=torch.zeros(outputs, dtype=torch.float64) if bias is None else bias,
        maximum=maximum,
    )
    if thinned is None:
        return result
    whole = builder.store(result, name=naming.name)
    part = replace(whole, height=thinned[0], width=thinned[1], stride=steps)
    # A name of its own, since weights are known by the names of sources.
    return replace(builder.copy(part, name=f"{naming.name}.pixels"), name=naming.name)


def spread(view: View, *, name: str, builder: GraphBuilder) -> View:
    """Store an image with a zero between every two of its pixels."""
    channels, *size = view.shape
    spread_image = convolve(
        view,
        torch.ones(channels, 1, 1, 1, dtype=torch.float64),
        naming=Naming(name, "copy"),
        builder=builder,
        size=tuple(2 * pixels - 1 for pixels in size),
        groups=channels,
        input_dilation=2,
    )
    return builder.store(spread_image, name=name)


@dataclass(frozen=True)
class Window:
    """The pixels along one axis that one output pixel takes, and what their sum is divided by."""

    start: int
    taps: int
    divisor: int = 1

    def within(self, size: int) -> Window:
        """The window without what is outside an axis of `size` pixels, and counts for nothing."""
        start, end = max(self.start, 0), min(self.start + self.taps, size)
        return Window(start, end - start, self.divisor)


@dataclass
class _Region:
    """Output pixels along one axis whose windows differ by a constant step only."""

    first: Window
    step: int = 1
    count: int = 1

    def takes(self, window: Window) -> bool:
        """The window is the next one of the region, which it then counts."""
        same = (window.taps, window.divisor) == (self.first.taps, self.first.divisor)
        step = window.start - self.first.start if self.count == 1 else self.step
        if not same or window.start != self.first.start + self.count * step:
            return False
        self.step = step
        self.count += 1
        return True


def pool(
    view: View,
    rows: Sequence[Window],
    columns: Sequence[Window],
    *,
    naming: Naming,
    builder: GraphBuilder,
    maximum: bool = False,
) -> Sum:
    """Return the average, or the maximum, of a window of every channel for each output pixel.

    Where windows differ by more than a constant step, as at borders that do not count, the output
    is put together from regions in which they do not.

    Parameters
    ----------
    view : View
    rows, columns : sequence of Window
        Of every row and of every column of the result.
    naming : Naming
    builder : GraphBuilder
    maximum : bool

    Raises
    ------
    UnsupportedError
        There are too many regions.
    """
    view = builder.store(view, name=f"{naming.name}.input")
    row_regions, column_regions = _regions(rows, view.height), _regions(columns, view.width)
    if len(row_regions) * len(column_regions) > MOST_REGIONS:
        raise UnsupportedError(
            f"windows must be alike: the output has {len(row_regions)} x {len(column_regions)} "
            f"regions with different windows, more than {MOST_REGIONS}"
        )

    def region(row: _Region, column: _Region) -> Sum:
        kernel = (row.first.taps, column.first.taps)
        value = 1.0 if maximum else 1.0 / (row.first.divisor * column.first.divisor)
        return convolve(
            view,
            torch.full((view.shape[0], 1, *kernel), value, dtype=torch.float64),
            naming=naming,
            builder=builder,
            size=(row.count, column.count),
            groups=view.shape[0],
            stride=(row.step, column.step),
            padding=(-row.first.start, -column.first.start),
            maximum=maximum,
        )

    strips = []
    for row in row_regions:
        pieces = [region(row, column) for column in column_regions]
        one = len(pieces) == 1
        strips.append(pieces[0] if one else builder.join(pieces, axis=2, name=naming.name))
    return strips[0] if len(strips) == 1 else builder.join(strips, axis=1, name=naming.name)


def whole_axis(size: int, *, averaged: bool) -> tuple[Window, ...]:
    """One window over a whole axis."""
    return (Window(0, size, size if averaged else 1),)


def every_pixel(size: int) -> tuple[Window, ...]:
    """A window of one pixel for each pixel of an axis."""
    return tuple(Window(index, 1) for index in range(size))


def adaptive(size: int, outputs: int, *, averaged: bool) -> tuple[Window, ...]:
    """Windows of adaptive pooling: `outputs` of them, which together cover an axis."""
    windows = []
    for index in range(outputs):
        start, end = index * size // outputs, math.ceil((index + 1) * size / outputs)
        windows.append(Window(start, end - start, end - start if averaged else 1))
    return tuple(windows)


def _regions(windows: Sequence[Window], size: int) -> list[_Region]:
    def divide(windows: Sequence[Window]) -> list[_Region]:
        regions: list[_Region] = []
        for window in windows:
            if not regions or not regions[-1].takes(window):
                regions.append(_Region(window))
        return regions

    regions = divide(windows)
    if len(regions) == 1:
        return regions
    # Far from its first pixel an image is reached inside only.
    return divide([window.within(size) for window in windows])


def _thick(size: tuple[int, int], steps: tuple[int, ...]) -> tuple[int, int]:
    height, width = ((count - 1) * step + 1 for count, step in zip(size, steps, strict=True))
    return height, width
