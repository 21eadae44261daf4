"""From a float graph and the grids of its tensors to the integer graph."""

from __future__ import annotations

import math

import numpy as np

from coprune.compiler.float_graph import FloatGraph, FloatLayer, FloatTensor
from coprune.compiler.scheme import NOTHING_GIVEN, Scheme
from coprune.quantize.accumulator import (
    FINEST_STEP,
    Accumulator,
    choose_accumulator,
    uniform,
    weight_limit,
)
from coprune.quantize.calibration import Grid, evaluate_finitely
from coprune_hw.contract import arithmetic
from coprune_hw.contract.arithmetic import FixedPoint, fixed_point
from coprune_hw.contract.parameters import IDENTITY
from coprune_sim.graph import IntegerGraph, Layer, RawScale, Source, Tensor
from coprune_sim.reference import ACTIVATION_REACH, worst_sum

BIAS_BITS_BELOW_ACCUMULATOR = 2
"""A bias may take a quarter of the accumulator's range; the rest is for the sum."""
FEWEST_WEIGHT_STEPS = 7
"""The largest weight of a channel keeps at least this many steps when sums must become shorter, or
half of those that it has where it is narrower."""
SHORTENINGS = 12
"""How often the accumulator step is raised before a layer is refused."""


def convert(
    graph: FloatGraph,
    grids: dict[str, Grid],
    *,
    accumulator_bits: int,
    scheme: Scheme = NOTHING_GIVEN,
    int32_output: bool = False,
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
    int32_output : bool
        The last layer gives its sums as they are.

    Raises
    ------
    ValueError
        Sums of a layer do not fit the accumulator, or the last layer is more than a sum.
    """
    if int32_output:
        _check_plain(graph.layers[-1])
    layers, raw_scale = [], None
    for layer in graph.layers:
        accumulator = _fitting_accumulator(
            layer, grids, accumulator_bits=accumulator_bits, scheme=scheme
        )
        if int32_output and layer is graph.layers[-1]:
            layers.append(_keep_sums(layer, accumulator))
            raw_scale = RawScale(accumulator.step, _integer_bias(layer, accumulator, grids))
        else:
            layers.append(_requantize(layer, accumulator, grids))
    return IntegerGraph(_tensor(graph.input, grids), tuple(layers), raw_scale)


def _check_plain(layer: FloatLayer) -> None:
    """Refuse a last layer that does more than add up products.

    Raises
    ------
    ValueError
    """
    more = {
        "takes a maximum": layer.maximum,
        "copies values": layer.copies,
        "clamps its sums": (layer.low, layer.high) != (-math.inf, math.inf),
        "has an activation function": layer.function is not None,
    }
    for what, applies in more.items():
        if applies:
            raise ValueError(
                f"int32_output: the network must end with a convolution, a linear layer or a sum, "
                f"but its last layer {layer.name!r} {what}; leave int32_output out"
            )


def _keep_sums(layer: FloatLayer, accumulator: Accumulator) -> Layer:
    """A layer whose output are the sums, without bias."""
    return Layer(
        name=layer.name,
        operation=layer.operation,
        output=Tensor(layer.output.name, *layer.output.shape, scale=1.0, zero=0, raw=True),
        sources=_sources(layer, accumulator),
        low=-128,
        high=127,
        **{name: np.full(layer.output.channels, value) for name, value in IDENTITY.items()},
    )


def _requantize(layer: FloatLayer, accumulator: Accumulator, grids: dict[str, Grid]) -> Layer:
    """A layer whose sums are rounded to the grid of the output, or of a function's argument."""
    bias = _integer_bias(layer, accumulator, grids)
    grid = grids[layer.requantized]
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
        output=_tensor(layer.output, grids),
        sources=_sources(layer, accumulator),
        bias=bias,
        multiplier=np.array([factor.multiplier for factor in factors], np.int64),
        pre_shift=np.array([factor.pre_shift for factor in factors], np.int64),
        post_shift=np.array([factor.post_shift for factor in factors], np.int64),
        low=low,
        high=high,
        maximum=layer.maximum,
        table=_table(layer, grids),
        table_zero=0 if layer.function is None else grid.zero,
    )


def _sources(layer: FloatLayer, accumulator: Accumulator) -> tuple[Source, ...]:
    return tuple(
        Source(
            tensor=source.tensor.name,
            weight=weight,
            groups=source.groups,
            stride=source.stride,
            padding=source.padding,
            dilation=source.dilation,
            input_dilation=source.input_dilation,
        )
        for source, weight in zip(layer.sources, accumulator.weights, strict=True)
    )


def _table(layer: FloatLayer, grids: dict[str, Grid]) -> np.ndarray | None:
    """The function's values for all numbers of its argument's grid, on the grid of the output."""
    if layer.function is None:
        return None
    grid, output = grids[layer.requantized], grids[layer.output.name]
    steps = np.arange(-ACTIVATION_REACH, ACTIVATION_REACH)
    arguments = arithmetic.dequantize(steps, scale=grid.scale, zero=grid.zero)
    values = evaluate_finitely(layer.function, arguments)
    return arithmetic.quantize(values, scale=output.scale, zero=output.zero).astype(np.int8)


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
        accumulator = choose_accumulator(layer, grids, floor=floor, scheme=scheme)
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
        fewest = min(FEWEST_WEIGHT_STEPS, weight_limit(source) / 2)
        fewest = 1 if uniform(source) else fewest
        output_steps = largest * grids[source.tensor.name].scale / grids[layer.requantized].scale
        matters = output_steps * 2 * ACTIVATION_REACH * source.weight[0].numel() > 1
        if (matters & (finest < fewest)).any():
            return False
    return True


def _step_floor(layer: FloatLayer, grids: dict[str, Grid], *, accumulator_bits: int) -> np.ndarray:
    bias_range = 2.0 ** (accumulator_bits - 1 - BIAS_BITS_BELOW_ACCUMULATOR)
    for_bias = layer.bias.abs().numpy() / bias_range
    return np.maximum(for_bias, grids[layer.requantized].scale * FINEST_STEP)


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


def _tensor(tensor: FloatTensor, grids: dict[str, Grid]) -> Tensor:
    grid = grids[tensor.name]
    return Tensor(tensor.name, *tensor.shape, scale=grid.scale, zero=grid.zero)
