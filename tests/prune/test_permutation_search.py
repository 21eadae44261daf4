import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from coprune.prune.permutation_search import ChannelReader, search_order


def kept(scores: torch.Tensor, order: np.ndarray, *, n: int, m: int) -> float:
    groups = scores[:, order].double().split(m, dim=1)
    return sum(float(group.topk(min(n, group.shape[1])).values.sum()) for group in groups)


def partitions(channels: list[int], *, m: int) -> Iterator[list[int]]:
    """All ways to divide channels into groups of `m`, one after the other."""
    if not channels:
        yield []
        return
    first, *rest = channels
    for others in itertools.combinations(rest, min(m, len(channels)) - 1):
        left = [channel for channel in rest if channel not in others]
        for order in partitions(left, m=m):
            yield [first, *others, *order]


def random_scores(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).square()


@pytest.mark.parametrize(
    ("channels", "n", "m"), [(6, 1, 2), (8, 2, 4), (9, 1, 3), (8, 1, 2), (8, 3, 4)]
)
@pytest.mark.parametrize("seed", range(3))
def test_finds_the_best_of_all_orders(channels, n, m, seed):
    scores = random_scores(12, channels, seed=seed)
    best = max(kept(scores, order, n=n, m=m) for order in partitions([*range(channels)], m=m))
    reader = ChannelReader(scores, slots=np.arange(channels), n=n, m=m)
    order = search_order([reader], classes=np.zeros(channels, int))
    assert sorted(order) == [*range(channels)]
    assert kept(scores, order, n=n, m=m) == pytest.approx(best)


def test_a_small_last_group_is_filled_as_well():
    scores = random_scores(9, 7, seed=3)
    best = max(
        kept(scores, np.array(order), n=2, m=4) for order in itertools.permutations(range(7))
    )
    reader = ChannelReader(scores, slots=np.arange(7), n=2, m=4)
    order = search_order([reader], classes=np.zeros(7, int))
    assert kept(scores, order, n=2, m=4) == pytest.approx(best)


def test_finds_the_best_common_order_of_two_readers_with_classes_and_fixed_channels():
    # Slots 0 to 3 and 4 to 7; the second reader has only the first class, behind a fixed channel.
    scores = random_scores(10, 8, seed=4), random_scores(10, 5, seed=5)
    classes = np.repeat([0, 1], 4)
    readers = [
        ChannelReader(scores[0], slots=np.array([0, 4, 1, 5, 2, 6, 3, 7]), n=1, m=4),
        ChannelReader(scores[1], slots=np.array([-1, 0, 1, 2, 3]), n=1, m=2),
    ]

    def both(order) -> float:
        moved = [
            [int(np.flatnonzero(reader.slots == order[slot])[0]) if slot >= 0 else place
             for place, slot in enumerate(reader.slots)]
            for reader in readers
        ]  # fmt: skip
        return kept(scores[0], moved[0], n=1, m=4) + kept(scores[1], moved[1], n=1, m=2)

    best = max(
        both([*first, *second])
        for first in itertools.permutations(range(4))
        for second in itertools.permutations(range(4, 8))
    )
    order = search_order(readers, classes=classes)
    assert sorted(order[:4]) == [0, 1, 2, 3]
    assert both(order) == pytest.approx(best)


def test_escapes_leave_local_optima():
    greedy, thorough = 0.0, 0.0
    for seed in range(6):
        scores = random_scores(8, 12, seed=seed)
        reader = ChannelReader(scores, slots=np.arange(12), n=1, m=4)
        for escapes in (0, 20):
            order = search_order([reader], classes=np.zeros(12, int), escapes=escapes)
            if escapes:
                thorough += kept(scores, order, n=1, m=4)
            else:
                greedy += kept(scores, order, n=1, m=4)
                assert kept(scores, order, n=1, m=4) >= kept(scores, np.arange(12), n=1, m=4)
    assert thorough > greedy


def test_one_group_and_all_of_a_group_leave_nothing_to_choose():
    scores = random_scores(5, 8, seed=6)
    for n, m in [(2, 8), (2, 16), (4, 4)]:
        reader = ChannelReader(scores, slots=np.arange(8), n=n, m=m)
        order = search_order([reader], classes=np.zeros(8, int))
        assert order.tolist() == [*range(8)]
