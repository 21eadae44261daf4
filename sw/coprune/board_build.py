"""Builds bitstreams for boards, and loads them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from coprune import atomic_file
from coprune_hw import zynq
from coprune_hw.boards import BOARDS, Ecp5Board, Ecp5Top
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.synthesis import ecp5_build
from coprune_hw.synthesis.ecp5_floorplan import place_cells
from coprune_hw.synthesis.tools import run_tool


def find_board(name: str) -> Ecp5Board:
    """A board by its name; `ValueError` where there is none."""
    if name not in BOARDS:
        names = ", ".join([*BOARDS, *zynq.BOARDS])
        raise ValueError(f"unknown board {name!r}: must be one of {names}")
    return BOARDS[name]


def build_bitstream(
    board: Ecp5Board,
    folder: str | Path,
    *,
    config: AcceleratorConfig | None = None,
    clock_mhz: float | None = None,
    memory: str | None = None,
    memory_bytes: int | None = None,
    seed: int = 1,
    begin_step: Callable[[str], None] = lambda step: None,
) -> dict:
    """Build the system of a board: netlist, placed and routed design, bitstream.

    Parameters
    ----------
    board : Ecp5Board
    folder : path
        Takes all files, once all are there. Nothing stays of a build that fails: the error ends
        with the tool's log.
    config : AcceleratorConfig, optional
        Instead of the board's preset.
    clock_mhz : float, optional
        Instead of the board's.
    memory : {"on-chip", "sdram"}, optional
        Else the board's SDRAM where it has one.
    memory_bytes : int, optional
        Of the on-chip memory.
    seed : int
        Of the placement.
    begin_step : callable
        Is told the names of the steps as they begin.

    Returns
    -------
    dict
        `board`, `bitstream`, `clock_mhz`, `baud`, `memory_bytes` and the fields of `BuildReport`.

    Raises
    ------
    ValueError
        The board cannot have it.
    ToolError
        A tool is missing or failed.
    """
    folder = Path(folder)
    atomic_file.make_folder(folder)
    config = config or AcceleratorConfig.preset(board.preset)
    memory = memory or ("sdram" if board.chip else "on-chip")
    top = Ecp5Top(
        board,
        config,
        clock_mhz=clock_mhz or board.clock_mhz,
        memory=memory,
        on_chip_bytes=memory_bytes or board.on_chip_bytes,
    )
    platform = board.platform()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as temporary:
        report = ecp5_build.build(
            top,
            platform,
            Path(temporary),
            clock_mhz=top.clock_hz / 1e6,
            seed=seed,
            places=place_cells(config, platform.device),
            begin_step=begin_step,
        )
        for path in Path(temporary).iterdir():
            path.replace(folder / path.name)
    return {
        "board": board.name,
        "bitstream": str(folder / f"{ecp5_build.TOP}.bit"),
        "geometry": config.to_dict(),
        "memory": memory,
        "memory_bytes": top.memory_bytes,
        "baud": top.baud,
        "seed": seed,
        **asdict(report),
    }


def load_bitstream(board: Ecp5Board, bitstream: str | Path) -> None:
    """Load a bitstream into a board with openFPGALoader, until it loses power.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ToolError
        openFPGALoader is missing, or does not find the board.
    """
    bitstream = Path(bitstream)
    if not bitstream.is_file():
        raise FileNotFoundError(f"no such bitstream: {bitstream}")
    options = [*board.loader_options, str(bitstream.resolve())]
    run_tool("openFPGALoader", options, folder=Path.cwd())
