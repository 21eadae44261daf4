"""The Pareto front, against its definition."""

import numpy as np
import pytest

from coprune.explore import pareto_front


def brute_force(values, maximize):
    """Compare every pair, objective by objective."""
    front = []
    for row in values:
        dominated = False
        for other in values:
            better = [o > r if up else o < r for o, r, up in zip(other, row, maximize, strict=True)]
            worse = [o < r if up else o > r for o, r, up in zip(other, row, maximize, strict=True)]
            dominated |= any(better) and not any(worse)
        front.append(not dominated)
    return front


def test_by_hand():
    # Cycles down, accuracy up: the third row is beaten by the first, the fourth equals the first.
    values = np.array([[100, 0.9], [50, 0.8], [120, 0.9], [100, 0.9], [40, 0.1]])
    assert pareto_front(values, maximize=[False, True]).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("seed", range(20))
def test_is_what_no_other_row_dominates(seed):
    rng = np.random.default_rng(seed)
    objectives = int(rng.integers(1, 5))
    # Few values, so that many are equal.
    values = rng.integers(0, 5, (int(rng.integers(1, 40)), objectives)).astype(float)
    maximize = rng.integers(0, 2, objectives).astype(bool).tolist()
    assert pareto_front(values, maximize=maximize).tolist() == brute_force(values, maximize)
