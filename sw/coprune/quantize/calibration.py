"""Which real numbers the tensors of a network take, and which int8 grid suits them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coprune.compiler.float_graph import FloatGraph, Function, evaluate
from coprune_hw.contract.arithmetic import dequantize, quantize

BINS = 2048
"""Bins of a tensor's histogram: eight for each int8 step."""
STEPS = 255
"""Steps between the lowest and the highest int8 value."""
BATCH_IMAGES = 64
"""Images that pass through the graph together."""
PERCENTILE = 99.99
"""Percentage of values that the percentile observer covers at either end."""
SHRINKAGES = np.linspace(0.2, 1.0, 81)
"""Fractions of a tensor's range that the MSE observer tries for either end."""
FLAT_SHRINKAGES = np.concatenate([np.geomspace(0.005, 0.19, 60), SHRINKAGES])
"""The same for a function's argument: most of its range may be where the function is flat."""


@dataclass(frozen=True)
class Grid:
    """An int8 grid: `q` stands for ``scale * (q - zero)``."""

    scale: float
    zero: int

    @classmethod
    def spanning(cls, low: float, high: float) -> Grid:
        """The grid of an interval, which is widened to hold 0, so that 0 is a grid point."""
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            return cls(scale=1.0, zero=-128)
        scale = float(high - low) / STEPS
        return cls(scale=scale, zero=int(np.clip(np.rint(-128 - low / scale), -128, 127)))

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """The grid points nearest to real numbers."""
        steps = quantize(values, scale=self.scale, zero=self.zero)
        return dequantize(steps, scale=self.scale, zero=self.zero)


