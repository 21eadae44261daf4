"""Commands that make a bitstream for a board, and load it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import typer

from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import DataFolder, InputFile, JsonPath, ProgramPath
from coprune.cli.programs import load_program
from coprune_hw.contract import AcceleratorConfig

ZYNQ_PRESET = "16x8"
ZYNQ_MHZ = 50
SERIAL_TIMEOUT_SECONDS = 0.1

Board = Annotated[str, typer.Option("--board", metavar="NAME", help="See `coprune boards`.")]


@app.command()
def boards(json: JsonPath = None) -> None:
    """List the boards that `build` knows."""
    from coprune_hw import zynq
    from coprune_hw.boards import BOARDS

    described = [
        {
            "name": board.name,
            "accelerator": board.preset,
            "memory": board.chip.data_sheet if board.chip else f"{board.on_chip_bytes:,} bytes",
            "tools": "Yosys, nextpnr, Project Trellis",
        }
        for board in BOARDS.values()
    ]
    described += [
        {
            "name": board.name,
            "accelerator": ZYNQ_PRESET,
            "memory": f"DDR, {board.memory_bytes >> 20} MiB",
            "tools": "Vivado",
        }
        for board in zynq.BOARDS.values()
    ]
    tables.show_table(
        "Boards",
        headings=("name", "accelerator", "memory", "tools"),
        rows=[tuple(board.values()) for board in described],
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
    """Build the bitstream of a board; for a Zynq, write the IP core and Vivado's script."""
    from coprune.board_build import build_bitstream, find_board
    from coprune_hw import zynq

    if board in zynq.BOARDS:
        _write_zynq_project(board, output, config=config, mhz=mhz, json=json)
        return
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


def _write_zynq_project(
    board: str, output: Path, *, config: str | None, mhz: float | None, json: Path | None
) -> None:
    from coprune.zynq import write_project
    from coprune_hw import zynq

    accelerator = AcceleratorConfig.find(config or ZYNQ_PRESET)
    mhz = round(mhz or ZYNQ_MHZ)
    script = write_project(zynq.BOARDS[board], accelerator, output, mhz=mhz)
    tables.show(f"{script}: {accelerator.name} at {mhz} MHz for {board}; to build it:")
    tables.show(f"vivado -mode batch -source {script}")
    tables.write_json(json, {"board": board, "mhz": mhz, "script": str(script)})


@app.command()
def program(
    board: Board,
    bitstream: Annotated[Path, typer.Argument(metavar="FILE", help="top.bit of a build.")],
    json: JsonPath = None,
) -> None:
    """Load a bitstream into a board with openFPGALoader."""
    from coprune.board_build import find_board, load_bitstream

    load_bitstream(find_board(board), bitstream)
    tables.write_json(json, {"board": board, "bitstream": str(bitstream)})


@app.command("run")
def run_on_board(
    file: ProgramPath,
    port: Annotated[
        str, typer.Option("--port", metavar="NAME", help="Of the serial line: /dev/ttyUSB0, COM3.")
    ],
    baud: Annotated[int, typer.Option("--baud", min=1, help="As `build` printed it.")] = 2_000_000,
    mhz: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--mhz", min=1.0, help="The system's clock, to show milliseconds."),
    ] = None,
    images: Annotated[int, typer.Option(metavar="N", min=1, help="How many images.")] = 1,
    data: DataFolder = None,
    inputs: InputFile = None,
    json: JsonPath = None,
) -> None:
    """Run test images on a board, and compare with the simulation."""
    program = load_program(file, purpose="run")
    import serial

    from coprune.cli.images import find_images
    from coprune.runtime import Device, LinkBus

    found = find_images(program, count=images, folder=data, file=inputs)
    with serial.serial_for_url(port, baud, timeout=SERIAL_TIMEOUT_SECONDS) as line:
        bus = LinkBus(line)
        device = Device(bus)
        device.load(program)
        outputs = [
            device.run(image[None], integer=True)
            for image in tables.progress(found.inputs, description="running")
        ]
        cycles = device.counters()["cycles"]
    outputs = np.concatenate(outputs)
    equal = np.array_equal(outputs, program.simulate(found.inputs, integer=True))
    accuracy = found.accuracy(outputs)
    result = {
        "images": len(outputs),
        "equal": equal,
        "accuracy": accuracy,
        "cycles": cycles,
        "milliseconds": cycles / mhz / 1e3 if mhz else None,
        "repeated_frames": bus.repeated_frames,
    }
    tables.show(
        f"{'equal' if equal else 'NOT EQUAL'} to the simulation: {len(outputs)} image(s), "
        f"{'no accuracy' if accuracy is None else f'accuracy {accuracy:.2%}'}, {cycles:,} cycles"
        f"{f', {cycles / mhz / 1e3:.3f} ms' if mhz else ''}, "
        f"{bus.repeated_frames} frames sent again",
        style=None if equal else "red",
    )
    tables.write_json(json, result)
    if not equal:
        raise typer.Exit(1)
