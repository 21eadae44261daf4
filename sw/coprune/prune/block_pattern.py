"""How many weights each block keeps: N of every `lanes` where all are alike, or N block by block.

A block is what the array works off with one word of the activation memory: `lanes` output channels,
`lanes` input channels, one kernel tap. It takes as many cycles as its busiest output channel has
weights there, so every output channel may as well keep that many.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class BlockPattern:
    """Weights that every output channel keeps in each block of a layer.

    Parameters
    ----------
    kept : int array [output tiles, input groups, kernel rows, kernel columns]
        From 0 to `lanes`. Linear layers have one row and one column.
    lanes : int
        Output channels of a tile and input channels of a group.
    """

    kept: np.ndarray
    lanes: int

    def __post_init__(self) -> None:
        if self.kept.ndim != 4 or self.kept.size == 0:
            raise ValueError(f"kept must have 4 axes and blocks, not shape {self.kept.shape}")
        low, high = int(self.kept.min()), int(self.kept.max())
        if low < 0 or high > self.lanes:
            raise ValueError(
                f"kept must be in 0..{self.lanes} (lanes), not {low if low < 0 else high}"
            )

    @classmethod
    def uniform(cls, shape: tuple[int, ...], *, n: int, lanes: int) -> Self:
        """The same `n` in every block of a weight of `shape` [out, in, ...]."""
        return cls(np.full(block_grid(shape, lanes=lanes), n), lanes)

    @property
    def n(self) -> int | None:
        """N of N:lanes where all blocks have the same, else None."""
        first = int(self.kept.flat[0])
        return first if bool((self.kept == first).all()) else None

    @property
    def mean(self) -> float:
        """Mean of N over the blocks."""
        return float(self.kept.mean())

    def __str__(self) -> str:
        """Such as ``4:16``, or ``3.72:16`` where that is the mean."""
        return f"{self.n if self.n is not None else f'{self.mean:.2f}'}:{self.lanes}"

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        """Return where each output channel has its largest scores, as many as every block keeps.

        Of equal scores the lower channel stays. A last group of fewer channels keeps as many of
        them or all.

        Parameters
        ----------
        scores
            [out, in, height, width] or [out, in], not negative.

        Returns
        -------
        torch.Tensor
            bool, in the shape of `scores`.

        Raises
        ------
        ValueError
            The pattern is for another shape.
        """
        grid = block_grid(tuple(scores.shape), lanes=self.lanes)
        if grid != self.kept.shape:
            raise ValueError(
                f"scores of shape {list(scores.shape)} have {grid} blocks, "
                f"but the pattern is for {self.kept.shape}"
            )
        kept = torch.as_tensor(self.kept, device=scores.device)
        # [tile, group, row, column] to [out, group] or [out, row, column, group].
        kept = kept.repeat_interleave(self.lanes, dim=0)[: len(scores)].movedim(1, -1)
        if scores.dim() == 2:
            kept = kept[:, 0, 0]
        groups = split_groups(scores, lanes=self.lanes)
        order = groups.argsort(dim=-1, descending=True, stable=True)
        ranks = torch.empty_like(order).scatter_(
            -1, order, torch.arange(self.lanes, device=scores.device).expand_as(order)
        )
        mask = (ranks < kept.unsqueeze(-1)).flatten(-2)[..., : scores.shape[1]]
        return mask.movedim(-1, 1).contiguous()


def block_grid(shape: tuple[int, ...], *, lanes: int) -> tuple[int, int, int, int]:
    """Output tiles, input groups, rows and columns of a weight of `shape` [out, in, ...]."""
    if len(shape) not in (2, 4):
        raise ValueError(f"weight must be [out, in] or [out, in, rows, columns], not {[*shape]}")
    rows, columns = shape[2:] if len(shape) == 4 else (1, 1)
    return -(-shape[0] // lanes), -(-shape[1] // lanes), rows, columns


def split_groups(scores: torch.Tensor, *, lanes: int) -> torch.Tensor:
    """[out, in, ...] to [out, ..., groups, lanes]; missing channels are -1, below all scores."""
    scores = scores.detach().movedim(1, -1)
    return F.pad(scores, (0, -scores.shape[-1] % lanes), value=-1.0).unflatten(-1, (-1, lanes))


def parse_pattern(text: str) -> tuple[int, int]:
    """N and M of ``"N:M"``.

    Raises
    ------
    ValueError
    """
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
    if match is None:
        raise ValueError(f"a pattern must be N:M, such as '4:16', not {text!r}")
    n, m = map(int, match.groups())
    if not 0 <= n <= m or m == 0:
        raise ValueError(f"N must be in 0..M in a pattern N:M, not {text!r}")
    return n, m