@dataclass(frozen=True)
class Statistics:
    """The values of one tensor over all calibration images.

    Parameters
    ----------
    low, high : float
        Smallest and largest value.
    mean_square : float
        Over all values.
    counts : int64 array [`BINS`]
        Histogram between `low` and `high` of the values other than 0, which every grid holds.
    """

    low: float
    high: float
    mean_square: float
    counts: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """The middle of each bin of the histogram."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS

    def mean_squared_error(self, grid: Grid, *, function: Function | None = None) -> float:
        """Estimate from the histogram of what rounding to a grid does, summed over all values.

        With a function, of what it does to the function's values.
        """
        rounded, exact = grid.rounded(self.centres), self.centres
        if function is not None:
            rounded, exact = (evaluate_finitely(function, each) for each in (rounded, exact))
        return float(self.counts @ (rounded - exact) ** 2)


def measure(graph: FloatGraph, batches: Sequence[torch.Tensor]) -> dict[str, Statistics]:
    """Return the statistics of every tensor and of every function's argument, by name.

    Parameters
    ----------
    graph : FloatGraph
    batches : sequence of float32 tensors [N, C, H, W]

    Raises
    ------
    ValueError
        A tensor holds NaN or infinity.
    """
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    squares: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for name, values in evaluate_batches(graph, batches):
        low, high = (float(bound) for bound in values.aminmax())
        if not (np.isfinite(low) and np.isfinite(high)):
            reason = _reason(name, graph, lows, highs)
            raise ValueError(
                f"tensor {name!r} holds NaN or infinity on the calibration images{reason}"
            )
        lows[name] = min(low, lows.get(name, low))
        highs[name] = max(high, highs.get(name, high))
        squares[name] = squares.get(name, 0.0) + float(values.double().square().sum())
        sizes[name] = sizes.get(name, 0) + values.numel()
    counts = {name: np.zeros(BINS, np.int64) for name in lows}
    for name, values in evaluate_batches(graph, batches):
        if lows[name] < highs[name]:
            counts[name] += _histogram(values, low=lows[name], high=highs[name])
    return {
        name: Statistics(lows[name], highs[name], squares[name] / sizes[name], counts[name])
        for name in lows
    }


def summarize(values: torch.Tensor) -> Statistics:
    """Return the statistics of one float tensor of any shape."""
    low, high = (float(bound) for bound in values.aminmax())
    counts = np.zeros(BINS, np.int64)
    if low < high:
        counts = _histogram(values, low=low, high=high)
    return Statistics(low, high, float(values.double().square().mean()), counts)


def evaluate_finitely(function: Function, arguments: np.ndarray) -> np.ndarray:
    """Values of a function at rising arguments; where it has none, the value nearest by.

    Parameters
    ----------
    function : Function
    arguments : float64 array [n]

    Raises
    ------
    ValueError
        It has no finite value at all.
    """
    values = function.evaluate(torch.from_numpy(arguments)).numpy()
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        raise ValueError(
            f"{function.name} must have finite values between {arguments[0]:.4g} and "
            f"{arguments[-1]:.4g}, where its argument lies on the calibration images"
        )
    after = np.searchsorted(finite, np.arange(len(values))).clip(max=len(finite) - 1)
    before = (after - 1).clip(min=0)
    place = np.arange(len(values))
    nearer = np.abs(finite[before] - place) < np.abs(finite[after] - place)
    return values[np.where(nearer, finite[before], finite[after])]


def span_extremes(statistics: Statistics, *, function: Function | None = None) -> Grid:
    """The grid from the smallest to the largest value."""
    return Grid.spanning(statistics.low, statistics.high)


def span_percentiles(statistics: Statistics, *, function: Function | None = None) -> Grid:
    """The grid that leaves out the rarest values at either end."""
    total = statistics.counts.sum()
    if not total:
        return span_extremes(statistics)
    below = np.cumsum(statistics.counts) / total
    first = int(np.searchsorted(below, 1 - PERCENTILE / 100))
    last = int(np.searchsorted(below, PERCENTILE / 100))
    centres = statistics.centres
    return Grid.spanning(centres[first], centres[min(last, BINS - 1)])


def span_least_error(statistics: Statistics, *, function: Function | None = None) -> Grid:
    """The grid with the least mean squared error of the function's values, clipped ones included.

    Either end is searched with the other one fixed, the high end twice.
    """
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    shrinkages = SHRINKAGES if function is None else FLAT_SHRINKAGES

    def error(candidate_low: float, candidate_high: float) -> float:
        grid = Grid.spanning(candidate_low, candidate_high)
        return statistics.mean_squared_error(grid, function=function)

    best_low = low
    best_high = min(high * shrinkages, key=lambda candidate: error(best_low, candidate))
    if low < 0.0:
        best_low = min(low * shrinkages, key=lambda candidate: error(candidate, best_high))
        best_high = min(high * shrinkages, key=lambda candidate: error(best_low, candidate))
    return Grid.spanning(best_low, best_high)


OBSERVERS: dict[str, Callable[..., Grid]] = {
    "mse": span_least_error,
    "percentile": span_percentiles,
    "minmax": span_extremes,
}
"""How a grid is chosen, by name: from a tensor's statistics, and a function that follows."""


def _reason(name: str, graph: FloatGraph, lows: dict[str, float], highs: dict[str, float]) -> str:
    """Where a function gives no finite values, its arguments so far."""
    for layer in graph.layers:
        if layer.output.name == name and layer.function is not None:
            low, high = lows[layer.requantized], highs[layer.requantized]
            return (
                f", as {layer.function.name} does of numbers from {low:.4g} to {high:.4g}: clamp "
                "its argument to where it is finite"
            )
    return ""


def _histogram(values: torch.Tensor, *, low: float, high: float) -> np.ndarray:
    """Count the values other than 0 in `BINS` bins."""

    def count(numbers: torch.Tensor) -> torch.Tensor:
        return torch.histc(numbers.double(), BINS, min=low, max=high)

    zeros = values.numel() - values.count_nonzero()
    return (count(values) - zeros * count(torch.zeros(1))).numpy().astype(np.int64)


def evaluate_batches(
    graph: FloatGraph, batches: Sequence[torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    with torch.inference_mode():
        for batch in batches:
            for images in batch.split(BATCH_IMAGES):
                yield from evaluate(graph, images, arguments=True)
