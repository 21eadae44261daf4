"""Operators that pick, reorder, pad and put together values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from coprune.compiler.expressions import Expression, Sum, UnsupportedError, View, copy
from coprune.compiler.float_graph import FloatSource
from coprune.compiler.operators.call import Call, Layout


def lower_reshape(call: Call) -> Expression:
    """view, reshape, flatten, squeeze...: values keep their order, and readers see the axes."""
    return call.expression("self")


def lower_permutation(call: Call) -> Expression:
    """permute and transpose of axes that together are the channels, as in a channel shuffle."""
    rank = len(call.operand_shape) + 1
    if call.operation == "permute":
        order = [dim % rank for dim in call["dims"]]
    else:
        order = list(range(rank))
        first, second = call["dim0"] % rank, call["dim1"] % rank
        order[first], order[second] = order[second], order[first]
    value, layout = call.image("self")
    # Axes of size 1 may go anywhere.
    moved = [axis for axis in order if axis and call.operand_shape[axis - 1] > 1]
    spatial = [axis for axis in moved if layout.axis(axis) != "channels"]
    if order[0] != 0 or moved[len(moved) - len(spatial) :] != sorted(spatial):
        raise UnsupportedError("rows and columns must stay last, and in their order")
    places = torch.arange(value.shape[0]).reshape(layout.channels)
    among_channels = [axis - 1 for axis in order if axis and layout.axis(axis) == "channels"]
    places = places.permute(among_channels).flatten().tolist()
    Layout.of(call.shape, image=value.shape)
    return _with_channels(call, value, places)


def lower_slice(call: Call) -> Expression:
    """slice, narrow: every so many channels, rows or columns from a first one on."""
    if call.operation == "narrow":
        start, step = call["start"], 1
        end = start + call["length"]
    else:
        start, end, step = call["start"], call["end"], call["step"]
    if call.shape == call.operand_shape:
        return call.expression("self")
    return _slice(call, call["dim"], slice(start, end, step))


def lower_select(call: Call) -> Expression:
    """select: one channel, row or column, whose axis disappears."""
    index = call["index"]
    size = call.operand_shape[call["dim"] % (len(call.operand_shape) + 1) - 1]
    result = _slice(call, call["dim"], slice(index % size, index % size + 1, 1))
    Layout.of(call.shape, image=result.shape)
    return result


def lower_split(call: Call) -> list[Expression]:
    """chunk, split, split_with_sizes: a slice for each part."""
    dim = call["dim"]
    value, layout = call.image("self")
    size = value.shape[("channels", "rows", "columns").index(_axis(layout, dim))]
    if call.operation == "split_with_sizes":
        sizes = call["split_sizes"]
    else:
        each = call["split_size"] if call.operation == "split" else -(-size // call["chunks"])
        sizes = [min(each, size - start) for start in range(0, size, each)]
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    value = call.builder.store(value, name=f"{call.name}.input")
    call = replace(call, arguments={**call.arguments, "self": value})
    return [
        _slice(call, dim, slice(end - part, end, 1)) for end, part in zip(ends, sizes, strict=True)
    ]


def lower_index_select(call: Call) -> Expression:
    """index_select, and indexing with a list: channels in any order."""
    if call.operation == "index":
        indices = call["indices"]
        given = [axis for axis, index in enumerate(indices) if index is not None]
        if len(given) != 1 or not isinstance(indices[given[0]], torch.Tensor):
            raise UnsupportedError("it must index one axis with constant numbers")
        dim, index = given[0], indices[given[0]]
    else:
        dim, index = call["dim"], call.parameter("index")
    value, layout = call.image("self")
    if _axis(layout, dim) != "channels" or len(layout.channels) != 1:
        raise UnsupportedError("it must select channels")
    if index.dtype != torch.int64 or index.dim() != 1:
        raise UnsupportedError("the index must be a list of numbers")
    return _with_channels(call, value, [int(place) % value.shape[0] for place in index])


def lower_flip(call: Call) -> Expression:
    """flip of channels."""
    value, layout = call.image("self")
    if [_axis(layout, dim) for dim in call["dims"]] != ["channels"] or len(layout.channels) != 1:
        raise UnsupportedError("it must flip channels: no layer reads pixels backwards")
    return _with_channels(call, value, list(reversed(range(value.shape[0]))))


def lower_pad(call: Call) -> Expression:
    """pad with zeros: channels that read as zero, rows and columns around the image."""
    if call.arguments.get("mode", "constant") != "constant" or call["value"]:
        raise UnsupportedError("it must pad with the constant 0")
    if min(call["pad"]) < 0:
        raise UnsupportedError("it must pad, not crop: take a slice")
    value, layout = call.image("self")
    amounts = {"rows": (0, 0), "columns": (0, 0), "channels": (0, 0)}
    for index in range(len(call["pad"]) // 2):
        amount = (call["pad"][2 * index], call["pad"][2 * index + 1])
        if any(amount):
            amounts[_axis(layout, -1 - index)] = amount
    if len(layout.channels) != 1:
        raise UnsupportedError("it must pad channels, rows and columns of an image")
    view = value if isinstance(value, View) else call.builder.store(value, name=call.name)
    around = (*amounts["rows"], *amounts["columns"])
    if any(around) and not view.uncropped:
        view = call.builder.store(view, name=f"{call.name}.input")
    front, back = amounts["channels"]
    return replace(
        view,
        channels=(None,) * front + view.channels + (None,) * back,
        height=view.height + sum(amounts["rows"]),
        width=view.width + sum(amounts["columns"]),
        padding=tuple(old + more for old, more in zip(view.padding, around, strict=True)),
    )


def lower_concatenation(call: Call) -> Expression:
    """cat: one source for each operand, with zeros in the others' place."""
    name = f"{call.name}.input"
    values = [call.builder.store(value, name=name) for value in call["tensors"]]
    axis = "channels"
    if len(call.shape) == 1:
        values = [call.builder.flatten(value, name=name) for value in values]
    else:
        axis = _axis(Layout.of(call.operand_shape, image=values[0].shape), call["dim"])
    index = ("channels", "rows", "columns").index(axis)
    others = {tuple(size for at, size in enumerate(view.shape) if at != index) for view in values}
    if len(others) > 1:
        raise UnsupportedError("operands must be images of the same size")
    if index:
        joined = call.builder.join(values, axis=index, name=call.name)
        return replace(joined, operation=call.operation)
    return _beside(call, values)


