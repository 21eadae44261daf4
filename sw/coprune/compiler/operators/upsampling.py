"""Operators that write more pixels than they read: convolutions of an image with zeros between."""

from __future__ import annotations

from dataclasses import replace

import torch

from coprune.compiler.expressions import Expression, Sum, UnsupportedError, View
from coprune.compiler.operators.call import Call
from coprune.compiler.operators.windows import Naming, convolve


def lower_nearest(call: Call) -> Expression:
    """upsample_nearest1d, upsample_nearest2d by a power of 2: every pixel under a 2 x 2 window."""
    value, layout = call.image("input")
    view = call.builder.store(value, name=f"{call.name}.input")
    size = layout.pair(call.shape[1:], single=1)
    factors = {
        output / pixels
        for output, pixels in zip(size, view.shape[1:], strict=True)
        if (output, pixels) != (1, 1)
    } or {1}
    factor = factors.pop()
    if factors or factor not in (1, 2, 4, 8, 16):
        raise UnsupportedError(
            f"rows and columns must become 2, 4, 8 or 16 times as many, not {size} of "
            f"{view.shape[1:]}"
        )
    value: Expression = view
    while value.shape[1:] != size:
        value = _double(call.builder.store(value, name=call.name), size=size, call=call)
    return value


def lower_depth_to_space(call: Call) -> Expression:
    """pixel_shuffle by 2 or 4: every output takes a channel of one pixel."""
    factor = call["upscale_factor"]
    if factor not in (2, 4):
        raise UnsupportedError(f"its factor must be 2 or 4, not {factor}")
    view = call.stored("self")
    if factor == 2:
        return _shuffle(view, call=call)
    # By 2 twice: first the rows and columns that lie further apart.
    channels = view.shape[0] // 16
    places = torch.arange(view.shape[0]).reshape(channels, 2, 2, 2, 2)
    places = places.permute(0, 2, 4, 1, 3).flatten().tolist()
    ordered = replace(view, channels=tuple(view.channels[place] for place in places))
    half = _shuffle(ordered, call=call)
    return _shuffle(call.builder.store(half, name=f"{call.name}.half"), call=call)


def _double(view: View, *, size: tuple[int, int], call: Call) -> Sum:
    """An image of twice the rows and columns, up to a size."""
    channels, *pixels = view.shape
    kernel = [1 if size[axis] == 1 else 2 for axis in range(2)]
    return convolve(
        view,
        torch.ones(channels, 1, *kernel, dtype=torch.float64),
        naming=Naming(call.name, "copy"),
        builder=call.builder,
        size=tuple(count * taps for count, taps in zip(pixels, kernel, strict=True)),
        groups=channels,
        padding=(kernel[0] - 1, kernel[1] - 1),
        input_dilation=2,
    )


def _shuffle(view: View, *, call: Call) -> Sum:
    """An image of twice the rows and columns, whose 2 x 2 pixels are four channels."""
    if not (replace(view, channels=View.of(view.tensor).channels).contiguous and not view.padded):
        view = call.builder.store(view, name=f"{call.name}.input")
    _, height, width = view.shape
    inputs, outputs = view.tensor.channels, len(view.channels) // 4
    chosen = torch.zeros(len(view.channels), inputs, dtype=torch.float64)
    for place, channel in enumerate(view.channels):
        if channel is not None:
            chosen[place, channel] = 1.0
    weight = chosen.reshape(outputs, 2, 2, inputs).permute(0, 3, 1, 2).flip(2, 3)
    return convolve(
        View.of(view.tensor),
        weight.contiguous(),
        naming=Naming(call.name, "copy"),
        builder=call.builder,
        size=(2 * height, 2 * width),
        padding=(1, 1),
        input_dilation=2,
    )
