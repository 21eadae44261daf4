"""Runs the open FPGA tools: those of the system where they are named, else those from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

VARIABLES = {
    "yosys": "YOSYS",
    "nextpnr-ecp5": "NEXTPNR_ECP5",
    "ecppack": "ECPPACK",
    "ecppll": "ECPPLL",
    "openFPGALoader": "OPENFPGALOADER",
}
"""Environment variables that name another executable, by tool; Amaranth's are the same."""

LOG_LINES = 30


class ToolError(RuntimeError):
    """A tool is missing, failed, or took too long."""


class ToolTimeoutError(ToolError):
    """A tool did not end in time."""


def find_tool(name: str) -> str:
    """The executable of a tool.

    Raises
    ------
    ToolError
        There is none.
    """
    variable = VARIABLES[name]
    if named := os.environ.get(variable):
        found = shutil.which(named)
        if found is None:
            raise ToolError(f"{variable} is {named!r}, which is no executable")
        return found
    packaged = Path(sys.executable).parent / f"yowasp-{name}"
    found = str(packaged) if packaged.exists() else shutil.which(name)
    if found is None:
        raise ToolError(f"no {name}: pip install 'coprune[synthesis]', or name one in {variable}")
    return found


def run_tool(
    name: str,
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    log: Path | None = None,
    timeout_seconds: float | None = None,
) -> None:
    """Run a tool in a folder; `log` takes its output, or the terminal where there is none.

    Raises
    ------
    ToolError
        It is missing, failed, or did not end in time; with the end of its log.
    """
    command = [find_tool(name), *map(str, arguments)]
    with open(log, "w") if log is not None else nullcontext() as output:
        try:
            finished = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            raise ToolTimeoutError(
                f"{name} did not end in {timeout_seconds / 60:g} min{_end_of(log)}"
            ) from None
    if finished.returncode:
        raise ToolError(f"{name} ended with {finished.returncode}{_end_of(log)}")


def _end_of(log: Path | None) -> str:
    if log is None:
        return ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    lines = "\n".join(text.splitlines()[-LOG_LINES:])
    return f"; the end of {log}:\n{lines}"
