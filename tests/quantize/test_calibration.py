"""Ranges of tensors and the int8 grids that they lead to."""

import numpy as np
import pytest
import torch

from coprune.compiler.float_graph import FloatGraph, FloatTensor
from coprune.quantize.calibration import OBSERVERS, Grid, measure


def statistics_of(values):
    batch = torch.as_tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)
    tensor = FloatTensor("x", 1, 1, batch.shape[-1])
    return measure(FloatGraph(tensor, ()), [batch])["x"]


def squared_error(grid, values):
    return float(((grid.rounded(values) - values) ** 2).mean())


@pytest.mark.parametrize(
    ("low", "high", "zero"),
    [(0.0, 4.0, -128), (-4.0, 0.0, 127), (-1.0, 1.0, 0), (2.0, 4.0, -128), (-3.0, -1.0, 127)],
)
def test_grid_spans_the_interval_and_zero(low, high, zero):
    grid = Grid.spanning(low, high)
    assert grid.zero == zero
    ends = grid.rounded(np.array([min(low, 0.0), max(high, 0.0)]))
    np.testing.assert_allclose(ends, [min(low, 0.0), max(high, 0.0)], atol=grid.scale / 2)
    assert grid.rounded(np.array([0.0])) == 0.0


def test_grid_of_nothing_but_zeros_has_a_positive_scale():
    assert Grid.spanning(0.0, 0.0) == Grid(scale=1.0, zero=-128)


def test_statistics_describe_all_batches():
    batches = [torch.full((2, 1, 1, 4), value) for value in (-1.0, 0.0, 3.0)]
    tensor = FloatTensor("x", 1, 1, 4)
    statistics = measure(FloatGraph(tensor, ()), batches)["x"]
    assert (statistics.low, statistics.high) == (-1.0, 3.0)
    assert statistics.mean_square == pytest.approx(10 / 3)
    assert statistics.counts.sum() == 16  # zeros are left out
    assert statistics.counts[0] == statistics.counts[-1] == 8


def test_minmax_covers_every_value():
    values = np.random.default_rng(0).normal(size=1000)
    grid = OBSERVERS["minmax"](statistics_of(values))
    assert squared_error(grid, values) <= grid.scale**2 / 4


def test_percentile_leaves_out_a_single_outlier():
    values = np.append(np.random.default_rng(1).uniform(0, 1, 100_000), 1000.0)
    grid = OBSERVERS["percentile"](statistics_of(values))
    assert grid.scale * 255 < 2.0


@pytest.mark.parametrize("distribution", ["normal", "laplace", "half normal", "negative"])
def test_least_error_is_no_worse_than_the_other_observers(distribution):
    rng = np.random.default_rng(2)
    values = {
        "normal": rng.normal(size=100_000),
        "laplace": rng.laplace(size=100_000),
        "half normal": np.maximum(rng.normal(size=100_000), 0.0),
        "negative": -rng.exponential(size=100_000),
    }[distribution]
    statistics = statistics_of(values)
    errors = {name: squared_error(choose(statistics), values) for name, choose in OBSERVERS.items()}
    assert errors["mse"] <= 1.01 * min(errors.values())


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="tensor 'x' holds NaN or infinity"):
        statistics_of([1.0, float("inf")])
