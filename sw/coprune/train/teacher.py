"""A frozen teacher, and its answers kept on disk for the next run."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from coprune import atomic_file
from coprune.data import LabelledImages, Normalize
from coprune.train.precision import autocast
from coprune.train.settings import TrainingSettings
from coprune.train.workers import Workers


class LogitsCache:
    """A teacher's logits for every image of every epoch, in the order of training.

    Order and augmentation follow from seed and epoch, so runs of different students see the same
    images and can share what a teacher says to them. Files are named by all that it depends on.

    Parameters
    ----------
    folder
        Where they lie, a ``.npy`` for each epoch: float32 [N, classes]; made if absent.
    key
        What the logits depend on, as `cache_key` gives it.
    """

    def __init__(self, folder: Path, *, key: str):
        atomic_file.make_folder(folder)
        self._folder = folder
        self._key = key

    def load(self, epoch: int) -> torch.Tensor | None:
        """Return the logits of an epoch, or None."""
        path = self._path(epoch)
        return torch.from_numpy(np.load(path)) if path.is_file() else None

    def save(self, epoch: int, logits: torch.Tensor) -> None:
        """Keep the logits of an epoch."""
        buffer = io.BytesIO()
        np.save(buffer, logits.numpy())
        atomic_file.write(self._path(epoch), buffer.getvalue())

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{self._key}-{epoch:04d}.npy"


class Teacher:
    """Answers a student's images; it does not learn.

    Parameters
    ----------
    network
        Copied to ``device``, and put in evaluation mode.

    Attributes
    ----------
    precision
        ``"float32"`` or ``"bfloat16"``.
    cache
        Where its answers are kept; None does not.
    """

    def __init__(
        self, network: nn.Module, *, device: torch.device, memory_format: torch.memory_format
    ):
        self.network = copy.deepcopy(network).to(device, memory_format=memory_format)
        self.network.eval().requires_grad_(False)
        self.precision = "float32"
        self.cache: LogitsCache | None = None
        self._known: torch.Tensor | None = None
        self._given: list[torch.Tensor] = []

    def begin_epoch(self, epoch: int) -> None:
        """Look up what is known of an epoch."""
        self._known = None if self.cache is None else self.cache.load(epoch)
        self._given = []

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor, *, begin: int) -> torch.Tensor:
        """Return float32 logits [N, classes].

        Parameters
        ----------
        begin
            How many images of the epoch this process has seen before.
        """
        if self._known is not None:
            return self._known[begin : begin + len(pixels)].to(pixels.device)
        with autocast(pixels.device, precision=self.precision):
            logits = self.network(pixels).float()
        if self.cache is not None:
            self._given.append(logits.cpu())
        return logits

    def end_epoch(self, epoch: int, *, images: int) -> None:
        """Keep what was answered, if it is all of an epoch's ``images``."""
        if self._given and sum(map(len, self._given)) == images:
            self.cache.save(epoch, torch.cat(self._given))
        self._given = []


def cache_key(
    network: nn.Module,
    *,
    dataset: LabelledImages,
    normalize: Normalize,
    settings: TrainingSettings,
    precision: str,
    device: torch.device,
    workers: Workers,
) -> str:
    """Return a digest of all that a teacher's logits in training depend on."""
    digest = hashlib.sha256()
    for part in _facts(network, settings=settings):
        digest.update(part)
    digest.update(np.ascontiguousarray(dataset.images))
    probe = normalize(torch.as_tensor(dataset.images[:1]))
    digest.update(probe.contiguous().numpy())
    place = (precision, device.type, torch.__version__, workers.rank, workers.count)
    digest.update(repr(place).encode())
    return digest.hexdigest()[:24]


def _facts(network: nn.Module, *, settings: TrainingSettings) -> Iterable[bytes]:
    yield repr(type(network)).encode()
    for name, value in network.state_dict().items():
        yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
        yield value.cpu().contiguous().numpy().tobytes()
    names = ("seed", "batch", "crop_padding", "flip", "channels_last")
    yield repr([getattr(settings, name) for name in names]).encode()
