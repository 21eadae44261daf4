"""Writes the accelerator as Verilog."""

from __future__ import annotations

from pathlib import Path

from coprune import atomic_file
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.accelerator import TOP_NAME, to_verilog


def write_verilog(config: AcceleratorConfig, folder: str | Path) -> dict:
    """Write ``coprune_accelerator.v`` into a folder, which is made where it is missing.

    Returns
    -------
    dict
        `file`, and `ports`: name, direction and bits of each.

    Raises
    ------
    OSError
        The folder cannot be made or written to.
    """
    folder = Path(folder)
    text, ports = to_verilog(config)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{TOP_NAME}.v"
    atomic_file.write(path, text)
    return {"file": str(path), "ports": ports}
