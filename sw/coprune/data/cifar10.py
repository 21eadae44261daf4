"""CIFAR-10 from the folder that its authors publish, or from a compact lossless one."""

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from coprune.data.images import LabelledImages, Sample

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)

_ROOT = Path(__file__).parents[3]
_DEFAULT_FOLDERS = (_ROOT.parent / "shared" / "data" / "cifar10", Path("cifar-10-batches-py"))
_SAMPLE = Path(__file__).parent / "cifar10_sample.npz"
_COMPACT_LABELS = "labels_train50000_test10000_u8.npy"


def normalize(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return uint8 images [N, 3, H, W] as the float32 input that the CIFAR networks expect."""
    pixels = torch.as_tensor(images)
    mean = torch.tensor(MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def load_sample() -> Sample:
    """Return 256 training images and the first 500 test images of CIFAR-10."""
    return Sample.read(_SAMPLE)


def find_cifar10(folder: Path | str | None = None) -> Path:
    """Return the folder that holds CIFAR-10.

    Parameters
    ----------
    folder
        Where to look. By default ``../shared/data/cifar10`` beside the repository, then
        ``cifar-10-batches-py`` in the current directory.

    Raises
    ------
    FileNotFoundError
        If no such folder holds the data set.
    """
    folders = _DEFAULT_FOLDERS if folder is None else (Path(folder),)
    for candidate in folders:
        if _is_pickled(candidate) or _is_compact(candidate):
            return candidate
    looked = " or ".join(str(candidate) for candidate in folders)
    raise FileNotFoundError(f"no CIFAR-10 in {looked}: give the path of cifar-10-batches-py")


def load_train(folder: Path | str | None = None) -> LabelledImages:
    """Return the 50,000 training images in their original order; see `find_cifar10`."""
    return _load(find_cifar10(folder), batches=TRAIN_BATCHES)


def load_test(folder: Path | str | None = None) -> LabelledImages:
    """Return the 10,000 test images in their original order; see `find_cifar10`."""
    return _load(find_cifar10(folder), batches=TEST_BATCHES)


def _is_pickled(folder: Path) -> bool:
    return all((folder / name).is_file() for name in TRAIN_BATCHES + TEST_BATCHES)


def _is_compact(folder: Path) -> bool:
    return (folder / _COMPACT_LABELS).is_file()


def _load(folder: Path, *, batches: Sequence[str]) -> LabelledImages:
    read = _read_pickled if _is_pickled(folder) else _read_compact
    parts = [read(folder, batch=batch) for batch in batches]
    return LabelledImages(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def _read_pickled(folder: Path, *, batch: str) -> LabelledImages:
    with (folder / batch).open("rb") as file:
        content = pickle.load(file, encoding="bytes")
    return LabelledImages(
        images=content[b"data"].reshape(-1, 3, 32, 32),
        labels=np.array(content[b"labels"], dtype=np.uint8),
    )


def _read_compact(folder: Path, *, batch: str) -> LabelledImages:
    residuals = np.frombuffer(gzip.decompress((folder / f"{batch}.med.gz").read_bytes()), np.uint8)
    images = _decode_planes(residuals.reshape(3, -1, 32, 32))
    start = (TRAIN_BATCHES + TEST_BATCHES).index(batch) * len(images)
    return LabelledImages(images, np.load(folder / _COMPACT_LABELS)[start : start + len(images)])


def _decode_planes(residuals: np.ndarray) -> np.ndarray:
    """Undo median edge detection and green subtraction.

    The planes uint8 [3, N, H, W] are G, R - G and B - G, each less its prediction modulo 256.
    The predictor is that of LOCO-I (Weinberger, Seroussi and Sapiro, 2000): the median of left,
    up and left + up - corner. Green is 0..255, the differences are -255..255; modulo 256 they
    are only known once green is, so the signed neighbours are restored pixel by pixel.
    """
    _, count, height, width = residuals.shape
    # Pixels come first so that each step of the raster scan works on contiguous rows.
    coded = np.ascontiguousarray(residuals.transpose(0, 2, 3, 1))
    values = np.zeros((3, height, width, count), np.int16)
    channels = np.empty((3, height, width, count), np.uint8)
    for y in range(height):
        for x in range(width):
            predicted = _predict(values, y=y, x=x)
            wrapped = (coded[:, y, x] + predicted) & 255
            green = wrapped[0]
            red, blue = (wrapped[1:] + green) & 255
            channels[:, y, x] = red, green, blue
            values[:, y, x] = green, red - green, blue - green
    return np.ascontiguousarray(channels.transpose(3, 0, 1, 2))


def _predict(values: np.ndarray, *, y: int, x: int) -> np.ndarray:
    if y == 0 and x == 0:
        return np.zeros_like(values[:, 0, 0])
    if y == 0:
        return values[:, 0, x - 1]
    if x == 0:
        return values[:, y - 1, 0]
    left, up, corner = values[:, y, x - 1], values[:, y - 1, x], values[:, y - 1, x - 1]
    low, high = np.minimum(left, up), np.maximum(left, up)
    return np.clip(left + up - corner, low, high)
