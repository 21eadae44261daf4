"""Commands that make a bitstream for a board, and load it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import JsonPath
from coprune_hw.contract import AcceleratorConfig

Board = Annotated[str, typer.Option("--board", metavar="NAME", help="See `coprune boards`.")]


@app.command()
def boards(json: JsonPath = None) -> None:
    """List the boards that a bitstream can be built for."""
    from coprune_hw.boards import BOARDS

    described = [
        {
            "name": board.name,
            "title": board.title,
            "preset": board.preset,
            "clock_mhz": board.clock_mhz,
            "memory": board.chip.data_sheet if board.chip else f"{board.on_chip_bytes:,} bytes",
        }
        for board in BOARDS.values()
    ]
    tables.show_table(
        "Boards",
        headings=("name", "board", "accelerator", " MHz", "memory"),
        rows=[tuple(map(str, board.values())) for board in described],
    )
    tables.write_json(json, {"boards": described})


@app.command()
def build(
    board: Board,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Made where it is missing.")
    ],
    config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--config", metavar="PRESET|FILE", help="Else the board's accelerator."),
    ] = None,
    mhz: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--mhz", min=1.0, help="The system's clock; else the board's."),
    ] = None,
    memory: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--memory", help="on-chip or sdram; else SDRAM where the board has it."),
    ] = None,
    memory_kib: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--memory-kib", min=4, help="Of the on-chip memory."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the placement.")] = 1,
    json: JsonPath = None,
) -> None:
    """Build the bitstream of a board: takes from minutes to an hour."""
    from coprune.board_build import build_bitstream, find_board

    begin = time.monotonic()

    def begin_step(step: str) -> None:
        tables.show(f"{(time.monotonic() - begin) / 60:5.1f} min: {step}")

    result = build_bitstream(
        find_board(board),
        output,
        config=AcceleratorConfig.find(config) if config else None,
        clock_mhz=mhz,
        memory=memory,
        memory_bytes=memory_kib * 1024 if memory_kib else None,
        seed=seed,
        begin_step=begin_step,
    )
    tables.show_table(
        f"{result['bitstream']}: {(time.monotonic() - begin) / 60:.1f} min",
        headings=("cells", " used", " available", " share"),
        rows=[
            (name, f"{used:,}", f"{available:,}", f"{used / available:.0%}")
            for (name, used), available in zip(
                result["used"].items(), result["available"].values(), strict=True
            )
        ],
    )
    tables.show(
        f"clock: {result['achieved_mhz']:.1f} MHz reached, {result['wanted_mhz']:.1f} MHz wanted"
    )
    tables.write_json(json, result)
    if result["achieved_mhz"] < result["wanted_mhz"]:
        raise RuntimeError(
            f"the design reaches {result['achieved_mhz']:.1f} MHz, not {result['wanted_mhz']:.1f}: "
            "build it with a lower --mhz, or try another --seed"
        )


@app.command()
def program(
    board: Board,
    bitstream: Annotated[Path, typer.Argument(metavar="FILE", help="top.bit of a build.")],
) -> None:
    """Load a bitstream into a board with openFPGALoader."""
    from coprune.board_build import find_board, load_bitstream

    load_bitstream(find_board(board), bitstream)
