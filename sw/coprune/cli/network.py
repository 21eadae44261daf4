"""What commands ask of the network that they are given."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from torch import nn
from torch.export import ExportedProgram

from coprune.named_network import find_network

__all__ = ["explain_export", "find_network", "input_shape"]


def input_shape(network: nn.Module | ExportedProgram | Path) -> tuple[int, int, int] | None:
    """Channels, height and width of an image, where the network states them as zoo networks do."""
    return getattr(network, "input_shape", None)


@contextlib.contextmanager
def explain_export(calibration: Path | None) -> Iterator[None]:
    """While a network is exported, keep PyTorch's graphs off stderr, and say more of a failure.

    Parameters
    ----------
    calibration : Path or None
        The file of images that the user gave.
    """
    try:
        # Where an export fails, PyTorch prints graphs there.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    except RuntimeError as error:
        if calibration is None:
            hint = "without --calibration, the network is given images of 3 x 32 x 32"
            raise RuntimeError(f"{error}; {hint}") from error
        raise
