"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) from the IDX files that its authors publish."""

import gzip
import math
from pathlib import Path

import numpy as np
import torch

from coprune.data.images import LabelledImages, Sample

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
MEAN, STD = 0.286, 0.353
"""Of all pixels of the training images, as fractions of 255."""
IMAGE_SHAPE = (1, 28, 28)

_ROOT = Path(__file__).parents[3]
_DEFAULT_FOLDERS = (_ROOT.parent / "shared" / "data" / "fashion-mnist", Path("fashion-mnist"))
_SAMPLE = Path(__file__).parent / "fashion_mnist_sample.npz"
_TRAIN, _TEST = "train", "t10k"
_UNSIGNED_BYTE = 0x08
"""The code for the type of an IDX file's values."""


def normalize(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return uint8 images [N, 1, H, W] as the float32 input that LeNet-5 expects."""
    return (torch.as_tensor(images).float() / 255 - MEAN) / STD


def load_sample() -> Sample:
    """Return 256 training images and the first 400 test images of Fashion-MNIST."""
    return Sample.read(_SAMPLE)


def find_fashion_mnist(folder: Path | str | None = None) -> Path:
    """Return the folder that holds Fashion-MNIST.

    Parameters
    ----------
    folder
        Where to look for the four IDX files, packed with gzip or not. By default
        ``../shared/data/fashion-mnist`` beside the repository, then ``fashion-mnist`` in the
        current directory.

    Raises
    ------
    FileNotFoundError
        If no such folder holds the data set.
    """
    folders = _DEFAULT_FOLDERS if folder is None else (Path(folder),)
    for candidate in folders:
        paths = [path for part in (_TRAIN, _TEST) for path in _paths(candidate, part=part)]
        if all(path.is_file() for path in paths):
            return candidate
    looked = " or ".join(str(candidate) for candidate in folders)
    raise FileNotFoundError(
        f"no Fashion-MNIST in {looked}: give the folder of {_TRAIN}-images-idx3-ubyte.gz"
    )


def load_train(folder: Path | str | None = None) -> LabelledImages:
    """Return the 60,000 training images in their order; see `find_fashion_mnist`."""
    return _load(find_fashion_mnist(folder), part=_TRAIN)


def load_test(folder: Path | str | None = None) -> LabelledImages:
    """Return the 10,000 test images in their order; see `find_fashion_mnist`."""
    return _load(find_fashion_mnist(folder), part=_TEST)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes: two zeros, type, axes, their sizes (big endian), values.

    Raises
    ------
    ValueError
        If the file is damaged or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    axes = content[3] if len(content) > 3 else 0
    begin = 4 + 4 * axes
    if content[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or not axes or len(content) < begin:
        raise ValueError(f"{path} must be an IDX file of unsigned bytes, not begin {content[:4]!r}")
    shape = tuple(np.frombuffer(content[4:begin], ">u4").tolist())
    if len(content) - begin != math.prod(shape):
        raise ValueError(
            f"{path} must hold {math.prod(shape)} values, as its sizes {list(shape)} say, "
            f"not {len(content) - begin}"
        )
    return np.frombuffer(bytearray(content), np.uint8, offset=begin).reshape(shape)


def _load(folder: Path, *, part: str) -> LabelledImages:
    images_path, labels_path = _paths(folder, part=part)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.shape[1:] != IMAGE_SHAPE[1:]:
        raise ValueError(f"{images_path} must hold images of 28 x 28, not {list(images.shape)}")
    if labels.ndim != 1 or labels.max(initial=0) >= len(CLASSES):
        raise ValueError(f"{labels_path} must hold labels from 0 to {len(CLASSES) - 1}")
    return LabelledImages(images[:, None], labels)


def _paths(folder: Path, *, part: str) -> list[Path]:
    """Images and labels; the packed files where there are both."""
    names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    packed = [folder / f"{name}.gz" for name in names]
    return [path if path.is_file() else path.with_suffix("") for path in packed]
