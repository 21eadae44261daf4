"""Finds the images that a network is calibrated with and run on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from coprune.data import DataSet, cifar10, fashion_mnist, load_data_set
from coprune.hybrid import HybridProgram
from coprune.program import Program

CALIBRATION_BATCH = 64
CIFAR10_SHAPE = (3, 32, 32)
DATA_SETS = {CIFAR10_SHAPE: cifar10, fashion_mnist.IMAGE_SHAPE: fashion_mnist}
"""By the shape of their images."""
FOLDERS = {cifar10: "cifar-10-batches-py", fashion_mnist: "the folder of its IDX files"}


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
        """Fraction of images whose label has the largest output, or is it; None without labels."""
        if self.labels is None:
            return None
        numbers = outputs.reshape(len(outputs), -1)
        predictions = numbers[:, 0] if outputs.dtype == np.int64 else numbers.argmax(axis=1)
        return float(np.mean(predictions == self.labels))


def find_calibration(
    path: Path | None, *, shape: tuple[int, ...] | None = None
) -> list[torch.Tensor]:
    """Batches from a .npy file of float32 [N, C, H, W], or images that come along.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        Of the images that the network takes; None, where that is not known, stands for CIFAR-10.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no .npy file, or no images of that shape come along.
    """
    if path is None:
        data = _find_module(CIFAR10_SHAPE if shape is None else shape, option="--calibration")
        images = data.normalize(data.load_sample().calibration.images)
    else:
        images = _load_array(path)
    return list(images.split(CALIBRATION_BATCH))


def find_calibration_labels(path: Path | None, *, shape: tuple[int, ...]) -> np.ndarray:
    """Labels uint8 [N] of the images that `find_calibration` finds.

    Raises
    ------
    ValueError
        They come from a file, which has no labels.
    """
    if path is not None:
        raise ValueError(f"{path} has no labels: leave out --calibration, or what needs labels")
    return _find_module(shape, option="--calibration").load_sample().calibration.labels


def find_images(
    program: Program | HybridProgram, *, count: int | None, folder: Path | None, file: Path | None
) -> Images:
    """The images that a program is to be run on, as `load_images` finds them.

    Labels are left out where the program has not an output for each class.
    """
    shape = program.input_shape
    found = load_images(shape, count=count, folder=folder, file=file)
    picks_class = isinstance(program, HybridProgram) and program.picks_class
    if found.labels is None or picks_class:
        return found
    if math.prod(program.output_shape) == len(DATA_SETS[shape].CLASSES):
        return found
    return replace(found, labels=None)


def load_images(
    shape: tuple[int, ...], *, count: int | None, folder: Path | None, file: Path | None
) -> Images:
    """The first `count` images of `file`, of the data set in `folder`, or of the sample.

    Parameters
    ----------
    shape : tuple of int
        Of an image. It says which data set a network is for: CIFAR-10 or Fashion-MNIST.
    count : int
        None stands for all that there are.
    folder : Path
        A ``cifar-10-batches-py``, or the IDX files of Fashion-MNIST.
    file : Path
        A .npy file of float32 [N, C, H, W].

    Raises
    ------
    ValueError
        There are none of that shape or fewer than `count`, or both `folder` and `file` are given.
    FileNotFoundError
        There is no such file, or no such data set in `folder`.
    """
    if file is not None:
        if folder is not None:
            raise ValueError("--inputs and --data do not go together")
        inputs = _load_array(file)
        _check_count(count, available=len(inputs))
        return Images(inputs[:count], None, str(file))
    data = _find_module(shape, option="--inputs")
    if folder is None:
        images, origin = data.load_sample().test, "sample"
        _check_count(count, available=len(images), hint=f"; --data {FOLDERS[data]} has 10000")
    else:
        images, origin = data.load_test(folder), str(folder)
        _check_count(count, available=len(images))
    return Images(data.normalize(images.images[:count]), images.labels[:count], origin)


def find_data_set(shape: tuple[int, ...], *, path: Path | None) -> tuple[DataSet, str]:
    """Labelled images that a network can be calibrated with and tested on, and their origin.

    Parameters
    ----------
    shape : tuple of int
        Of an image: it says which data set comes along.
    path : Path
        A ``.npz`` file as `coprune.data.load_data_set` reads it, or the folder of test images of
        the data set of that shape; by default its sample.

    Raises
    ------
    ValueError
        None of that shape come along, or the file holds something else.
    FileNotFoundError
        There is no such file, or no such data set in the folder.
    """
    if path is not None and path.suffix == ".npz":
        found = load_data_set(str(path))
        if found.test.images.shape[1:] != shape:
            raise ValueError(
                f"{path} must hold images of {_by(shape)}, as the network takes them, "
                f"not {_by(found.test.images.shape[1:])}"
            )
        return found, str(path)
    data = _find_module(shape, option="--data", file=".npz, with images and labels")
    sample = data.load_sample()
    test, origin = sample.test, "sample"
    if path is not None:
        test, origin = data.load_test(path), str(path)
    return DataSet(sample.calibration, test, sample.calibration, data.normalize), origin


def _find_module(
    shape: tuple[int, ...], *, option: str, file: str = ".npy, float32 [N, C, H, W]"
) -> ModuleType:
    """The module of the data set whose images have that shape."""
    if shape not in DATA_SETS:
        shapes = " or ".join(map(_by, DATA_SETS))
        raise ValueError(
            f"the images that come along are {shapes}, but the network takes {_by(shape)}: "
            f"give {option} FILE{file}"
        )
    return DATA_SETS[shape]


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
