"""The multiple-choice knapsack problem, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Menu:
    """The options of one class, of which one must be taken.

    Parameters
    ----------
    cost : int array [options]
        Not negative.
    value : float array [options]
        Finite.
    """

    cost: np.ndarray
    value: np.ndarray

    def __post_init__(self) -> None:
        if self.cost.shape != self.value.shape or self.cost.ndim != 1 or not self.cost.size:
            raise ValueError(
                f"cost and value must be vectors of one length, at least 1, not of shapes "
                f"{self.cost.shape} and {self.value.shape}"
            )
        if self.cost.min() < 0:
            raise ValueError(f"cost must not be negative, not {int(self.cost.min())}")
        if not np.isfinite(self.value).all():
            raise ValueError("value must be finite")


@dataclass(frozen=True, eq=False)
class _Stage:
    """States after some classes: none costs more than another and is worth as much or less."""

    cost: np.ndarray
    value: np.ndarray
    parent: np.ndarray
    option: np.ndarray


def solve(menus: Sequence[Menu], *, capacity: int) -> list[int]:
    """Choose an option of each menu: the largest sum of values whose costs fit the capacity.

    Dynamic programming over the undominated sums of costs and values. States from which even the
    linear relaxation of the rest does not reach the best solution known are left out (Pisinger,
    "A minimal algorithm for the multiple-choice knapsack problem", 1995); the relaxation and the
    first solution come from each menu's upper hull (Sinha and Zoltners, "The multiple-choice
    knapsack problem", 1979). No state that may lead to an optimum is lost, so the result is one.

    Parameters
    ----------
    menus
    capacity
        Of the costs in all.

    Returns
    -------
    list of int
        An option's index for each menu.

    Raises
    ------
    ValueError
        Not even the cheapest options fit.
    """
    least = sum(int(menu.cost.min()) for menu in menus)
    if least > capacity:
        raise ValueError(
            f"capacity must be at least {least}, the cheapest options', not {capacity}"
        )
    # The classes with the most to decide first: the relaxation is sharpest for the small ones.
    order = sorted(range(len(menus)), key=lambda number: -len(menus[number].cost))
    fronts = [_undominated(menus[number]) for number in order]
    hulls = [_hull(menus[number], front) for number, front in zip(order, fronts, strict=True)]
    reached = _greedy(hulls, capacity)
    # Sums of floats in another order differ in their last bits; no optimum may be lost to that.
    slack = 1e-9 * max(1.0, sum(float(np.abs(menu.value).max()) for menu in menus))

    stages = [_Stage(*(np.zeros(1, kind) for kind in (np.int64, float, np.int64, np.int64)))]
    for depth, (number, front) in enumerate(zip(order, fronts, strict=True)):
        rest = _Relaxation(hulls[depth + 1 :])
        stage = _extend(stages[-1], menus[number], front, capacity - rest.least)
        bound = stage.value + rest(capacity - stage.cost)
        stages.append(_select(stage, bound >= reached - slack))

    state = int(np.argmax(stages[-1].value))
    chosen = [0] * len(menus)
    for number, stage in zip(reversed(order), reversed(stages[1:]), strict=True):
        chosen[number] = int(stage.option[state])
        state = int(stage.parent[state])
    return chosen


class _Relaxation:
    """Most that some menus can be worth if options may be mixed, by the capacity that they have."""

    def __init__(self, hulls: Sequence[Menu]) -> None:
        steps = [np.stack([np.diff(hull.cost), np.diff(hull.value)]) for hull in hulls]
        cost, value = np.concatenate([np.zeros((2, 0)), *steps], axis=1)
        best_first = np.argsort(-value / cost, kind="stable")
        self.least = sum(int(hull.cost[0]) for hull in hulls)
        self._cost = self.least + np.concatenate([[0.0], np.cumsum(cost[best_first])])
        first = sum(float(hull.value[0]) for hull in hulls)
        self._value = first + np.concatenate([[0.0], np.cumsum(value[best_first])])

    def __call__(self, capacity: np.ndarray) -> np.ndarray:
        """The bound for each capacity, which must be at least `least`."""
        return np.interp(capacity, self._cost, self._value)


def _greedy(hulls: Sequence[Menu], capacity: int) -> float:
    """The value of a solution that fits: the best steps of the hulls first."""
    left = capacity - sum(int(hull.cost[0]) for hull in hulls)
    reached = sum(float(hull.value[0]) for hull in hulls)
    steps = [
        ((hull.value[step + 1] - hull.value[step]) / (hull.cost[step + 1] - hull.cost[step]), n)
        for n, hull in enumerate(hulls)
        for step in range(len(hull.cost) - 1)
    ]
    position = [0] * len(hulls)
    full = set()
    for _, number in sorted(steps, key=lambda step: -step[0]):
        hull, at = hulls[number], position[number]
        cost = int(hull.cost[at + 1] - hull.cost[at])
        if number in full or cost > left:
            full.add(number)
            continue
        left -= cost
        reached += float(hull.value[at + 1] - hull.value[at])
        position[number] += 1
    return reached


def _undominated(menu: Menu) -> np.ndarray:
    """Indices of the options that are worth more than every cheaper one, cheapest first."""
    order = np.lexsort((-menu.value, menu.cost))
    best = np.maximum.accumulate(menu.value[order])
    return order[np.concatenate([[True], best[1:] > best[:-1]])]


def _hull(menu: Menu, front: np.ndarray) -> Menu:
    """The upper convex hull of undominated options: from each to the next, less for a cost."""
    cost, value = menu.cost[front], menu.value[front]
    hull: list[int] = []
    for point in range(len(front)):
        while len(hull) > 1:
            first, middle = hull[-2:]
            through = (value[middle] - value[first]) * (cost[point] - cost[first])
            if through > (value[point] - value[first]) * (cost[middle] - cost[first]):
                break
            hull.pop()
        hull.append(point)
    return Menu(cost[hull], value[hull])


def _extend(stage: _Stage, menu: Menu, front: np.ndarray, capacity: int) -> _Stage:
    """All undominated states with one more option each, as far as they fit."""
    cost = stage.cost[:, None] + menu.cost[front]
    parent, option = np.nonzero(cost <= capacity)
    cost = cost[parent, option]
    value = stage.value[parent] + menu.value[front][option]
    extended = _Stage(cost, value, parent, front[option])
    return _select(extended, _undominated(Menu(cost, value)))


def _select(stage: _Stage, selection: np.ndarray) -> _Stage:
    return _Stage(*(array[selection] for array in vars(stage).values()))
