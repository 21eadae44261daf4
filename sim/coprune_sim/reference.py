"""The integer reference: executes an `IntegerGraph` bit for bit, with floats that cannot round.

Sums of products are integers far below the width of a float's significand, so a floating-point
convolution computes them exactly, in any order. `worst_sum` proves for each layer that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.nn.functional as F

from coprune_hw.contract.arithmetic import requantize
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

ACTIVATION_REACH = 128
"""Largest magnitude of an int8 activation."""
BATCH_IMAGES = 64
"""Images that pass through the graph together: their values stay near the cache."""
REQUANTIZED_VALUES = 1 << 16
"""Values that are requantized together: their int64 temporaries stay in the cache."""


def run(
    graph: IntegerGraph, inputs: np.ndarray | torch.Tensor, *, keep_layers: bool = False
) -> np.ndarray | dict[str, np.ndarray]:
    """Execute a graph.

    Parameters
    ----------
    graph : IntegerGraph
    inputs : int8 array or tensor [N, C, H, W]
    keep_layers : bool
        Return the outputs of all layers.

    Returns
    -------
    int8 array [N, C, H, W], or dict of layer name to int8 array [N, C, H, W]; int32 where an output
    is raw

    Raises
    ------
    TypeError
        `inputs` are not int8.
    ValueError
        `inputs` have another shape than the graph's input, or a sum may exceed 2**53.
    """
    images = check_images(graph, inputs)
    kept = [layer for layer in graph.layers if keep_layers or layer is graph.layers[-1]]
    results = {
        layer.name: np.empty((len(images), *layer.output.shape), layer.output.dtype)
        for layer in kept
    }
    with torch.inference_mode(), exact_convolutions():
        for start in range(0, len(images), BATCH_IMAGES):
            batch = images[start : start + BATCH_IMAGES]
            for name, output in execute(graph, batch, run_layer=run_layer):
                if name in results:
                    results[name][start : start + len(output)] = output.numpy()
    return results if keep_layers else results[graph.layers[-1].name]


def check_images(graph: IntegerGraph, inputs: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Take images as a tensor; raise `TypeError` or `ValueError` as `run` does."""
    images = torch.as_tensor(inputs)
    if images.dtype != torch.int8:
        raise TypeError(f"inputs must be int8, not {images.dtype}")
    if images.dim() != 4 or tuple(images.shape[1:]) != graph.input.shape:
        raise ValueError(
            f"inputs must have the shape [N, {', '.join(map(str, graph.input.shape))}], "
            f"not {list(images.shape)}"
        )
    return images


def exact_convolutions() -> AbstractContextManager[None]:
    """Within this context, PyTorch's float convolutions add up products as they are.

    NNPACK would multiply in a transformed domain, where sums of integers are not exact.
    """
    return torch.backends.nnpack.flags(enabled=False)


