"""Pooling and reductions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from coprune.compiler.expressions import Expression, Sum, UnsupportedError
from coprune.compiler.operators.call import Call, Layout
from coprune.compiler.operators.windows import (
    Naming,
    Window,
    adaptive,
    convolve,
    every_pixel,
    pool,
    whole_axis,
)


def lower_average_pool(call: Call) -> Expression:
    """avg_pool1d, avg_pool2d: a depthwise convolution, or several where borders differ."""
    value, layout = call.image("self")
    kernel, stride, padding = _window(call, layout)
    counted = bool(call["count_include_pad"])
    windows = []
    for axis in range(2):
        size, outputs = value.shape[1 + axis], _size(call, layout)[axis]
        for_axis = []
        for index in range(outputs):
            start = index * stride[axis] - padding[axis]
            end = min(start + kernel[axis], size + padding[axis])
            if not counted:
                start, end = max(start, 0), min(end, size)
            for_axis.append(Window(start, end - start, end - start))
        windows.append(for_axis)
    divisor = call.arguments.get("divisor_override")
    if divisor:
        windows = [
            [Window(window.start, window.taps, total) for window in for_axis]
            for for_axis, total in zip(windows, (divisor, 1), strict=True)
        ]
    return _pool(call, *windows)


def lower_max_pool(call: Call) -> Expression:
    """max_pool1d, max_pool2d: the maximum of products with weight 1."""
    value, layout = call.image("self")
    kernel, stride, padding = _window(call, layout)
    view = call.builder.store(value, name=f"{call.name}.input")
    return convolve(
        view,
        torch.ones(view.shape[0], 1, *kernel, dtype=torch.float64),
        naming=Naming(call.name, call.operation),
        builder=call.builder,
        size=_size(call, layout),
        groups=view.shape[0],
        stride=stride,
        padding=padding,
        dilation=layout.pair(call["dilation"], single=1),
        maximum=True,
    )


def lower_adaptive_average_pool(call: Call) -> Expression:
    """adaptive_avg_pool1d, adaptive_avg_pool2d."""
    value, layout = call.image("self")
    rows, columns = (
        adaptive(size, outputs, averaged=True)
        for size, outputs in zip(value.shape[1:], _size(call, layout), strict=True)
    )
    return _pool(call, rows, columns)


def lower_adaptive_max_pool(call: Call) -> list[Expression]:
    """adaptive_max_pool1d, adaptive_max_pool2d; nobody may read the positions."""
    value, layout = call.image("self")
    rows, columns = (
        adaptive(size, outputs, averaged=False)
        for size, outputs in zip(value.shape[1:], _size(call, layout), strict=True)
    )
    result = _pool(call, rows, columns, maximum=True)
    return [call.builder.store(result, name=call.name)]


def lower_mean(call: Call) -> Expression:
    """mean over rows, columns, channels or several of them."""
    return _reduce(call, averaged=True)


def lower_sum(call: Call) -> Expression:
    """sum over rows, columns, channels or several of them."""
    return _reduce(call, averaged=False)


def lower_maximum_of_axes(call: Call) -> Expression:
    """amax over rows, columns or both."""
    value, layout = call.image("self")
    axes = _axes(call, layout)
    if "channels" in axes:
        raise UnsupportedError("a maximum must be taken over rows or columns, not over channels")
    return _pool(call, *_reduced(value.shape, axes, averaged=False), maximum=True)


def _reduce(call: Call, *, averaged: bool) -> Expression:
    value, layout = call.image("self")
    axes = _axes(call, layout)
    if "channels" not in axes:
        return _pool(call, *_reduced(value.shape, axes, averaged=averaged))
    view = call.builder.store(value, name=f"{call.name}.input")
    channels, height, width = view.shape
    kernel = (height if "rows" in axes else 1, width if "columns" in axes else 1)
    value = 1.0 / (channels * kernel[0] * kernel[1]) if averaged else 1.0
    return convolve(
        view,
        torch.full((1, channels, *kernel), value, dtype=torch.float64),
        naming=Naming(call.name, call.operation),
        builder=call.builder,
        size=(height // kernel[0], width // kernel[1]),
    )


def _pool(
    call: Call, rows: Sequence[Window], columns: Sequence[Window], *, maximum: bool = False
) -> Sum:
    value, _ = call.image("self")
    return pool(
        call.builder.store(value, name=f"{call.name}.input"),
        rows,
        columns,
        naming=Naming(call.name, call.operation),
        builder=call.builder,
        maximum=maximum,
    )


def _axes(call: Call, layout: Layout) -> set[str]:
    dims = call["dim"]
    if dims is None or (not isinstance(dims, int) and not dims):
        raise UnsupportedError("dim must be given, and not include the batch")
    axes = [layout.axis(dim) for dim in ([dims] if isinstance(dims, int) else dims)]
    if "batch" in axes or (len(layout.channels) > 1 and "channels" in axes):
        raise UnsupportedError(f"dim must be channels, rows or columns, not {dims}")
    return set(axes)


def _reduced(
    shape: tuple[int, int, int], axes: set[str], *, averaged: bool
) -> list[tuple[Window, ...]]:
    return [
        whole_axis(size, averaged=averaged) if axis in axes else every_pixel(size)
        for axis, size in zip(("rows", "columns"), shape[1:], strict=True)
    ]


def _window(call: Call, layout: Layout) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride and padding."""
    kernel = layout.pair(call["kernel_size"], single=1)
    stride = layout.pair(call["stride"], single=1) if call["stride"] else kernel
    return kernel, stride, layout.pair(call["padding"], single=0)


def _size(call: Call, layout: Layout) -> tuple[int, int]:
    return layout.pair(call.shape[1:], single=1)
