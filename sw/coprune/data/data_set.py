"""Data sets by name, or from a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coprune.data import cifar10, fashion_mnist
from coprune.data.images import LabelledImages, Normalize

DATA_SETS = {"cifar10": cifar10, "fashion-mnist": fashion_mnist}
CALIBRATION_IMAGES = 256
HELD_OUT = 10
"""Of so many images of a file without test images, the last is one."""


@dataclass(frozen=True)
class DataSet:
    """Images to train with, to test with and to calibrate with, and how a network takes them."""

    train: LabelledImages
    test: LabelledImages
    calibration: LabelledImages
    normalize: Normalize

    def calibration_batches(self, *, batch: int = 64) -> list[torch.Tensor]:
        """Return what `coprune.compile` takes: float32 [N, C, H, W]."""
        return list(self.normalize(torch.as_tensor(self.calibration.images)).split(batch))

    def labelled_calibration_batches(
        self, *, batch: int = 64
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return what `HardwarePruner` takes: the same images with labels int64 [N]."""
        labels = torch.as_tensor(self.calibration.labels).long().split(batch)
        return list(zip(self.calibration_batches(batch=batch), labels, strict=True))


def load_data_set(name: str, *, folder: Path | None = None) -> DataSet:
    """Return the data set called ``name``.

    Parameters
    ----------
    name
        ``"cifar10"``, ``"fashion-mnist"`` or the path of an ``.npz`` file with ``images``, uint8
        [N, C, H, W], and ``labels``, integers [N]. It may have ``test_images`` and
        ``test_labels``; else every tenth image is one. Pixels are normalized by ``mean`` and
        ``std``, of each channel as fractions of 255, where it has these, else by those of its
        training images.
    folder
        Of the files of one that has a name.

    Raises
    ------
    FileNotFoundError
        The files are not there.
    ValueError
        There is no such data set, or the file holds something else.
    """
    if name.endswith(".npz"):
        return _read(Path(name))
    if name not in DATA_SETS:
        raise ValueError(
            f"dataset must be one of {', '.join(DATA_SETS)} or an .npz file, not {name!r}"
        )
    data = DATA_SETS[name]
    return DataSet(
        train=data.load_train(folder),
        test=data.load_test(folder),
        calibration=data.load_sample().calibration,
        normalize=data.normalize,
    )


def _read(path: Path) -> DataSet:
    if not path.is_file():
        raise FileNotFoundError(f"no such file of images: {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, OSError, EOFError, AttributeError) as error:
        raise ValueError(f"{path} is no .npz file: {error}") from error
    train = _labelled(arrays, "", path=path)
    if "test_images" in arrays:
        test = _labelled(arrays, "test_", path=path)
    else:
        held_out = np.arange(len(train)) % HELD_OUT == HELD_OUT - 1
        test = LabelledImages(train.images[held_out], train.labels[held_out])
        train = LabelledImages(train.images[~held_out], train.labels[~held_out])
    if not len(train) or not len(test):
        raise ValueError(f"{path} must hold at least {HELD_OUT} images, or test_images too")
    count = min(len(train), CALIBRATION_IMAGES)
    return DataSet(
        train=train,
        test=test,
        calibration=LabelledImages(train.images[:count], train.labels[:count]),
        normalize=_normalization(arrays, train.images),
    )


def _labelled(arrays: dict[str, np.ndarray], prefix: str, *, path: Path) -> LabelledImages:
    for name in (f"{prefix}images", f"{prefix}labels"):
        if name not in arrays:
            raise ValueError(f"{path} must hold {name!r}; it has {', '.join(arrays) or 'nothing'}")
    images, labels = arrays[f"{prefix}images"], arrays[f"{prefix}labels"]
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"{prefix}images in {path} must be uint8 [N, C, H, W], "
            f"not {images.dtype} {[*images.shape]}"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{prefix}labels in {path} must be {len(images)} integers, one for each image, "
            f"not {labels.dtype} {[*labels.shape]}"
        )
    return LabelledImages(images, labels.astype(np.int64))


def _normalization(arrays: dict[str, np.ndarray], images: np.ndarray) -> Normalize:
    means = arrays.get("mean", images.mean(axis=(0, 2, 3)) / 255)
    deviations = arrays.get("std", np.maximum(images.std(axis=(0, 2, 3)), 1) / 255)
    mean, std = (
        torch.as_tensor(values, dtype=torch.float32).view(-1, 1, 1)
        for values in (means, deviations)
    )

    def normalize(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() / 255 - mean.to(pixels.device)) / std.to(pixels.device)

    return normalize
