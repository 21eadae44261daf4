import itertools

import numpy as np
import pytest
import torch

from coprune.prune.layer_menu import LayerMenu, slot_gains


def random_scores(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(size=shape))


def naive_gains(scores: np.ndarray, *, lanes: int) -> dict[tuple[int, ...], list[float]]:
    """By tile, group, row, column: what the first, second... slot of the block keeps."""
    outputs, inputs, rows, columns = scores.shape
    gains = {}
    for tile, group, row, column in itertools.product(
        range(-(-outputs // lanes)), range(-(-inputs // lanes)), range(rows), range(columns)
    ):
        block = scores[
            tile * lanes : (tile + 1) * lanes, group * lanes : (group + 1) * lanes, row, column
        ]
        ranked = -np.sort(-block, axis=1)
        gains[tile, group, row, column] = list(ranked.sum(axis=0))
    return gains


def best_by_cost(scores: torch.Tensor, *, lanes: int, tile_cycles: np.ndarray) -> dict[int, float]:
    """The largest importance kept for every cost, over all ways to fill the blocks.

    `tile_cycles` are those of a tile by its slots.
    """
    gains = naive_gains(scores.numpy(), lanes=lanes)
    best: dict[int, float] = {}
    for kept in itertools.product(*(range(len(block) + 1) for block in gains.values())):
        slots: dict[int, int] = {}
        for (tile, *_), count in zip(gains, kept, strict=True):
            slots[tile] = slots.get(tile, 0) + count
        cost = int(sum(tile_cycles[count] for count in slots.values()))
        worth = sum(sum(block[:count]) for block, count in zip(gains.values(), kept, strict=True))
        best[cost] = max(best.get(cost, 0.0), worth)
    return best


def test_gains_are_those_of_a_naive_search():
    scores = random_scores(5, 6, 2, 3)
    gains = slot_gains(scores, lanes=4)
    assert gains.shape == (2, 2, 2, 3, 4)
    for block, expected in naive_gains(scores.numpy(), lanes=4).items():
        assert gains[block][: len(expected)] == pytest.approx(expected, rel=1e-12)
        assert not gains[block][len(expected) :].any()


@pytest.mark.parametrize("shape", [(2, 2, 1, 3), (4, 3, 1, 1), (3, 4, 1, 2), (4, 2, 2, 1)])
@pytest.mark.parametrize("drain", [0, 1, 3])
def test_every_option_is_the_best_of_its_cost(shape, drain):
    lanes = 2
    scores = random_scores(*shape, seed=drain)
    tiles = -(-shape[0] // lanes)
    # A tile of S slots takes 10 * max(S, drain) cycles, as one that its drain bounds.
    group_slots = [min(lanes, shape[1] - first) for first in range(0, shape[1], lanes)]
    taps = shape[2] * shape[3]
    slots_at = [taps * sum(min(n, slots) for slots in group_slots) for n in range(lanes + 1)]
    if drain and drain not in slots_at:
        drain = slots_at[1]
    tile_cycles = 10 * np.maximum(np.arange(slots_at[-1] + 1), drain)
    menu = LayerMenu(scores, cycles=tiles * tile_cycles[slots_at], lanes=lanes)
    best = best_by_cost(scores, lanes=lanes, tile_cycles=tile_cycles)
    costs = list(menu.menu.cost)
    assert costs == sorted(cost for cost in best if cost)
    assert costs[-1] == max(best)
    for option, (cost, worth) in enumerate(zip(costs, menu.menu.value, strict=True)):
        assert worth == pytest.approx(best[cost], rel=1e-12)
        mask = menu.pattern(option).mask(scores)
        assert float(scores[mask].sum()) == pytest.approx(worth, rel=1e-12)


def test_whole_layers_keep_one_n():
    scores = random_scores(4, 6, 3, 3)
    cycles = np.array([7.0, 7.0, 20.0, 30.0, 40.0])
    menu = LayerMenu(scores, cycles=cycles, lanes=4, granularity="layer")
    assert list(menu.menu.cost) == [7, 20, 30, 40]
    assert [menu.pattern(option).n for option in range(4)] == [1, 2, 3, 4]
    for option in range(4):
        mask = menu.pattern(option).mask(scores)
        assert float(scores[mask].sum()) == pytest.approx(menu.menu.value[option], rel=1e-12)


def test_slots_that_cost_nothing_are_always_taken():
    # N = 2 is as fast as nothing at all, so no option keeps less of any tile.
    cycles = np.array([50.0, 50.0, 50.0, 75.0, 100.0])
    menu = LayerMenu(random_scores(8, 8, 3, 3), cycles=cycles, lanes=4)
    kept = menu.pattern(0).kept
    assert menu.menu.cost[0] == 50
    assert list(kept.sum(axis=(1, 2, 3))) == [2 * 18, 2 * 18]
    assert len(np.unique(kept)) > 1


def test_other_granularities_are_refused():
    with pytest.raises(ValueError, match="granularity must be 'layer' or 'block', not 'channel'"):
        LayerMenu(random_scores(2, 2), cycles=np.zeros(3), lanes=2, granularity="channel")
