"""Finds the images that a network is calibrated with and run on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coprune.data import cifar10
from coprune.program import Program

CALIBRATION_BATCH = 64
IMAGE_SHAPE = (3, 32, 32)
"""Of CIFAR-10."""


@dataclass(frozen=True)
class Images:
    """What a network is run on.

    Parameters
    ----------
    inputs : float32 tensor [N, C, H, W]
    labels : uint8 array [N] or None
        None where the network's output cannot be held against labels.
    origin : str
        Where they come from.
    """

    inputs: torch.Tensor
    labels: np.ndarray | None
    origin: str

    def accuracy(self, outputs: np.ndarray) -> float | None:
        """Fraction of images whose label has the largest output; None without labels."""
        if self.labels is None:
            return None
        predictions = outputs.reshape(len(outputs), -1).argmax(axis=1)
        return float(np.mean(predictions == self.labels))


def find_calibration(path: Path | None) -> list[torch.Tensor]:
    """Batches from a .npy file of float32 [N, C, H, W], or CIFAR-10 images that come along.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no .npy file.
    """
    if path is None:
        images = cifar10.normalize(cifar10.load_sample().calibration.images)
    else:
        images = _load_array(path)
    return list(images.split(CALIBRATION_BATCH))


def find_images(
    program: Program, *, count: int | None, folder: Path | None, file: Path | None
) -> Images:
    """The first `count` images of `file`, of the CIFAR-10 in `folder`, or of the sample.

    Parameters
    ----------
    program : Program
        What they are to be run on.
    count : int
        None stands for all that there are.
    folder : Path
        A ``cifar-10-batches-py``.
    file : Path
        A .npy file of float32 [N, C, H, W].

    Raises
    ------
    ValueError
        The network does not take them, there are fewer than `count`, or both `folder` and `file`
        are given.
    FileNotFoundError
        There is no such file, or no CIFAR-10 in `folder`.
    """
    if file is not None:
        if folder is not None:
            raise ValueError("--inputs and --data do not go together")
        inputs = _load_array(file)
        _check_count(count, available=len(inputs))
        return Images(inputs[:count], None, str(file))
    wanted = program.graph.input.shape
    if wanted != IMAGE_SHAPE:
        raise ValueError(
            f"the test images are {_by(IMAGE_SHAPE)}, but the network takes {_by(wanted)}: "
            "give --inputs FILE.npy, float32 [N, C, H, W]"
        )
    if folder is None:
        images, origin = cifar10.load_sample().test, "sample"
        _check_count(count, available=len(images), hint="; --data cifar-10-batches-py has 10000")
    else:
        images, origin = cifar10.load_test(folder), str(folder)
        _check_count(count, available=len(images))
    classes = math.prod(program.output_shape)
    labels = images.labels[:count] if classes == len(cifar10.CLASSES) else None
    return Images(cifar10.normalize(images.images[:count]), labels, origin)


def _check_count(count: int | None, *, available: int, hint: str = "") -> None:
    if count is not None and count > available:
        raise ValueError(f"--images must be at most {available}, not {count}{hint}")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _load_array(path: Path) -> torch.Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"no such file of images: {path}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 4:
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an .npz"
        raise ValueError(f"{path} must hold float32 [N, C, H, W], not {found}")
    if not len(array):
        raise ValueError(f"{path} must hold at least one image")
    return torch.from_numpy(array)
