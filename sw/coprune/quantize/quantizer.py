"""Post-training quantization: float graph and statistics to integer graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from coprune.compiler.expressions import unique_name
from coprune.compiler.float_graph import FloatGraph, FloatLayer, FloatSource, FloatTensor
from coprune.compiler.frontend import export, lower
from coprune.compiler.onnx.scheme import Scheme
from coprune.quantize.accumulator import (
    Accumulator,
    common_scale,
    uniform,
    weight_limit,
    weight_noise,
)
from coprune.quantize.calibration import BINS, OBSERVERS, Grid, Statistics, measure
from coprune_hw.contract import arithmetic
from coprune_hw.contract.arithmetic import FixedPoint, fixed_point
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor
from coprune_sim.reference import ACTIVATION_REACH, worst_sum

# Only networks that are ONNX need the package.
if TYPE_CHECKING:
    import onnx

    from coprune.compiler.onnx.frontend import OnnxNetwork

FINEST_STEP = 2.0**-24
"""Smallest accumulator step in output steps: finer ones change nothing, and dead channels with
weights of 1e-30 would otherwise ask for them."""
BIAS_BITS_BELOW_ACCUMULATOR = 2
"""A bias may take a quarter of the accumulator's range; the rest is for the sum."""
FEWEST_WEIGHT_STEPS = 7
"""The largest weight of a channel keeps at least this many steps when sums must become shorter."""
SHORTENINGS = 12
"""How often the accumulator step is raised before a layer is refused."""
ROUNDING_NOISE = 1 / 12
"""Mean squared error of rounding to integers."""
WHOLE = 1e-3
"""Weights this close to integers are the integers of a quantized file, whose scales are float32."""
NOTHING_GIVEN = Scheme()
"""All grids and weight scales are to be chosen."""


def quantize(
    model: nn.Module | ExportedProgram | str | Path | onnx.ModelProto | OnnxNetwork,
    calibration: Sequence[torch.Tensor] = (),
    *,
    accumulator_bits: int = 32,
    observer: str = "mse",
) -> IntegerGraph:
    """Quantize a network to int8 from the values it takes on some images.

    Parameters
    ----------
    model : nn.Module, ExportedProgram, or ONNX as path, onnx.ModelProto or OnnxNetwork
        In evaluation mode, with one float32 input [N, C, H, W]. See `coprune.compiler.frontend`
        and `coprune.compiler.onnx.frontend` for what it may consist of. What a quantized ONNX
        network says about scales and zero points holds.
    calibration : sequence of float32 tensors [N, C, H, W]
        Batches of typical inputs, preprocessed as the network expects them; some hundred images.
        An ONNX network that is quantized throughout needs none.
    accumulator_bits : int
        Width that no sum leaves, whatever the input.
    observer : str
        How a tensor's range is chosen: ``"mse"`` minimizes the mean squared error, ``"percentile"``
        leaves out the rarest values, ``"minmax"`` covers all values.

    Raises
    ------
    TypeError
        `calibration` are not float32 tensors, or `model` is none of these.
    ValueError
        The network is in training mode, holds NaN or uses an operator that is not supported
        (`UnsupportedOperatorError`, `UnsupportedNodeError`); `calibration` is needed but empty, or
        has other shapes than the network's input; or sums of a layer do not fit the accumulator.
    """
    if observer not in OBSERVERS:
        raise ValueError(f"observer must be one of {', '.join(OBSERVERS)}, not {observer!r}")
    graph, scheme = _lower(model, calibration)
    if scheme.grids and not (missing := _ungiven(graph, scheme)):
        calibration = ()
    else:
        if scheme.grids and not len(calibration):
            raise ValueError(
                f"calibration must hold images, because the network is only partly quantized: "
                f"tensor {missing[0]!r} has no scale"
            )
        image = _image_shape(calibration)
        if graph.input.shape != image:
            raise ValueError(
                f"calibration images must have the shape {graph.input.shape}, not {image}"
            )
    while True:
        statistics = measure(graph, calibration) if len(calibration) else {}
        grids = choose_grids(graph, statistics, observer=observer, scheme=scheme)
        separated, scheme = separate_unlike_sources(
            graph, statistics or assume_even_spread(grids), grids, scheme=scheme
        )
        if separated is graph:
            return convert(graph, grids, accumulator_bits=accumulator_bits, scheme=scheme)
        graph = separated


