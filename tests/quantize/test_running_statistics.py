"""Statistics of values that are seen once are those that two passes find."""

import numpy as np
import pytest
import torch

from coprune.quantize.calibration import BINS, OBSERVERS, summarize
from coprune.quantize.running_statistics import FINE_BINS, RunningStatistics


def normal(count=20_000, *, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def collected(*batches):
    running = RunningStatistics()
    for batch in batches:
        running.add(batch)
    return running.summary()


VALUES = {
    "both signs": normal(),
    "after relu": normal().clamp(min=0),
    "one sign": normal().abs() + 3,
    "negative": -normal().abs() - 1e-3,
    "growing": normal() * torch.linspace(1e-6, 1e4, 20_000),
    "constant": torch.full((64,), 2.5),
    "zeros": torch.zeros(64),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_follow_the_histogram_of_all_values(values):
    found, expected = collected(*values.split(700)), summarize(values)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.mean_square == pytest.approx(expected.mean_square)
    assert found.counts.sum() == expected.counts.sum()
    # A fine bin spans half of a bin at most, so a value may be counted in the next one.
    above = np.cumsum(expected.counts)
    assert (np.cumsum(found.counts)[1:] >= above[:-1]).all()
    assert (np.cumsum(found.counts)[:-1] <= above[1:]).all()


@pytest.mark.parametrize("observer", OBSERVERS)
def test_do_not_depend_on_how_values_are_split(observer):
    values = VALUES["growing"]
    grids = [OBSERVERS[observer](collected(*values.split(size))) for size in (20_000, 999, 1)]
    assert grids[0] == grids[1] == grids[2]


def test_values_span_two_fine_bins_for_each_bin():
    # Just beyond a power of two, and of one sign: the worst case.
    values = torch.linspace(0, 1.001, 4 * BINS)
    assert FINE_BINS / 8 == 2 * BINS
    assert (collected(values).counts > 0).all()


def test_refuse_values_that_are_not_finite():
    with pytest.raises(ValueError, match="an activation holds NaN or infinity"):
        RunningStatistics().add(torch.tensor([1.0, float("inf")]))
