"""Writes the accelerator as Verilog."""

from __future__ import annotations

from pathlib import Path

from coprune import atomic_file
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.accelerator import TOP_NAME, list_ports
from coprune_sim.cosim.runner import accelerator_verilog


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
    atomic_file.make_folder(folder)
    path = folder / f"{TOP_NAME}.v"
    atomic_file.write(path, accelerator_verilog(config))
    return {"file": str(path), "ports": list_ports(config)}