def assume_even_spread(grids: dict[str, Grid]) -> dict[str, Statistics]:
    """Return statistics of tensors in which all values of their grids are equally frequent."""
    statistics = {}
    for name, grid in grids.items():
        steps = np.arange(-ACTIVATION_REACH, ACTIVATION_REACH)
        values = arithmetic.dequantize(steps, scale=grid.scale, zero=grid.zero)
        statistics[name] = Statistics(
            low=float(values[0]),
            high=float(values[-1]),
            mean_square=float(np.mean(values**2)),
            counts=np.ones(BINS, np.int64),
        )
    return statistics


def choose_grids(
    graph: FloatGraph,
    statistics: dict[str, Statistics],
    *,
    observer: str,
    scheme: Scheme = NOTHING_GIVEN,
) -> dict[str, Grid]:
    """Return the int8 grid of every tensor of a graph, by name.

    A given grid holds. Otherwise layers that only pass values on (maximum, copy) have the grid of
    their input.
    """
    choose = OBSERVERS[observer]

    def find(name: str) -> Grid:
        return Grid(*scheme.grids[name]) if name in scheme.grids else choose(statistics[name])

    grids = {graph.input.name: find(graph.input.name)}
    for layer in graph.layers:
        name = layer.output.name
        if layer.copies and name not in scheme.grids:
            grids[name] = grids[layer.sources[0].tensor.name]
        else:
            grids[name] = find(name)
    return grids


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
        if layer.name in scheme.grids:
            given[rest] = given.pop(layer.name)
        if source.name in scheme.source_grids:
            given[name] = scheme.source_grids[source.name]
    if len(layers) == len(graph.layers):
        return graph, scheme
    return FloatGraph(graph.input, tuple(layers)), replace(scheme, grids=given)


def convert(
    graph: FloatGraph,
    grids: dict[str, Grid],
    *,
    accumulator_bits: int,
    scheme: Scheme = NOTHING_GIVEN,
) -> IntegerGraph:
    """Round a float graph to integers.

    Parameters
    ----------
    graph : FloatGraph
    grids : dict of Grid
        Of every tensor, by name.
    accumulator_bits : int
    scheme : Scheme
        Its scales of weights hold wherever a layer's sources can share them.

    Raises
    ------
    ValueError
        Sums of a layer do not fit the accumulator.
    """
    layers = tuple(
        _convert_layer(layer, grids, accumulator_bits=accumulator_bits, scheme=scheme)
        for layer in graph.layers
    )
    return IntegerGraph(_tensor(graph.input, grids), layers)


def _convert_layer(
    layer: FloatLayer, grids: dict[str, Grid], *, accumulator_bits: int, scheme: Scheme
) -> Layer:
    accumulator = _fitting_accumulator(
        layer, grids, accumulator_bits=accumulator_bits, scheme=scheme
    )
    bias = _integer_bias(layer, accumulator, grids)
    output, grid = _tensor(layer.output, grids), grids[layer.output.name]
    low, high = (
        int(arithmetic.quantize(np.float64(bound), scale=grid.scale, zero=grid.zero))
        for bound in (layer.low, layer.high)
    )
    bounds = _biased_bound(accumulator, bias)
    factors = [
        _factor(
            layer,
            channel,
            scale=accumulator.step[channel] / grid.scale,
            output_reach=max(abs(low - grid.zero), abs(high - grid.zero)),
            accumulator_bound=int(bounds[channel]),
        )
        for channel in range(layer.output.channels)
    ]
    return Layer(
        name=layer.name,
        operation=layer.operation,
        output=output,
        sources=tuple(
            Source(
                tensor=source.tensor.name,
                weight=weight,
                groups=source.groups,
                stride=source.stride,
                padding=source.padding,
                dilation=source.dilation,
            )
            for source, weight in zip(layer.sources, accumulator.weights, strict=True)
        ),
        bias=bias,
        multiplier=np.array([factor.multiplier for factor in factors], np.int64),
        pre_shift=np.array([factor.pre_shift for factor in factors], np.int64),
        post_shift=np.array([factor.post_shift for factor in factors], np.int64),
        low=low,
        high=high,
        maximum=layer.maximum,
    )


