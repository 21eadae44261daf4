"""Files of a run: its checkpoint, its log and weights, whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from coprune import atomic_file

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


def load_checkpoint(folder: Path, *, identity: Mapping) -> dict | None:
    """Return the checkpoint in ``folder``, or None.

    Parameters
    ----------
    identity
        What the run's result depends on.

    Raises
    ------
    ValueError
        The checkpoint is damaged, or that of a run with another ``identity``.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        theirs = checkpoint["identity"]
    except Exception as error:
        # torch.load raises many types.
        raise ValueError(f"{path} is no checkpoint, or is damaged: {error}") from error
    for name, value in theirs.items():
        if value != identity.get(name):
            raise ValueError(
                f"{path} was made by another recipe, with {name} {value!r} instead of "
                f"{identity.get(name)!r}: give another folder, or remove it to begin anew"
            )
    return checkpoint


def save_checkpoint(folder: Path, content: dict) -> None:
    """Write the checkpoint in ``folder``."""
    atomic_file.write(folder / CHECKPOINT, serialize(content))


def save_log(folder: Path, history: Sequence[Mapping]) -> None:
    """Write the log in ``folder``, a line of JSON per epoch."""
    lines = "".join(json.dumps(line) + "\n" for line in history)
    atomic_file.write(folder / LOG, lines)


def save_state_dict(model: nn.Module, *, path: Path) -> None:
    """Write the contiguous state of ``model``."""
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    atomic_file.write(path, serialize(state))


def serialize(content: dict) -> bytes:
    """Return ``content`` as `torch.save` writes it to a file."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
