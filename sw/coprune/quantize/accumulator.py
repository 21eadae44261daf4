"""The accumulator of a layer: one scale per output channel that all its sources share.

A source whose weights all have one magnitude per channel (a copy, an average, a stand-alone batch
norm) is exact if that magnitude is an integer number of accumulator steps, so the accumulator step
of the channel is the source's step divided by an integer. Other sources round their weights to
whatever step results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coprune.compiler.float_graph import FloatLayer, FloatSource
from coprune.compiler.scheme import Scheme
from coprune.quantize.calibration import Grid
from coprune_hw.contract.arithmetic import DIAGONAL_WEIGHT_MAX, WEIGHT_MAX

FINEST_STEP = 2.0**-24
"""Smallest accumulator step in output steps: finer ones change nothing, and dead channels with
weights of 1e-30 would otherwise ask for them."""
WHOLE = 1e-3
"""Weights this close to integers are the integers of a quantized network, whose scales are
float32."""


@dataclass(frozen=True)
class Accumulator:
    """Integer weights and their common scale.

    Parameters
    ----------
    step : float64 array [outputs]
        What one accumulator step stands for.
    weights : tuple of int16 arrays
        Of each source, in the shape of its float weights.
    """

    step: np.ndarray
    weights: tuple[np.ndarray, ...]


def uniform(source: FloatSource) -> bool:
    """All weights of an output channel have the same magnitude, or are zero."""
    if not source.diagonal:
        return False
    magnitudes = source.weight.abs()
    largest = magnitudes.amax(dim=(1, 2, 3), keepdim=True)
    return bool(((magnitudes == largest) | (magnitudes == 0)).all())


def weight_limit(source: FloatSource) -> int:
    """Largest magnitude of an integer weight: diagonal slots have 12 bits."""
    if source.weight_bits is not None:
        return (1 << (source.weight_bits - 1)) - 1
    return DIAGONAL_WEIGHT_MAX if source.diagonal else WEIGHT_MAX


def common_scale(
    sources: Sequence[FloatSource],
    *,
    input_scales: Sequence[float],
    floor: np.ndarray,
    coarse: bool = False,
) -> Accumulator:
    """Choose the finest accumulator step that fits every source, and round the weights to it.

    Parameters
    ----------
    sources : sequence of FloatSource
    input_scales : sequence of float
        Scale of the tensor that each source reads.
    floor : float64 array [outputs], > 0
        The step is at least this. Weights that are tiny next to it round to zero.
    coarse : bool
        Give uniform sources the smallest integer weights instead: sums stay short.
    """
    step = common_step(
        [_largest(source) * scale for source, scale in _zip(sources, input_scales)],
        limits=[None if uniform(source) else weight_limit(source) for source in sources],
        floor=floor,
        coarse=coarse,
    )
    weights = tuple(
        _rounded(source, step=step / scale) for source, scale in _zip(sources, input_scales)
    )
    return Accumulator(step=step, weights=weights)


def common_step(
    reaches: Sequence[np.ndarray],
    *,
    limits: Sequence[int | None],
    floor: np.ndarray,
    coarse: bool = False,
) -> np.ndarray:
    """Return the finest accumulator step that fits every source.

    Parameters
    ----------
    reaches : sequence of float64 arrays [outputs]
        The largest weight of each source times the scale of the tensor that it reads.
    limits : sequence of int or None
        Largest integer weight of each source; None for uniform ones, which must stay exact.
    floor, coarse
        As in `common_scale`.

    Returns
    -------
    float64 array [outputs]
    """
    step = floor
    for reach, limit in _zip(reaches, limits):
        if limit is not None:
            step = np.maximum(step, reach / limit)
    exact = np.array([reach for reach, limit in _zip(reaches, limits) if limit is None])
    if len(exact):
        step = _divide_exactly(exact, step, limit=1 if coarse else DIAGONAL_WEIGHT_MAX)
    return step


def choose_accumulator(
    layer: FloatLayer, grids: dict[str, Grid], *, floor: np.ndarray, scheme: Scheme
) -> Accumulator:
    """Return the accumulator of a layer, in which given steps hold where they fit.

    A channel keeps them if its weights are integers in them.

    Parameters
    ----------
    layer : FloatLayer
    grids : dict of Grid
        Of the tensors that it reads, at least.
    floor : float64 array [outputs], > 0
        As in `common_scale`.
    scheme : Scheme
    """
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


def weight_noise(
    source: FloatSource, weight: np.ndarray, *, step: np.ndarray, input_scale: float
) -> np.ndarray:
    """Sum of the squared rounding errors of a source's weights, per output channel."""
    rounded = weight * (step / input_scale).reshape(-1, 1, 1, 1)
    return ((rounded - source.weight.numpy()) ** 2).sum(axis=(1, 2, 3))


def _divide_exactly(exact: np.ndarray, step: np.ndarray, *, limit: int) -> np.ndarray:
    """Raise steps to where the largest of the exact magnitudes is an integer number of them.

    The integer is the largest one that `limit` and `step` allow; with several exact magnitudes it
    is the one for which the others come closest to integers as well.

    Parameters
    ----------
    exact : float64 array [sources, outputs]
    step : float64 array [outputs]
    """
    ruler = exact.max(axis=0)
    result = step.copy()
    for channel in np.flatnonzero(ruler >= step):
        reach = int(min(limit, np.floor(ruler[channel] / step[channel])))
        if len(exact) == 1:
            result[channel] = ruler[channel] / reach
            continue
        candidates = np.arange(reach, 0, -1)
        multiples = candidates[:, None] * (exact[:, channel] / ruler[channel])
        error = (np.abs(multiples - np.rint(multiples)) / candidates[:, None]).max(axis=1)
        result[channel] = ruler[channel] / candidates[error.argmin()]
    return result


def _rounded(source: FloatSource, *, step: np.ndarray) -> np.ndarray:
    rounded = np.rint(source.weight.numpy() / step.reshape(-1, 1, 1, 1))
    return rounded.astype(np.int16)


def _in_steps(source: FloatSource, *, step: np.ndarray) -> np.ndarray:
    return source.weight.numpy() / step.reshape(-1, 1, 1, 1)


def _largest(source: FloatSource) -> np.ndarray:
    return source.weight.abs().amax(dim=(1, 2, 3)).numpy()


def _zip(*sequences):
    return zip(*sequences, strict=True)
