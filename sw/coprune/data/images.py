"""Images with labels, and the sample of a data set that comes with coprune."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

Normalize = Callable[[torch.Tensor], torch.Tensor]
"""Makes the float32 input of a network of uint8 images [N, C, H, W]."""


@dataclass(frozen=True)
class LabelledImages:
    """Images uint8 [N, C, H, W], channels in RGB, and their labels uint8 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images cannot have {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Sample:
    """The images that come with coprune: training images to calibrate with, test images."""

    calibration: LabelledImages
    test: LabelledImages

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an npz file of ``<part>_images`` and ``<part>_labels``."""
        with np.load(path) as arrays:
            return cls(
                **{
                    part: LabelledImages(arrays[f"{part}_images"], arrays[f"{part}_labels"])
                    for part in ("calibration", "test")
                }
            )
