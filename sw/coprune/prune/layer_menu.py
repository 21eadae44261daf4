"""What a layer may keep, what that costs and what it is worth: the options of the knapsack."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from coprune.prune.block_pattern import BlockPattern, block_grid, split_groups
from coprune.prune.knapsack import Menu

Granularity = Literal["layer", "block"]
GRANULARITIES: tuple[Granularity, ...] = ("layer", "block")


class LayerMenu:
    """The options of one layer: N:lanes for all of it, or any number of slots, block by block.

    A slot more in a block keeps the next largest weight of each output channel. Its worth is the
    sum of their scores, which never rises from one slot of a block to the next. So of all ways to
    place S slots, taking the S worthiest is the best, and always possible.

    Parameters
    ----------
    scores
        Of the layer's weights [out, in, rows, columns] or [out, in]; not negative.
    cycles : float array [lanes + 1]
        Of the layer where all blocks keep N = 0, 1 ... `lanes`.
    lanes
    granularity
        ``"layer"``: one N, at least 1, for all blocks. ``"block"``: one N for each.

    Notes
    -----
    The costs of block-wise options are those of their tiles of output channels, each of which takes
    the cycles of a uniform N between two of `cycles`. A tile's first slots cost nothing as long as
    it takes no longer than an empty one, which its drain bounds; every option has them.
    """

    def __init__(
        self,
        scores: torch.Tensor,
        *,
        cycles: np.ndarray,
        lanes: int,
        granularity: Granularity = "block",
    ) -> None:
        if granularity not in GRANULARITIES:
            raise ValueError(
                f"granularity must be {' or '.join(map(repr, GRANULARITIES))}, not {granularity!r}"
            )
        self._lanes = lanes
        self._grid = block_grid(tuple(scores.shape), lanes=lanes)
        gains = slot_gains(scores, lanes=lanes)
        if granularity == "layer":
            self._kept = [np.full(self._grid, n) for n in range(1, lanes + 1)]
            worth = np.cumsum(gains.sum(axis=(0, 1, 2, 3)))
            self.menu = Menu(np.rint(np.maximum.accumulate(cycles[1:])).astype(np.int64), worth)
            return
        self._kept = None
        # Rising even where the model says a cycle less for more slots.
        self._set_up_blocks(gains, np.maximum.accumulate(cycles), channels=scores.shape[1])

    def pattern(self, option: int) -> BlockPattern:
        """What an option of `menu` keeps."""
        if self._kept is not None:
            return BlockPattern(self._kept[option], self._lanes)
        taken = self._blocks[: self._first + option]
        kept = np.bincount(taken, minlength=int(np.prod(self._grid))).reshape(self._grid)
        return BlockPattern(kept, self._lanes)

    def _set_up_blocks(self, gains: np.ndarray, cycles: np.ndarray, *, channels: int) -> None:
        tiles = len(gains)
        # A group of fewer channels has as many slots at most.
        group_slots = np.minimum(self._lanes, channels - self._lanes * np.arange(self._grid[1]))
        real = np.broadcast_to(
            np.arange(self._lanes) < group_slots[:, None, None, None], gains.shape[1:]
        )
        block_of = np.flatnonzero(real) // self._lanes
        gains = gains[:, real]
        # Slots of a tile where all its blocks keep N, and those that cost nothing.
        marks = np.concatenate([[0], real.reshape(-1, self._lanes).sum(axis=0).cumsum()])
        free = int(marks[np.searchsorted(cycles, cycles[0], side="right") - 1])

        order = np.argsort(-gains, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(gains.shape[1])[None], axis=1)
        sequence = np.lexsort((rank.ravel(), -gains.ravel(), rank.ravel() >= free))
        tile, slot = np.divmod(sequence, gains.shape[1])
        self._blocks = tile * int(np.prod(self._grid[1:])) + block_of[slot]
        self._first = max(tiles * free, 1)
        taken = rank.ravel()[sequence]
        step = np.interp(taken + 1, marks, cycles) - np.interp(taken, marks, cycles)
        cost = cycles[0] + np.cumsum(step) / tiles
        worth = np.cumsum(gains.ravel()[sequence])
        options = slice(self._first - 1, None)
        self.menu = Menu(np.rint(cost[options]).astype(np.int64), worth[options])


def slot_gains(scores: torch.Tensor, *, lanes: int) -> np.ndarray:
    """What each slot of a block keeps: its output channels' n-th largest scores, added up.

    Returns
    -------
    float64 array [output tiles, input groups, rows, columns, lanes], falling along the last axis
    """
    tiles, groups, rows, columns = block_grid(tuple(scores.shape), lanes=lanes)
    ranked = split_groups(scores.double(), lanes=lanes).clamp_min(0).sort(descending=True).values
    # [out, (rows, columns,) groups, lanes]
    ranked = ranked.reshape(len(scores), rows, columns, groups, lanes)
    ranked = torch.nn.functional.pad(ranked, (0,) * 9 + (-len(scores) % lanes,))
    return ranked.unflatten(0, (tiles, lanes)).sum(dim=1).movedim(3, 1).cpu().numpy()
