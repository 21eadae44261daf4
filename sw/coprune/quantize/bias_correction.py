"""Bias correction: rounding moves the mean of a layer's output, and its bias can move it back.

The empirical form of Nagel et al. (2019), "Data-Free Quantization Through Weight Equalization and
Bias Correction", https://arxiv.org/abs/1906.04721: the mean error before the activation function is
measured on images, channel by channel, and subtracted. It goes from layer to layer, and each sees
what the corrected ones before it leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from coprune.compiler.float_graph import FloatGraph, FloatLayer, evaluate_sum
from coprune.quantize.accumulator import uniform
from coprune.quantize.calibration import BATCH_IMAGES, Grid
from coprune.quantize.conversion import convert
from coprune_hw.contract import arithmetic
from coprune_sim.graph import Layer
from coprune_sim.reference import exact_convolutions, run_layer


def correct_bias(
    graph: FloatGraph,
    grids: dict[str, Grid],
    batches: Sequence[torch.Tensor],
    *,
    accumulator_bits: int,
) -> FloatGraph:
    """Return a graph with biases that, once it is converted, give channels the means of floats.

    Layers without a rounded weight (copies, maxima, averages) stay as they are: where their output
    has another mean, so has their input, and the layer that reads them corrects it.

    Parameters
    ----------
    graph : FloatGraph
    grids : dict of Grid
        As `coprune.quantize.conversion.convert` takes them.
    batches : sequence of float32 tensors [N, C, H, W]
        The means are those on these images. The values of all of them are held at the same time,
        of the tensors that a later layer still reads.
    accumulator_bits : int

    Raises
    ------
    ValueError
        Sums of a layer, with the corrected bias, do not fit the accumulator.
    """
    integers = convert(graph, grids, accumulator_bits=accumulator_bits)
    last_reader = {
        source.tensor.name: index
        for index, layer in enumerate(graph.layers)
        for source in layer.sources
    }
    images = [part for batch in batches for part in batch.split(BATCH_IMAGES)]
    entry = integers.input
    exact = [{entry.name: batch} for batch in images]
    rounded = [
        {entry.name: arithmetic.quantize(batch, scale=entry.scale, zero=entry.zero).to(torch.int8)}
        for batch in images
    ]
    layers = []
    with torch.inference_mode(), exact_convolutions():
        for index, (layer, integer) in enumerate(zip(graph.layers, integers.layers, strict=True)):
            unclamped = replace(layer, low=-math.inf, high=math.inf)
            exact_sums = [evaluate_sum(unclamped, values) for values in exact]
            if _rounds(layer):
                sums = [run_layer(_raw(integer), integers, values) for values in rounded]
                step = grids[layer.requantized].scale
                error = step * _mean_in_steps(integer, sums) - _mean(exact_sums)
                bias = layer.bias - torch.from_numpy(error)
                corrected = replace(graph, layers=(replace(layer, bias=bias),))
                (integer,) = convert(corrected, grids, accumulator_bits=accumulator_bits).layers
                layer = corrected.layers[0]
            layers.append(layer)
            for values, total in zip(exact, exact_sums, strict=True):
                clamped = total.clamp(layer.low, layer.high)
                values[layer.output.name] = (
                    clamped if layer.function is None else layer.function.evaluate(clamped)
                )
            for values in rounded:
                values[layer.output.name] = run_layer(integer, integers, values)
            for values in (*exact, *rounded):
                for name in [name for name in values if last_reader.get(name, -1) <= index]:
                    del values[name]
    return replace(graph, layers=tuple(layers))


def _rounds(layer: FloatLayer) -> bool:
    return not layer.maximum and not all(map(uniform, layer.sources))


def _raw(layer: Layer) -> Layer:
    """The layer that stores its sums instead of requantizing them."""
    return replace(layer, output=replace(layer.output, raw=True))


def _mean(outputs: Sequence[torch.Tensor]) -> np.ndarray:
    """Mean of every channel over images and pixels."""
    values = sum(output.numel() / output.shape[1] for output in outputs)
    total = sum(output.double().sum(dim=(0, 2, 3)) for output in outputs)
    return (total / values).numpy()


def _mean_in_steps(layer: Layer, sums: Sequence[torch.Tensor]) -> np.ndarray:
    """The mean of sums and bias, in steps of the grid to which they are requantized."""
    factor = layer.multiplier * 2.0 ** -(layer.pre_shift + layer.post_shift)
    return (_mean(sums) + layer.bias) * factor