def lower_space_to_depth(call: Call) -> Expression:
    """pixel_unshuffle by 2 or 4: a copy whose kernel holds one weight for each output."""
    factor = call["downscale_factor"]
    if factor not in (2, 4):
        raise UnsupportedError(f"its factor must be 2 or 4, not {factor}")
    view = call.builder.store(call.expression("self"), name=f"{call.name}.input")
    channels, height, width = view.shape
    taps = channels * factor**2
    weight = torch.eye(taps, dtype=torch.float64).reshape(taps, channels, factor, factor)
    source = FloatSource(call.name, "copy", view.tensor, weight, stride=factor, diagonal=True)
    return Sum(
        name=call.name,
        operation="copy",
        shape=(taps, height // factor, width // factor),
        sources=(source,),
        bias=torch.zeros(taps, dtype=torch.float64),
    )


def lower_dropout(call: Call) -> Expression:
    """Dropout does nothing in evaluation mode."""
    if call["train"] and call["p"]:
        raise ValueError(f"{call.name} was exported in training mode: call eval() before export")
    return call.expression(call.operand)


def lower_unchanged(call: Call) -> Expression:
    """An operator that does not change values."""
    return call.expression(call.operand)


def _beside(call: Call, views: Sequence[View]) -> Sum:
    outputs = sum(view.shape[0] for view in views)
    sources, first = (), 0
    for view in views:
        front, back = (None,) * first, (None,) * (outputs - first - view.shape[0])
        padded = replace(view, channels=front + view.channels + back)
        sources += copy(padded, name=call.name).sources
        first += view.shape[0]
    return Sum(
        name=call.name,
        operation=call.operation,
        shape=(outputs, *views[0].shape[1:]),
        sources=sources,
        bias=torch.zeros(outputs, dtype=torch.float64),
    )


def _slice(call: Call, dim: int, bounds: slice) -> View:
    value, layout = call.image("self")
    axis = _axis(layout, dim)
    view = value if isinstance(value, View) else call.builder.store(value, name=call.name)
    if axis == "channels":
        places = torch.arange(view.shape[0]).reshape(layout.channels)
        places = places[(slice(None),) * (dim % (len(call.operand_shape) + 1) - 1) + (bounds,)]
        return _with_channels(call, view, places.flatten().tolist())
    if view.padded:
        view = call.builder.store(view, name=f"{call.name}.input")
    index = 0 if axis == "rows" else 1
    start, end, step = bounds.indices(view.shape[1 + index])
    first, stride = list(view.first), list(view.stride)
    first[index] += start * stride[index]
    stride[index] *= step
    size = [view.height, view.width]
    size[index] = math.ceil((end - start) / step)
    if size[index] < 1:
        raise UnsupportedError("it must leave at least one pixel")
    return replace(view, height=size[0], width=size[1], first=tuple(first), stride=tuple(stride))


def _axis(layout: Layout | None, dim: int) -> str:
    axis = "channels" if layout is None else layout.axis(dim)
    if axis == "batch":
        raise UnsupportedError("the batch must stay as it is")
    return axis


def _with_channels(call: Call, value: Expression, places: Sequence[int]) -> View:
    view = value if isinstance(value, View) else call.builder.store(value, name=call.name)
    return replace(view, channels=tuple(view.channels[place] for place in places))
