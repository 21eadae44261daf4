import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprune.prune.knapsack import Menu, solve


def brute_force(menus: list[Menu], *, capacity: int) -> float | None:
    """The largest value of all choices that fit, summed up exactly."""
    fitting = [
        sum(menu.value[option] for menu, option in zip(menus, choice, strict=True))
        for choice in itertools.product(*(range(len(menu.cost)) for menu in menus))
        if sum(menu.cost[option] for menu, option in zip(menus, choice, strict=True)) <= capacity
    ]
    return max(fitting, default=None)


def totals(menus: list[Menu], chosen: list[int]) -> tuple[int, float]:
    cost = sum(int(menu.cost[option]) for menu, option in zip(menus, chosen, strict=True))
    return cost, sum(menu.value[option] for menu, option in zip(menus, chosen, strict=True))


@st.composite
def menus_of_integers(draw) -> list[Menu]:
    """Values are integers, so that their sums are exact in any order."""
    numbers = st.integers(0, 30)
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    return [
        Menu(
            np.array(draw(st.lists(numbers, min_size=size, max_size=size))),
            np.array(draw(st.lists(st.integers(-20, 40), min_size=size, max_size=size)), float),
        )
        for size in sizes
    ]


@settings(max_examples=400, deadline=None)
@given(menus_of_integers(), st.integers(0, 120))
def test_solution_is_worth_as_much_as_the_best_of_all_choices(menus, capacity):
    best = brute_force(menus, capacity=capacity)
    if best is None:
        with pytest.raises(ValueError, match=f"the cheapest options', not {capacity}"):
            solve(menus, capacity=capacity)
        return
    cost, value = totals(menus, solve(menus, capacity=capacity))
    assert cost <= capacity
    assert value == best


@pytest.mark.parametrize("seed", range(20))
def test_concave_menus_of_reals_are_solved_as_brute_force_does(seed):
    # As pruning has them: each further slot is worth less.
    random = np.random.default_rng(seed)
    menus = [
        Menu(
            np.cumsum(random.integers(1, 9, 8)),
            np.cumsum(np.sort(random.exponential(size=8))[::-1]),
        )
        for _ in range(5)
    ]
    capacity = int(random.integers(40, 150))
    cost, value = totals(menus, solve(menus, capacity=capacity))
    assert cost <= capacity
    assert value == pytest.approx(brute_force(menus, capacity=capacity), rel=1e-12)


def test_greedy_alone_would_miss_the_optimum():
    # The best ratio, 6 for 5, leaves no room for 9 for 10 of the other menu.
    menus = [
        Menu(np.array([0, 5]), np.array([0.0, 6.0])),
        Menu(np.array([0, 10]), np.array([0, 9])),
    ]
    assert solve(menus, capacity=10) == [0, 1]


def test_many_fine_options_are_solved_to_the_last_cycle():
    random = np.random.default_rng(0)
    menus = [
        Menu(4 * np.arange(1, 1001), np.cumsum(np.sort(random.exponential(size=1000))[::-1]))
        for _ in range(20)
    ]
    cost, _ = totals(menus, solve(menus, capacity=30_003))
    assert cost == 30_000


@pytest.mark.parametrize(
    ("cost", "value", "message"),
    [
        ([], [], "at least 1"),
        ([1, 2], [1.0], r"not of shapes \(2,\) and \(1,\)"),
        ([-3], [1.0], "must not be negative, not -3"),
        ([1], [np.nan], "value must be finite"),
    ],
)
def test_menus_must_make_sense(cost, value, message):
    with pytest.raises(ValueError, match=message):
        Menu(np.array(cost), np.array(value))
