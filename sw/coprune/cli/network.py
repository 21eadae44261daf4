"""Finds the networks and images that are named on the command line."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from coprune import zoo
from coprune.data import cifar10
from coprune_hw.contract import AcceleratorConfig


def find_network(name: str, *, weights: Path | None = None) -> nn.Module | ExportedProgram:
    """A zoo name, ``package.module:function`` or the path of a `torch.export` archive.

    Parameters
    ----------
    name : str
    weights : Path
        A state dict to load into the network.

    Raises
    ------
    ValueError
        `name` is none of these, or the weights do not fit.
    FileNotFoundError
        There is no such file.
    """
    if name.endswith(".pt2"):
        return _load_archive(Path(name), weights=weights)
    network = _call(name) if ":" in name else zoo.build(name)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must return an nn.Module, not {type(network).__name__}")
    if weights is not None:
        _load_weights(network, weights)
    return network.eval()


def find_config(name: str) -> AcceleratorConfig:
    """A preset's name, or the path of a TOML file."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no such configuration file: {name}")
        return AcceleratorConfig.from_toml(name)
    return AcceleratorConfig.preset(name)


def find_calibration(path: Path | None) -> list[torch.Tensor]:
    """Batches from a .npy file of float32 [N, C, H, W], or CIFAR-10 images that come along."""
    if path is None:
        images = cifar10.normalize(cifar10.load_sample().calibration.images)
    else:
        images = torch.as_tensor(_load_array(path))
    return list(images.split(64))


def find_test_images(count: int, *, folder: Path | None) -> tuple[torch.Tensor, np.ndarray, str]:
    """The first `count` CIFAR-10 test images: normalized, their labels, and where they come from.

    Raises
    ------
    ValueError
        There are not so many.
    FileNotFoundError
        `folder` has no CIFAR-10.
    """
    sample = cifar10.load_sample().test
    if folder is None and count <= len(sample):
        images, origin = sample, "sample"
    else:
        images, origin = cifar10.load_test(folder), str(cifar10.find_cifar10(folder))
    if not 1 <= count <= len(images):
        raise ValueError(f"--images must be from 1 to {len(images)}, not {count}")
    return cifar10.normalize(images.images[:count]), images.labels[:count], origin


def _call(name: str) -> object:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot find {name}: {error}") from error
    return function()


def _load_archive(path: Path, *, weights: Path | None) -> ExportedProgram:
    if weights is not None:
        raise ValueError("--weights does not go with a torch.export archive, which has its own")
    if not path.is_file():
        raise FileNotFoundError(f"no such torch.export archive: {path}")
    try:
        return torch.export.load(path)
    except (RuntimeError, zipfile.BadZipFile, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no torch.export archive: {reason}") from error


def _load_weights(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no such weights file: {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:
        # torch.load and load_state_dict raise many types, with messages of many lines.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} does not hold this network's state dict: {reason}") from error


def _load_array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"no such calibration file: {path}")
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file: {error}") from error
