"""The images of a training run, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from coprune.data import LabelledImages, Normalize
from coprune.train.augmentation import Augmented, crop_and_flip, epoch_steps
from coprune.train.settings import TrainingSettings


class TrainingImages:
    """The training images, on the device where they are needed."""

    def __init__(
        self,
        dataset: LabelledImages,
        *,
        normalize: Normalize,
        settings: TrainingSettings,
        device: torch.device,
    ):
        self._pixels = torch.as_tensor(dataset.images, device=device)
        self._labels = torch.as_tensor(dataset.labels, device=device).long()
        self._normalize = normalize
        self._settings = settings
        self._device = device

    def __len__(self) -> int:
        return len(self._pixels)

    def steps(self, epoch: int) -> Iterator[Augmented]:
        """Yield what each step of an epoch takes."""
        settings = self._settings
        return epoch_steps(
            images=len(self),
            batch=settings.batch,
            seed=settings.seed,
            epoch=epoch,
            padding=settings.crop_padding,
            flip=settings.flip,
        )

    def take(self, step: Augmented) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented, normalized pixels of a step, and their labels."""
        step = step.to(self._device)
        pixels = crop_and_flip(
            self._pixels[step.chosen], step=step, padding=self._settings.crop_padding
        )
        pixels = self._normalize(pixels).to(memory_format=self._settings.memory_format)
        return pixels, self._labels[step.chosen]
