"""Which channels to put into a group of M, so that N:M keeps the most importance.

After Pool and Yu, "Channel permutations for N:M sparsity", 2021: swaps of two channels, the best
first, until none helps; then some at random to leave the local optimum, and again. Where they try
each swap on its two groups, here all swaps are valued at once. Let a group keep its N largest
scores of a row, t be the N-th largest of the others than channel c. With channel d in c's place it
keeps what it keeps of the others, and max(0, d - t) more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

ESCAPES = 20
"""Local optima that the search tries to leave."""
ESCAPE_SWAPS = 2
"""Random swaps of an escape."""
LEAST_GAIN = 1e-6
"""Of the kept importance, for a swap to count: less may be a rounding of float32."""


@dataclass(frozen=True, eq=False)
class ChannelReader:
    """A layer whose input channels are to be put in order.

    Parameters
    ----------
    scores : tensor [rows, channels]
        A row is an output channel and a kernel tap.
    slots : int array [channels]
        The slot that each channel is in, -1 where it has to stay. No slot is there twice.
    n, m : int
        Of every ``m`` consecutive channels each row keeps ``n``.
    """

    scores: torch.Tensor
    slots: np.ndarray
    n: int
    m: int


def search_order(
    readers: Sequence[ChannelReader],
    *,
    classes: np.ndarray,
    escapes: int = ESCAPES,
    seed: int = 0,
) -> np.ndarray:
    """Return the slot whose channel comes to each slot: int [slots].

    Parameters
    ----------
    classes : int array [slots]
        Only slots of one class exchange their channels.
    escapes : int
        Local optima to leave. The result is never worse than the order that is.
    """
    random = np.random.default_rng(seed)
    best = _Arrangement(readers, classes=classes)
    best.climb()
    pairs = np.argwhere(np.triu(best.legal))
    for _ in range(escapes if len(pairs) else 0):
        trial = best.copy()
        for first, second in random.choice(pairs, size=ESCAPE_SWAPS):
            trial.swap([(int(first), int(second))])
        trial.climb()
        if trial.kept() > best.kept() * (1 + LEAST_GAIN):
            best = trial
    return best.order


class _Arrangement:
    """Channels in slots, and what every swap of two would gain."""

    def __init__(self, readers: Sequence[ChannelReader], *, classes: np.ndarray):
        self.order = np.arange(len(classes))
        self._readers = [_ArrangedReader(reader, slots=len(classes)) for reader in readers]
        same_class = classes[:, None] == classes[None]
        apart = np.zeros_like(same_class)
        self._near = np.eye(len(classes), dtype=bool)
        for reader in self._readers:
            apart |= reader.apart
            self._near |= reader.near
        self.legal = same_class & apart

    def copy(self) -> _Arrangement:
        copy = object.__new__(_Arrangement)
        copy.order = self.order.copy()
        copy.legal, copy._near = self.legal, self._near
        copy._readers = [reader.copy() for reader in self._readers]
        return copy

    def kept(self) -> float:
        return sum(reader.kept() for reader in self._readers)

    def climb(self) -> None:
        """Swap until no swap gains anything."""
        least = LEAST_GAIN * self.kept()
        while swaps := self._best_swaps(least=least):
            before = self.kept()
            self.swap(swaps)
            if self.kept() <= before:  # a rounding took for a gain: it may go in circles
                self.swap(swaps)
                return

    def swap(self, swaps: Sequence[tuple[int, int]]) -> None:
        for first, second in swaps:
            self.order[[first, second]] = self.order[[second, first]]
        for reader in self._readers:
            reader.swap(swaps)

    def _best_swaps(self, *, least: float) -> list[tuple[int, int]]:
        """The best swaps of which no two touch one group: their gains add up."""
        gains = np.zeros(self.legal.shape)
        for reader in self._readers:
            gains += reader.gains()
        gains[~self.legal] = 0.0
        swaps = []
        while gains.size and gains.max() > least:
            first, second = np.unravel_index(gains.argmax(), gains.shape)
            swaps.append((int(first), int(second)))
            touched = self._near[first] | self._near[second]
            gains[touched] = 0.0
            gains[:, touched] = 0.0
        return swaps


class _ArrangedReader:
    """The scores of one reader in the order of the moment.

    `_replaced` [channels, channels] is what a channel's group gains with another in its place.
    """

    def __init__(self, reader: ChannelReader, *, slots: int):
        self._n, self._m = reader.n, reader.m
        self._scores = reader.scores.detach().float().clone()
        channels = self._scores.shape[1]
        self._group_of = torch.arange(channels) // self._m
        self._positions = np.full(slots, -1)
        movable = reader.slots >= 0
        self._positions[reader.slots[movable]] = np.flatnonzero(movable)
        group = np.where(self._positions >= 0, self._positions // self._m, -1)
        here = (group >= 0)[:, None] & (group >= 0)[None]
        self.near = here & (group[:, None] == group[None])
        self.apart = here & (group[:, None] != group[None])
        self._thresholds = torch.empty_like(self._scores)
        self._losses = torch.empty(channels)
        self._replaced = torch.zeros(channels, channels)
        self._kept = torch.zeros(-(-channels // self._m), dtype=torch.float64)
        self._update(torch.arange(len(self._kept)))

    def copy(self) -> _ArrangedReader:
        copy = object.__new__(_ArrangedReader)
        copy.__dict__.update(self.__dict__)
        for name in ("_scores", "_thresholds", "_losses", "_replaced", "_kept"):
            setattr(copy, name, getattr(self, name).clone())
        return copy

    def kept(self) -> float:
        return float(self._kept.sum())

    def gains(self) -> np.ndarray:
        """Gain of swapping two slots: [slots, slots]."""
        here = self._positions >= 0
        positions = torch.from_numpy(self._positions[here])
        replaced = self._replaced[positions][:, positions]
        gains = np.zeros(self.apart.shape)
        gains[np.ix_(here, here)] = (replaced + replaced.T).numpy()
        gains[~self.apart] = 0.0
        return gains

    def swap(self, swaps: Sequence[tuple[int, int]]) -> None:
        pairs = self._positions[np.array(swaps)]
        pairs = torch.from_numpy(pairs[(pairs >= 0).all(axis=1)])
        if not len(pairs):
            return
        self._scores[:, pairs.flatten()] = self._scores[:, pairs.flip(1).flatten()]
        self._update(self._group_of[pairs].unique(), moved=pairs.flatten())

    def _update(self, groups: torch.Tensor, *, moved: torch.Tensor | None = None) -> None:
        """Value the channels of groups that changed, and those that moved in other groups."""
        for group in groups.tolist():
            members = slice(group * self._m, (group + 1) * self._m)
            scores = self._scores[:, members]
            # Zeros for missing channels, and one more than there are for N = M.
            largest = F.pad(scores, (0, self._m + 1 - scores.shape[1])).topk(self._n + 1).values
            last, following = largest[:, -2:-1], largest[:, -1:]
            self._thresholds[:, members] = torch.where(scores > following, following, last)
            self._losses[members] = (scores - following).relu().sum(dim=0)
            self._kept[group] = largest[:, :-1].double().sum()
        changed = torch.isin(self._group_of, groups)
        everything = torch.arange(len(self._group_of))
        self._value(everything[changed], everything)
        if moved is not None:
            self._value(everything[~changed], moved)

    def _value(self, places: torch.Tensor, channels: torch.Tensor) -> None:
        scores = self._scores[:, channels].T.contiguous()
        thresholds = self._thresholds[:, places].T.contiguous()
        # sum(max(0, d - t)) = (sum|d - t| + sum(d) - sum(t)) / 2: the first is a distance.
        sums = scores.sum(dim=1)[None] - thresholds.sum(dim=1)[:, None]
        gained = (torch.cdist(thresholds, scores, p=1) + sums) / 2
        self._replaced[places[:, None], channels[None]] = gained - self._losses[places, None]
