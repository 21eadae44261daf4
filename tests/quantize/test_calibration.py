"""Ranges of tensors and the int8 grids that they lead to."""

import numpy as np
import pytest
import torch

from coprune.compiler.float_graph import (
    FloatGraph,
    FloatLayer,
    FloatSource,
    FloatTensor,
    Function,
)
from coprune.quantize.calibration import OBSERVERS, Grid, evaluate_finitely, measure


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


def tabulated_graph(function):
    """A network that is a function of its input."""
    tensor = FloatTensor("x", 1, 1, 4)
    identity = FloatSource(
        "f", "copy", tensor, torch.ones(1, 1, 1, 1, dtype=torch.float64), diagonal=True
    )
    layer = FloatLayer(
        name="f",
        operation=function.name,
        output=FloatTensor("f", 1, 1, 4),
        sources=(identity,),
        bias=torch.zeros(1, dtype=torch.float64),
        function=function,
    )
    return FloatGraph(tensor, (layer,))


@pytest.mark.parametrize(
    ("function", "value"),
    [(torch.log, -1.0), (torch.sqrt, -1.0), (torch.rsqrt, 0.0), (torch.reciprocal, 0.0)],
)
def test_function_that_is_not_finite_on_the_images_is_refused_with_its_arguments(function, value):
    graph = tabulated_graph(Function("curve", function))
    batch = torch.tensor([value, 1.0, 2.0, 3.0]).reshape(1, 1, 1, 4)
    message = rf"tensor 'f' holds NaN .* as curve does of numbers from {value:.4g} to 3: clamp its"
    with pytest.raises(ValueError, match=message):
        measure(graph, [batch])
    assert measure(graph, [batch.clamp(min=0.5)])["f"].high > 0


def test_statistics_hold_the_arguments_of_functions():
    graph = tabulated_graph(Function("exp", torch.exp))
    statistics = measure(graph, [torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 4)])
    assert (statistics["f.argument"].low, statistics["f.argument"].high) == (-1.0, 2.0)
    assert statistics["f"].high == pytest.approx(np.e**2)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # The value at the nearest argument that has one, on either side.
        (torch.log, [np.log(1.0)] * 3 + [np.log(1.0), np.log(2.0), np.log(3.0)]),
        (lambda x: torch.reciprocal(x + 2), [1.0, 1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
        (torch.reciprocal, [-1 / 2, -1.0, 1.0, 1.0, 1 / 2, 1 / 3]),
        (lambda x: torch.log(1 - x), [np.log(3.0), np.log(2.0), 0.0, 0.0, 0.0, 0.0]),
        (torch.square, [4.0, 1.0, 0.0, 1.0, 4.0, 9.0]),
    ],
)
def test_function_without_a_value_has_the_nearest_one(function, expected):
    arguments = np.arange(-2.0, 4.0)
    values = evaluate_finitely(Function("curve", function), arguments)
    # float64 throughout: a few units in the last place.
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_function_without_any_value_is_refused():
    with pytest.raises(ValueError, match="log must have finite values between -2 and -1,"):
        evaluate_finitely(Function("log", torch.log), np.array([-2.0, -1.0]))


def test_grid_of_an_argument_serves_the_values_of_the_function():
    """Where a function is flat, its arguments need no steps."""
    values = np.random.default_rng(4).uniform(-40.0, 40.0, 100_000)
    statistics = statistics_of(values)
    function = Function("sigmoid", torch.sigmoid)
    plain, serving = (OBSERVERS["mse"](statistics, function=each) for each in (None, function))

    def error(grid):
        exact, rounded = (
            torch.sigmoid(torch.from_numpy(v)) for v in (values, grid.rounded(values))
        )
        return float((exact - rounded).square().mean())

    assert plain.scale * 255 > 70
    assert serving.scale * 255 < 30
    assert error(serving) < error(plain) / 4
