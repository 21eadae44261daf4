"""When pruning happens while a network trains: at once, by and by, or with masks that move.

A schedule says how far pruning is at a step, from 0 (dense) to 1 (as pruned as it is to be). What
that means in masks says a `Choose`, so that any way to choose masks goes with any schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from coprune.prune.block_pattern import BlockPattern

Choose = Callable[[nn.Module, float], Mapping[str, torch.Tensor]]
"""Masks (module name to bool, True where a weight is kept) of a network at a share of pruning."""


class Schedule(Protocol):
    """How far pruning is."""

    def share_at(self, step: int, *, steps_per_epoch: int) -> float:
        """Return the share of pruning at ``step``, 0 to 1: masks are chosen when it changes."""
        ...


@dataclass(frozen=True)
class OneShot:
    """All pruning before the first step; masks never change."""

    def share_at(self, step: int, *, steps_per_epoch: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Steps:
    """Shares of one's own, each for some epochs; the last one holds until the end.

    Parameters
    ----------
    shares
        From 0 to 1, the last one 1.
    epochs
        For which each of the others holds.
    """

    shares: tuple[float, ...]
    epochs: int = 1

    def __post_init__(self) -> None:
        if not self.shares or self.shares[-1] != 1:
            raise ValueError(f"shares must end with 1, all pruning, not {self.shares!r}")
        if not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(f"shares must be in 0..1, not {self.shares!r}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs!r}")

    @classmethod
    def of_kept(cls, kept: tuple[int, ...], *, m: int, epochs: int = 1) -> Steps:
        """The shares at which N of N:``m`` takes the values ``kept``, as 8, 6, 5 and 4."""
        if not kept or not all(0 <= n < m for n in kept):
            raise ValueError(f"kept must be in 0..{m - 1} (M - 1), not {kept!r}")
        return cls(tuple((m - n) / (m - kept[-1]) for n in kept), epochs=epochs)

    def share_at(self, step: int, *, steps_per_epoch: int) -> float:
        turn = step // (self.epochs * steps_per_epoch)
        return self.shares[min(turn, len(self.shares) - 1)]


@dataclass(frozen=True)
class Gradual:
    """Zhu and Gupta, "To prune, or not to prune", 2017: fast at first, slower towards the end.

    With t from 0 to 1 the share is ``1 - (1 - initial) (1 - t)^3``, which is their
    ``s_f + (s_i - s_f) (1 - t)^3`` for a sparsity that starts at ``initial`` times the final one.

    Parameters
    ----------
    epochs
        After which all pruning is done.
    every
        Steps from one choice of masks to the next.
    initial
        Share at the first step.
    """

    epochs: float
    every: int = 100
    initial: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs <= 0:
            raise ValueError(f"epochs must be positive, not {self.epochs!r}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1 step, not {self.every!r}")
        if not 0 <= self.initial <= 1:
            raise ValueError(f"initial must be in 0..1, not {self.initial!r}")

    def share_at(self, step: int, *, steps_per_epoch: int) -> float:
        steps = self.epochs * steps_per_epoch
        if step >= steps:
            return 1.0
        left = 1 - (step // self.every * self.every) / steps
        return 1 - (1 - self.initial) * left**3


@dataclass(frozen=True)
class StraightThrough:
    """SR-STE: dense weights train behind their pruned selves; then masks are fixed.

    Zhou et al., "Learning N:M fine-grained structured sparse neural networks from scratch", 2021.
    In every step the mask is chosen anew from the dense weights w. Forward and backward see w times
    the mask; the gradient is passed straight through to w, plus ``decay * (1 - mask) * w``, the
    sparse-refined term of their equation 9.

    Parameters
    ----------
    epochs
        After which the masks are chosen for the last time.
    decay
        Their lambda.
    """

    epochs: float
    decay: float = 2e-4

    def __post_init__(self) -> None:
        if self.epochs <= 0:
            raise ValueError(f"epochs must be positive, not {self.epochs!r}")
        if self.decay < 0:
            raise ValueError(f"decay must not be negative, not {self.decay!r}")

    def is_straight_at(self, step: int, *, steps_per_epoch: int) -> bool:
        """Return whether dense weights still train at ``step``."""
        return step < self.epochs * steps_per_epoch

    def share_at(self, step: int, *, steps_per_epoch: int) -> float:
        return 1.0


def pattern_choice(patterns: Mapping[str, BlockPattern]) -> Choose:
    """Return what chooses masks of ``patterns`` (by module name) from the weights' magnitudes.

    At a share s of pruning a block keeps ``lanes - s * (lanes - kept)`` weights, rounded.
    """

    def choose(model: nn.Module, share: float) -> dict[str, torch.Tensor]:
        return {
            name: _at(pattern, share).mask(model.get_submodule(name).weight.detach().abs())
            for name, pattern in patterns.items()
        }

    return choose


def fixed_choice(masks: Mapping[str, torch.Tensor]) -> Choose:
    """Return what chooses ``masks`` whatever the weights and the share are."""
    return lambda model, share: masks


def _at(pattern: BlockPattern, share: float) -> BlockPattern:
    if share == 1:
        return pattern
    pruned = np.rint(share * (pattern.lanes - pattern.kept)).astype(pattern.kept.dtype)
    return BlockPattern(pattern.lanes - pruned, pattern.lanes)