def _factor(
    layer: FloatLayer, channel: int, *, scale: float, output_reach: int, accumulator_bound: int
) -> FixedPoint:
    try:
        return fixed_point(scale, output_reach=output_reach, accumulator_bound=accumulator_bound)
    except ValueError as error:
        raise ValueError(f"layer {layer.name!r}, channel {channel}: {error}") from error


def _fitting_accumulator(
    layer: FloatLayer, grids: dict[str, Grid], *, accumulator_bits: int, scheme: Scheme
) -> Accumulator:
    """The finest accumulator of a layer whose sums fit the accumulator's width."""
    floor = _step_floor(layer, grids, accumulator_bits=accumulator_bits)
    limit = (1 << (accumulator_bits - 1)) - 1
    for _ in range(SHORTENINGS):
        accumulator = _accumulator(layer, grids, floor=floor, scheme=scheme)
        bias = _integer_bias(layer, accumulator, grids)
        bound = np.maximum(_biased_bound(accumulator, bias), np.abs(bias))
        bound = np.maximum(bound, _sum_bound(accumulator))
        excess = bound > limit
        if not excess.any():
            return accumulator
        raised = accumulator.step * (bound / limit) * 1.01
        floor = np.where(excess, raised, floor)
        channel = int(bound.argmax())
        if not _fine_enough(layer, grids, floor):
            break
    raise ValueError(
        f"layer {layer.name!r}, channel {channel}: sums may reach {int(bound[channel])}, "
        f"which does not fit an accumulator of {accumulator_bits} bits"
    )


def _fine_enough(layer: FloatLayer, grids: dict[str, Grid], step: np.ndarray) -> bool:
    """Weights keep enough steps, in every channel where a source can move the output by a step."""
    for source in layer.sources:
        largest = source.weight.abs().amax(dim=(1, 2, 3)).numpy()
        finest = largest * grids[source.tensor.name].scale / step
        fewest = 1 if uniform(source) else FEWEST_WEIGHT_STEPS
        output_steps = largest * grids[source.tensor.name].scale / grids[layer.output.name].scale
        matters = output_steps * 2 * ACTIVATION_REACH * source.weight[0].numel() > 1
        if (matters & (finest < fewest)).any():
            return False
    return True


def _accumulator(
    layer: FloatLayer, grids: dict[str, Grid], *, floor: np.ndarray, scheme: Scheme
) -> Accumulator:
    """Channels whose weights are integers in the given steps keep these steps."""
    input_scales = [grids[source.tensor.name].scale for source in layer.sources]
    chosen = common_scale(
        layer.sources,
        input_scales=input_scales,
        floor=floor,
        coarse=len(layer.sources) == 1 and not layer.bias.any(),
    )
    given = [
        scheme.weight_scales[source.name] * scale
        for source, scale in zip(layer.sources, input_scales, strict=True)
        if source.name in scheme.weight_scales
    ]
    if not given:
        return chosen
    step = np.max(given, axis=0)
    fits = step >= floor
    for source, scale in zip(layer.sources, input_scales, strict=True):
        weight = _in_steps(source, step=step / scale)
        whole = (np.abs(weight - np.rint(weight)) < WHOLE) & (
            np.abs(weight) < weight_limit(source) + 0.5
        )
        fits &= whole.all(axis=(1, 2, 3))
    step = np.where(fits, step, chosen.step)
    weights = tuple(
        np.rint(_in_steps(source, step=step / scale)).astype(np.int16)
        for source, scale in zip(layer.sources, input_scales, strict=True)
    )
    return Accumulator(step=step, weights=weights)


def _in_steps(source: FloatSource, *, step: np.ndarray) -> np.ndarray:
    return source.weight.numpy() / step.reshape(-1, 1, 1, 1)


