"""The order of training images, and how each is cropped and mirrored.

All of it follows from seed, epoch and step alone: a run that goes on in the middle of an epoch sees
what it would have seen, and runs of different networks see the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

EPOCH_SEEDS = 100_003
"""Distance of the seeds of two runs whose own seeds are neighbours: more than there are epochs."""


@dataclass(frozen=True)
class Augmented:
    """Which images a step takes and what is done to them.

    Parameters
    ----------
    chosen
        int64 [N], places of the images in the data set.
    offsets
        int64 [2, N, 1], rows and columns at which crops begin.
    flipped
        bool [N, 1].
    """

    chosen: torch.Tensor
    offsets: torch.Tensor
    flipped: torch.Tensor

    def part(self, images: slice) -> Augmented:
        """Return the same for some of its images."""
        return Augmented(self.chosen[images], self.offsets[:, images], self.flipped[images])

    def to(self, device: torch.device) -> Augmented:
        """Return the same on ``device``."""
        return Augmented(
            *(
                part.to(device, non_blocking=True)
                for part in (self.chosen, self.offsets, self.flipped)
            )
        )


def epoch_steps(
    *, images: int, batch: int, seed: int, epoch: int, padding: int, flip: bool = True
) -> Iterator[Augmented]:
    """Yield the steps of an epoch in order; each image is in one of them.

    Parameters
    ----------
    images
        In the data set.
    padding
        Width of the border in pixels.
    """
    generator = torch.Generator().manual_seed(seed * EPOCH_SEEDS + epoch)
    for chosen in torch.randperm(images, generator=generator).split(batch):
        count = len(chosen)
        offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
        flipped = torch.rand(count, 1, generator=generator) < 0.5
        yield Augmented(chosen, offsets, flipped & flip)


def crop_and_flip(images: torch.Tensor, *, step: Augmented, padding: int) -> torch.Tensor:
    """Return each image cropped out of a black border and mirrored as ``step`` says.

    Parameters
    ----------
    images
        uint8 [N, C, H, W], those that ``step`` chose; the result has the same shape.
    padding
        Width of the border in pixels.
    """
    count, channels, height, width = images.shape
    device = images.device
    padded = F.pad(images, (padding,) * 4)
    rows = step.offsets[0] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = step.offsets[1] + torch.where(step.flipped, width - 1 - columns, columns)
    return padded[
        torch.arange(count, device=device).view(-1, 1, 1, 1),
        torch.arange(channels, device=device).view(1, -1, 1, 1),
        rows.view(count, 1, height, 1),
        columns.view(count, 1, 1, width),
    ]
