"""Networks by name: those of the zoo, a function that returns one, or an exported file."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from coprune import zoo


def find_network(name: str, *, weights: Path | None = None) -> nn.Module | ExportedProgram | Path:
    """A zoo name, ``package.module:function`` or the path of a `torch.export` archive or ONNX file.

    Parameters of a zoo network follow its name: ``mobilenetv1,width=0.5,resolution=64``. Modules
    are looked for in the current folder too, and are put in evaluation mode.

    Parameters
    ----------
    name : str
    weights : Path
        To load into the network, as `coprune.zoo.load_weights` does.

    Raises
    ------
    ValueError
        `name` is none of these, its function fails, or parameters or weights do not fit.
    FileNotFoundError
        There is no such file.
    """
    if name.endswith(".pt2"):
        if weights is not None:
            raise ValueError("--weights does not go with a .pt2 archive, which has its own")
        return _load_archive(Path(name))
    if name.endswith(".onnx"):
        if weights is not None:
            raise ValueError("--weights does not go with an .onnx file, which has its own")
        return Path(name)
    network = _call(name) if ":" in name else _build(name)
    if weights is not None:
        zoo.load_weights(network, weights)
    return network.eval()


def _build(text: str) -> nn.Module:
    name, *assignments = text.split(",")
    if name not in zoo.names():
        raise ValueError(
            f"MODEL must be one of {', '.join(zoo.names())}, package.module:function, a .pt2 "
            f"archive or an .onnx file, not {name!r}"
        )
    return zoo.build(name, **dict(map(_read_parameter, assignments)))


def _read_parameter(assignment: str) -> tuple[str, float]:
    parameter, _, text = assignment.partition("=")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not parameter.isidentifier() or not isinstance(value, int | float):
        raise ValueError(f"a parameter must be NAME=NUMBER, as width=0.5, not {assignment!r}")
    return parameter, value


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
    # Knows the operators that a quantized network holds.
    importlib.import_module("coprune.compiler.decomposed")
    try:
        return torch.export.load(path)
    except Exception as error:
        # torch.export.load raises many types where an archive is damaged.
        raise ValueError(f"{path} is no torch.export archive, or is damaged: {error}") from error
