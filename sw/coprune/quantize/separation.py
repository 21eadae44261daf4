"""Convolutions that share a sum, and had better have a layer of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from coprune.compiler.expressions import unique_name
from coprune.compiler.float_graph import FloatGraph, FloatLayer, FloatSource, FloatTensor
from coprune.compiler.scheme import NOTHING_GIVEN, Scheme
from coprune.quantize.accumulator import (
    FINEST_STEP,
    choose_accumulator,
    common_scale,
    uniform,
    weight_limit,
    weight_noise,
)
from coprune.quantize.calibration import Grid, Statistics

ROUNDING_NOISE = 1 / 12
"""Mean squared error of rounding to integers."""


def separate_unlike_sources(
    graph: FloatGraph,
    statistics: dict[str, Statistics],
    grids: dict[str, Grid],
    *,
    scheme: Scheme = NOTHING_GIVEN,
) -> tuple[FloatGraph, Scheme]:
    """Give a convolution a layer of its own where a common accumulator scale costs too much.

    The source with the coarsest weights rules the scale, and the others round theirs to it. A
    layer stays together while the error that this adds is below what rounding the convolution to
    a tensor of its own would add.

    Returns
    -------
    FloatGraph
        With statistics still to be measured for the new tensors; `graph` itself if all layers stay
        together.
    Scheme
        That of the new graph.
    """
    layers: list[FloatLayer] = []
    renamed: dict[str, FloatTensor] = {}
    given = dict(scheme.grids)
    taken = {graph.input.name, *(layer.name for layer in graph.layers)}
    for layer in graph.layers:
        unlike = _unlike_source(layer, statistics, grids, scheme)
        layer = _reading(layer, renamed)
        if unlike is None:
            layers.append(layer)
            continue
        source = layer.sources[unlike]
        main = source.name == layer.name
        name = source.name if main else unique_name(source.name, taken=taken)
        rest = unique_name(f"{layer.name}.add", taken=taken) if main else layer.name
        taken |= {name, rest}
        alone = FloatLayer(
            name=name,
            operation=source.operation,
            output=replace(layer.output, name=name),
            sources=(source,),
            bias=layer.bias,
        )
        others = (*layer.sources[:unlike], *layer.sources[unlike + 1 :])
        summed = replace(
            layer,
            name=rest,
            operation="add" if main else layer.operation,
            output=replace(layer.output, name=rest),
            sources=(_identity(alone.output, name=rest), *others),
            bias=torch.zeros_like(layer.bias),
        )
        renamed[layer.output.name] = summed.output
        layers += [alone, summed]
        for before, after in (
            (layer.output.name, summed.output.name),
            (layer.requantized, summed.requantized),
        ):
            if before in given:
                given[after] = given.pop(before)
        if source.name in scheme.source_grids:
            given[name] = scheme.source_grids[source.name]
    if len(layers) == len(graph.layers):
        return graph, scheme
    return FloatGraph(graph.input, tuple(layers)), replace(scheme, grids=given)


def _unlike_source(
    layer: FloatLayer,
    statistics: dict[str, Statistics],
    grids: dict[str, Grid],
    scheme: Scheme,
) -> int | None:
    """The source of a layer that had better have a layer of its own, or None."""
    rounding = [not uniform(source) for source in layer.sources]
    if len(layer.sources) < 2 or not any(rounding) or layer.maximum:
        return None
    output = grids[layer.requantized].scale
    floor = np.full(layer.output.channels, output * FINEST_STEP)
    together = choose_accumulator(layer, grids, floor=floor, scheme=scheme)
    added = []
    for source, weight in zip(layer.sources, together.weights, strict=True):
        grid, power = grids[source.tensor.name], statistics[source.tensor.name].mean_square
        alone = common_scale([source], input_scales=[grid.scale], floor=floor)
        noise = weight_noise(source, weight, step=together.step, input_scale=grid.scale)
        noise -= weight_noise(source, *alone.weights, step=alone.step, input_scale=grid.scale)
        added.append(float(noise.mean()) * power)
    if sum(added) < ROUNDING_NOISE * output**2:
        return None
    worst = int(np.argmax(added))
    if not rounding[worst]:
        needed = [
            _coarseness(source, grids) if rounds else 0.0
            for source, rounds in zip(layer.sources, rounding, strict=True)
        ]
        worst = int(np.argmax(needed))
    # Where the sum's grid is given, so must be that of the new tensor.
    is_free = layer.requantized not in scheme.grids
    given = is_free or layer.sources[worst].name in scheme.source_grids
    return worst if given else None


def _coarseness(source: FloatSource, grids: dict[str, Grid]) -> float:
    largest = float(source.weight.abs().max())
    return largest * grids[source.tensor.name].scale / weight_limit(source)


def _reading(layer: FloatLayer, renamed: dict[str, FloatTensor]) -> FloatLayer:
    sources = tuple(
        replace(source, tensor=renamed.get(source.tensor.name, source.tensor))
        for source in layer.sources
    )
    return replace(layer, sources=sources)


def _identity(tensor: FloatTensor, *, name: str) -> FloatSource:
    return FloatSource(
        name=name,
        operation="copy",
        tensor=tensor,
        weight=torch.ones(tensor.channels, 1, 1, 1, dtype=torch.float64),
        groups=tensor.channels,
        diagonal=True,
    )