def execute(
    graph: IntegerGraph,
    images: torch.Tensor,
    *,
    run_layer: Callable[[Layer, IntegerGraph, dict[str, torch.Tensor]], torch.Tensor],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Run all layers; keep a tensor until its last reader has run.

    Parameters
    ----------
    graph : IntegerGraph
    images : tensor [N, C, H, W]
        The network's input, in any form that `run_layer` takes.
    run_layer : callable
        Compute a layer, as the function `run_layer` of this module does.

    Yields
    ------
    name : str
        Of a layer, in execution order.
    output : tensor [N, C, H, W]
    """
    last_reader = {
        source.tensor: index for index, layer in enumerate(graph.layers) for source in layer.sources
    }
    values = {graph.input.name: images}
    for index, layer in enumerate(graph.layers):
        output = run_layer(layer, graph, values)
        values[layer.output.name] = output
        yield layer.name, output
        for name in [name for name in values if last_reader.get(name, -1) <= index]:
            del values[name]


def run_layer(layer: Layer, graph: IntegerGraph, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute a layer, within `exact_convolutions`.

    Parameters
    ----------
    layer : Layer
    graph : IntegerGraph
        The layer's graph.
    values : dict
        Tensor name to int8 tensor [N, C, H, W]: at least those that the layer reads.

    Returns
    -------
    int8 tensor [N, C, H, W]

    Raises
    ------
    ValueError
        A sum may exceed 2**53.
    """
    return _drain(layer, _accumulate(layer, graph, values))


def worst_sum(weight: np.ndarray) -> np.ndarray:
    """Largest magnitude that a sum of products, or a part of it, can take for any int8 input.

    Parameters
    ----------
    weight : integer array [outputs, ...]

    Returns
    -------
    int64 array [outputs]
    """
    magnitudes = np.abs(weight.astype(np.int64)).reshape(len(weight), -1)
    return ACTIVATION_REACH * magnitudes.sum(axis=1)


def exact_float(layer: Layer) -> torch.dtype:
    """Return the narrowest float type that adds up every sum of a layer without rounding.

    Raises
    ------
    ValueError
        Not even float64 does.
    """
    worst = int(sum(worst_sum(source.weight) for source in layer.sources).max())
    for dtype, significand_bits in ((torch.float32, 24), (torch.float64, 53)):
        if worst < 1 << significand_bits:
            return dtype
    raise ValueError(f"layer {layer.name!r}: a sum may reach {worst}, beyond 2**53")


def window_padding(
    *,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    dilation: tuple[int, int],
    image: tuple[int, int],
    output: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Padding with which an unpadded convolution yields exactly an output's size.

    Parameters
    ----------
    kernel, dilation, image, output : tuple of int
        Rows, columns.
    padding : tuple of int
        Rows above, columns left.

    Returns
    -------
    tuple of int
        Left, right, above, below, as `torch.nn.functional.pad` takes them; negative ones crop.
    """
    below, right = (
        (output[axis] - 1) * stride
        + dilation[axis] * (kernel[axis] - 1)
        + 1
        - padding[axis]
        - image[axis]
        for axis in range(2)
    )
    return (padding[1], right, padding[0], below)


def dilate(image: torch.Tensor, dilation: int, *, value: float) -> torch.Tensor:
    """Put rows and columns of `value` between those of an image [N, C, H, W]."""
    if dilation == 1:
        return image
    sizes = ((size - 1) * dilation + 1 for size in image.shape[2:])
    dilated = image.new_full((*image.shape[:2], *sizes), value)
    dilated[:, :, ::dilation, ::dilation] = image
    return dilated


def _accumulate(layer: Layer, graph: IntegerGraph, values: dict[str, torch.Tensor]) -> torch.Tensor:
    dtype = exact_float(layer)
    total = None
    for source in layer.sources:
        tensor = graph.tensor(source.tensor)
        image = _padded(values[source.tensor], source, tensor=tensor, layer=layer).to(dtype)
        weight = torch.from_numpy(source.weight).to(dtype)
        if layer.maximum:
            products = _reduce_taps(image, weight, source, layer=layer, combine=torch.maximum)
        elif source.groups == tensor.channels == len(weight):
            products = _reduce_taps(image, weight, source, layer=layer, combine=torch.add)
        else:
            products = F.conv2d(
                image,
                weight,
                stride=source.stride,
                dilation=source.dilation,
                groups=source.groups,
            )
        if total is None:
            total = products
        elif layer.maximum:
            total = torch.maximum(total, products)
        else:
            total = total.add_(products)
    return total


def _padded(image: torch.Tensor, source: Source, *, tensor: Tensor, layer: Layer) -> torch.Tensor:
    image = dilate(image, source.input_dilation, value=tensor.zero)
    padding = window_padding(
        kernel=source.weight.shape[2:],
        stride=source.stride,
        padding=source.padding,
        dilation=source.dilation,
        image=image.shape[2:],
        output=(layer.output.height, layer.output.width),
    )
    return F.pad(image, padding, value=-128 if layer.maximum else tensor.zero)


def _reduce_taps(image, weight, source: Source, *, layer: Layer, combine) -> torch.Tensor:
    """Combine the depthwise products of all taps; `image` is padded."""
    rows, columns = ((size - 1) * source.stride + 1 for size in layer.output.shape[1:])
    total = None
    for y, x in np.ndindex(*weight.shape[2:]):
        top, left = y * source.dilation[0], x * source.dilation[1]
        pixels = image[
            :, :, top : top + rows : source.stride, left : left + columns : source.stride
        ]
        products = pixels * weight[:, 0, y, x].view(-1, 1, 1)
        total = products if total is None else combine(total, products)
    return total


def _drain(layer: Layer, accumulators: torch.Tensor) -> torch.Tensor:
    def per_channel(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).view(-1, 1, 1)

    if layer.output.raw:
        return accumulators.to(torch.int32)
    output = torch.empty(accumulators.shape, dtype=torch.int8)
    images = max(1, REQUANTIZED_VALUES // accumulators[0].numel())
    for start in range(0, len(accumulators), images):
        output[start : start + images] = requantize(
            accumulators[start : start + images].to(torch.int64),
            bias=per_channel(layer.bias),
            multiplier=per_channel(layer.multiplier),
            pre_shift=per_channel(layer.pre_shift),
            post_shift=per_channel(layer.post_shift),
            zero=layer.requantized_zero,
            low=layer.low,
            high=layer.high,
        )
    if layer.table is not None:
        output = torch.from_numpy(layer.table)[output.to(torch.int64) + ACTIVATION_REACH]
    return output
