"""Finds the network that is named on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from coprune import zoo


def find_network(name: str, *, weights: Path | None = None) -> nn.Module | ExportedProgram:
    """A zoo name, ``package.module:function`` or the path of a `torch.export` archive.

    Modules are looked for in the current folder too, and are put in evaluation mode.

    Parameters
    ----------
    name : str
    weights : Path
        A state dict to load into the network.

    Raises
    ------
    ValueError
        `name` is none of these, its function fails, or the weights do not fit.
    FileNotFoundError
        There is no such file.
    """
    if name.endswith(".pt2"):
        if weights is not None:
            raise ValueError("--weights does not go with a .pt2 archive, which has its own")
        return _load_archive(Path(name))
    network = _call(name) if ":" in name else _build(name)
    if weights is not None:
        _load_weights(network, weights)
    return network.eval()


def _build(name: str) -> nn.Module:
    if name not in zoo.names():
        raise ValueError(
            f"MODEL must be one of {', '.join(zoo.names())}, package.module:function or a .pt2 "
            f"archive, not {name!r}"
        )
    return zoo.build(name)


def _call(name: str) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    # Python looks there by itself only where it is started as `python`.
    sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:
        # A module that is found runs, and so may raise anything, as may the function.
        raise ValueError(f"cannot find {name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")
    try:
        network = function()
    except Exception as error:
        raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must return an nn.Module, not {type(network).__name__}")
    return network


def _load_archive(path: Path) -> ExportedProgram:
    if not path.is_file():
        raise FileNotFoundError(f"no such torch.export archive: {path}")
    try:
        return torch.export.load(path)
    except Exception as error:
        # torch.export.load raises many types where an archive is damaged.
        raise ValueError(f"{path} is no torch.export archive, or is damaged: {error}") from error


def _load_weights(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no such weights file: {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:
        # torch.load and load_state_dict raise many types too.
        raise ValueError(
            f"{path} does not hold this network's state dict: {type(error).__name__}: {error}"
        ) from error
