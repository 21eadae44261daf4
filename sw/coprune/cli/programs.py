"""Program files for commands that do not take every kind."""

from __future__ import annotations

from pathlib import Path

import coprune
from coprune.program import Program


def load_program(file: Path, *, purpose: str) -> Program:
    """Load a program that runs wholly on the accelerator, as `purpose` needs.

    Raises
    ------
    ValueError
        The network has stages on the host.
    """
    program = coprune.load(file)
    if not isinstance(program, Program):
        refuse_stages(file, purpose=purpose)
    return program


def refuse_stages(file: Path, *, purpose: str) -> None:
    """Raise `ValueError`, because a file has stages on the host."""
    raise ValueError(
        f"{purpose} needs a program that runs wholly on the accelerator, but {file} has stages on "
        "the host: info, simulate, cosim and cycles take it"
    )
