"""A simulation that runs beside Python, and takes commands from it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NoReturn

from .toolchain import Model


class SimulationProcess:
    """A model with a main program in C++: a process of its own, which stays until `close`.

    Parameters
    ----------
    model : Model
    source : Path
        The main program: `driver.cpp` or `board.cpp`, which say what the commands are.

    Raises
    ------
    RuntimeError
        The main program cannot be built.
    """

    def __init__(self, model: Model, source: Path) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="coprune-simulated-")
        self._folder = Path(self._temporary.name)
        self._process = model.start(source, folder=self._folder)

    def close(self) -> None:
        """End the simulation."""
        self._process.communicate()
        self._temporary.cleanup()

    def send(self, command: str) -> None:
        """Give a command that prints nothing.

        Raises
        ------
        RuntimeError
            The simulation ended, now or at a command before; with its reason.
        """
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._refuse_end(command)

    def ask(self, command: str) -> str:
        """Give a command, and return the line that it prints; errors are those of `send`."""
        self.send(command)
        answer = self._process.stdout.readline()
        if not answer:
            self._refuse_end(command)
        return answer

    def load(self, address: int, content: bytes) -> None:
        """Write the memory, without simulated time."""
        (self._folder / "load_0.bin").write_bytes(content)
        self.send(f"load 0 {address} {len(content)}")
        self.ask("echo")

    def dump(self, address: int, size: int) -> bytes:
        """Read the memory, without simulated time."""
        self.send(f"dump 0 {address} {size}")
        self.ask("echo")
        return (self._folder / "dump_0.bin").read_bytes()

    def _refuse_end(self, command: str) -> NoReturn:
        reason = self._process.stderr.read().strip()
        raise RuntimeError(f"the simulation ended at {command!r}: {reason}")
