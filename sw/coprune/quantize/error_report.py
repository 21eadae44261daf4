"""How much of each layer's output is error: integer graph against float graph, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from coprune.compiler.float_graph import FloatGraph, evaluate
from coprune.quantize.calibration import BATCH_IMAGES
from coprune_hw.contract import arithmetic
from coprune_sim.graph import IntegerGraph, Layer, Tensor
from coprune_sim.reference import exact_convolutions, execute, run_layer


@dataclass(frozen=True)
class LayerError:
    """Signal and error of a layer's output, over all images, channels and pixels.

    Parameters
    ----------
    name, operation : str
        As in the integer graph.
    signal : float
        Mean square of the float output.
    error : float
        Mean square of what the integer output differs from it by.
    own_error : float
        The same where the layer reads the float inputs, rounded to their grids: its error alone.
    """

    name: str
    operation: str
    signal: float
    error: float
    own_error: float

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantization-noise ratio in dB; infinite without an error."""
        return _decibels(self.signal, self.error)

    @property
    def own_sqnr_db(self) -> float:
        """That of the layer alone."""
        return _decibels(self.signal, self.own_error)


def measure_errors(
    exact: FloatGraph, integers: IntegerGraph, images: torch.Tensor
) -> tuple[LayerError, ...]:
    """Hold every layer of an integer graph against the float graph that it was rounded from.

    Parameters
    ----------
    exact : FloatGraph
    integers : IntegerGraph
        With the same layers, as in `coprune.quantize.Quantization`.
    images : float32 tensor [N, C, H, W]

    Returns
    -------
    tuple of LayerError
        In execution order.

    Raises
    ------
    ValueError
        The graphs have different layers, or `images` are none or have another shape than the input.
    """
    names, others = ([layer.name for layer in graph.layers] for graph in (exact, integers))
    if names != others:
        different = next(
            (pair for pair in zip(names, others, strict=False) if pair[0] != pair[1]),
            (len(names), len(others)),
        )
        raise ValueError(
            f"the graphs must have the same layers, not {different[0]!r} in floats where the "
            f"integers have {different[1]!r}"
        )
    if images.dim() != 4 or tuple(images.shape[1:]) != exact.input.shape or not len(images):
        shape = ", ".join(map(str, exact.input.shape))
        raise ValueError(f"images must have the shape [N, {shape}], not {list(images.shape)}")
    squares = np.zeros((len(names), 3))
    with torch.inference_mode(), exact_convolutions():
        for batch in images.split(BATCH_IMAGES):
            squares += list(_squares(exact, integers, batch))
    pixels = [len(images) * math.prod(layer.output.shape) for layer in integers.layers]
    return tuple(
        LayerError(layer.name, layer.operation, *(total / count).tolist())
        for layer, total, count in zip(integers.layers, squares, pixels, strict=True)
    )


def _squares(
    exact: FloatGraph, integers: IntegerGraph, batch: torch.Tensor
) -> Iterator[tuple[float, float, float]]:
    """Yield the sums of squares of every layer's signal, error and own error."""
    floats = evaluate(exact, batch)
    name, values = next(floats)
    rounded = {name: _quantized(values, integers.input)}
    last_reader = {
        source.tensor: index
        for index, layer in enumerate(integers.layers)
        for source in layer.sources
    }
    outputs = execute(integers, rounded[name], run_layer=run_layer)
    lines = zip(integers.layers, floats, outputs, strict=True)
    for index, (layer, (_, values), (_, output)) in enumerate(lines):
        alone = run_layer(layer, integers, rounded)
        yield (
            _sum_of_squares(values.double()),
            _sum_of_squares(_real(output, layer, integers) - values.double()),
            _sum_of_squares(_real(alone, layer, integers) - values.double()),
        )
        rounded[layer.output.name] = _quantized(values, layer.output)
        for name in [name for name in rounded if last_reader.get(name, -1) <= index]:
            del rounded[name]


def _quantized(values: torch.Tensor, tensor: Tensor) -> torch.Tensor:
    return arithmetic.quantize(values, scale=tensor.scale, zero=tensor.zero).to(torch.int8)


def _real(values: torch.Tensor, layer: Layer, graph: IntegerGraph) -> torch.Tensor:
    """What a layer's output stands for."""
    if layer.output.raw and graph.raw_scale is not None:
        step, bias = (
            torch.from_numpy(each).view(-1, 1, 1)
            for each in (graph.raw_scale.step, graph.raw_scale.bias)
        )
        return step * (values.double() + bias)
    tensor = layer.output
    return arithmetic.dequantize(values.double(), scale=tensor.scale, zero=tensor.zero)


def _sum_of_squares(values: torch.Tensor) -> float:
    return float(values.square().sum())


def _decibels(signal: float, error: float) -> float:
    if error == 0.0:
        return math.inf
    return 10 * math.log10(signal / error) if signal else -math.inf
