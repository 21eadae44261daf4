"""Writes what Vivado needs to put the accelerator on a board with a Zynq-7000."""

from __future__ import annotations

from pathlib import Path

from coprune import atomic_file
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.accelerator import TOP_NAME
from coprune_hw.zynq import ZynqBoard, component_description, fit_to_port, settings_script
from coprune_hw.zynq.block_design import BUILD_SCRIPT
from coprune_hw.zynq.ip_core import PANEL_FILE, VERILOG_FILE, customization_panel
from coprune_sim.cosim.runner import accelerator_verilog
from coprune_sim.resources import count_multipliers

PLACE_MULTIPLIERS = 5
"""That compute places of pixels and sizes of windows: LOAD 2, STORE 2, drain 1."""


def write_ip(config: AcceleratorConfig, folder: str | Path) -> Path:
    """Write the accelerator as an IP core for Vivado.

    Parameters
    ----------
    config : AcceleratorConfig
    folder : str or Path
        Of IP cores, as `ip_repo_paths` has it; made where it is missing.

    Returns
    -------
    Path
        The IP core's own folder, ``coprune_accelerator`` in `folder`.

    Raises
    ------
    OSError
        The folder cannot be made or written to.
    """
    core = Path(folder) / TOP_NAME
    files = {
        VERILOG_FILE: accelerator_verilog(config),
        PANEL_FILE: customization_panel(),
        "component.xml": component_description(config),
    }
    _write(core, files)
    return core


def write_project(
    board: ZynqBoard, config: AcceleratorConfig, folder: str | Path, *, mhz: int
) -> Path:
    """Write an IP core and the scripts that make a bitstream for a board from it.

    Parameters
    ----------
    board : ZynqBoard
    config : AcceleratorConfig
        Its bursts are shortened to what a Zynq-7000's memory ports take.
    folder : str or Path
        Made where it is missing.
    mhz : int
        Of the accelerator's clock.

    Returns
    -------
    Path
        Of ``build.tcl``, for ``vivado -mode batch -source``.

    Raises
    ------
    ValueError
        The board has no such bus or clock, or not so many multipliers.
    OSError
        The folder cannot be made or written to.
    """
    folder = Path(folder)
    multipliers = count_multipliers(config) + PLACE_MULTIPLIERS
    if multipliers > board.multipliers:
        raise ValueError(
            f"{config.name} takes {multipliers} multipliers, but {board.part} has "
            f"{board.multipliers}: choose fewer lanes or columns"
        )
    config = fit_to_port(config)
    settings = settings_script(board, config, mhz=mhz)
    atomic_file.make_folder(folder)
    write_ip(config, folder / "ip")
    _write(folder, {"settings.tcl": settings, BUILD_SCRIPT.name: BUILD_SCRIPT.read_text()})
    return folder / BUILD_SCRIPT.name


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        atomic_file.make_folder(path.parent)
        atomic_file.write(path, content)