def _step_floor(layer: FloatLayer, grids: dict[str, Grid], *, accumulator_bits: int) -> np.ndarray:
    bias_range = 2.0 ** (accumulator_bits - 1 - BIAS_BITS_BELOW_ACCUMULATOR)
    for_bias = layer.bias.abs().numpy() / bias_range
    return np.maximum(for_bias, grids[layer.output.name].scale * FINEST_STEP)


def _integer_bias(
    layer: FloatLayer, accumulator: Accumulator, grids: dict[str, Grid]
) -> np.ndarray:
    """The bias in accumulator steps, with the zero points of the sources folded in."""
    bias = np.rint(layer.bias.numpy() / accumulator.step).astype(np.int64)
    for source, weight in zip(layer.sources, accumulator.weights, strict=True):
        weights = weight[:, :, :1, :1] if layer.maximum else weight
        sums = weights.astype(np.int64).sum(axis=(1, 2, 3))
        bias -= grids[source.tensor.name].zero * sums
    return bias


def _sum_bound(accumulator: Accumulator) -> np.ndarray:
    return np.sum([worst_sum(weight) for weight in accumulator.weights], axis=0)


def _biased_bound(accumulator: Accumulator, bias: np.ndarray) -> np.ndarray:
    """Largest magnitude of sum plus bias over all int8 inputs: bias and zero points cancel."""
    highest, lowest = bias.copy(), bias.copy()
    for weight in accumulator.weights:
        wide = weight.astype(np.int64)
        products = (wide * -ACTIVATION_REACH, wide * (ACTIVATION_REACH - 1))
        highest += np.maximum(*products).sum(axis=(1, 2, 3))
        lowest += np.minimum(*products).sum(axis=(1, 2, 3))
    return np.maximum(np.abs(highest), np.abs(lowest))


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
    output = grids[layer.output.name].scale
    floor = np.full(layer.output.channels, output * FINEST_STEP)
    together = _accumulator(layer, grids, floor=floor, scheme=scheme)
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
    given = layer.name not in scheme.grids or layer.sources[worst].name in scheme.source_grids
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


def _tensor(tensor: FloatTensor, grids: dict[str, Grid]) -> Tensor:
    grid = grids[tensor.name]
    return Tensor(tensor.name, *tensor.shape, scale=grid.scale, zero=grid.zero)


def _lower(
    model: nn.Module | ExportedProgram | str | Path | onnx.ModelProto | OnnxNetwork,
    calibration: Sequence[torch.Tensor],
) -> tuple[FloatGraph, Scheme]:
    """The float graph of a network, and what the network says about its quantization."""
    if isinstance(model, nn.Module):
        return lower(export(model, image=_image_shape(calibration))), NOTHING_GIVEN
    if isinstance(model, ExportedProgram):
        return lower(model), NOTHING_GIVEN
    from coprune.compiler.onnx.frontend import lower_onnx

    network = lower_onnx(model)
    return network.graph, network.scheme


def _ungiven(graph: FloatGraph, scheme: Scheme) -> list[str]:
    """Tensors whose grid must be chosen."""
    names = [layer.output.name for layer in graph.layers if not layer.copies]
    return [name for name in (graph.input.name, *names) if name not in scheme.grids]


def _image_shape(calibration: Sequence[torch.Tensor]) -> tuple[int, int, int]:
    if not len(calibration):
        raise ValueError("calibration must hold at least one batch of images")
    shapes = set()
    for batch in calibration:
        if not isinstance(batch, torch.Tensor) or batch.dtype != torch.float32:
            kind = batch.dtype if isinstance(batch, torch.Tensor) else type(batch).__name__
            raise TypeError(f"calibration batches must be float32 tensors, not {kind}")
        if batch.dim() != 4 or not len(batch):
            raise ValueError(
                f"calibration batches must have the shape [N, C, H, W], not {list(batch.shape)}"
            )
        shapes.add(tuple(batch.shape[1:]))
    if len(shapes) > 1:
        raise ValueError(f"calibration images must have one shape, not {sorted(shapes)}")
    return shapes.pop()
