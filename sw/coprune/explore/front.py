"""The candidates that no other one beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(values: np.ndarray, *, maximize: Sequence[bool]) -> np.ndarray:
    """Where rows are not dominated: no other row is as good everywhere and better somewhere.

    Parameters
    ----------
    values : float array [rows, objectives]
    maximize : sequence of bool
        Of every objective.

    Returns
    -------
    bool array [rows]
        Equal rows are all in it, or none.
    """
    costs = np.where(np.asarray(maximize, bool), -values, values)
    front = np.ones(len(costs), bool)
    for row, cost in enumerate(costs):
        dominates = (costs <= cost).all(axis=1) & (costs < cost).any(axis=1)
        front[row] = not dominates.any()
    return front
