"""Commands that make something: a program file, Verilog; and `info`, which says what is in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import coprune
from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import (
    CalibrationFile,
    Config,
    CorrectBias,
    Equalize,
    JsonPath,
    Model,
    Observer,
    ProgramPath,
    WeightBits,
    WeightsFile,
    check_writable,
)
from coprune.program import Program
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.zynq import BOARDS

if TYPE_CHECKING:
    from coprune.hybrid import HybridProgram


@app.command("compile")
def compile_command(
    model: Model,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The program file.", callback=check_writable
        ),
    ],
    weights: WeightsFile = None,
    config: Config = "16x16",
    dense: Annotated[
        bool, typer.Option("--dense", help="Keep zero weights, as dense hardware would.")
    ] = False,
    channel_order: Annotated[
        bool,
        typer.Option(
            "--channel-order/--no-channel-order",
            help="Find the order of channels that takes the fewest cycles.",
        ),
    ] = False,
    int32_output: Annotated[
        bool,
        typer.Option("--int32-output", help="Give the last layer's exact sums instead of int8."),
    ] = False,
    host_fallback: Annotated[
        bool,
        typer.Option("--host-fallback", help="Run what is not supported on the host."),
    ] = False,
    calibration: CalibrationFile = None,
    observer: Observer = "mse",
    equalize: Equalize = False,
    correct_bias: CorrectBias = False,
    weight_bits: WeightBits = None,
    json: JsonPath = None,
) -> None:
    """Quantize a network and compile it to a program file."""
    accelerator = AcceleratorConfig.find(config)
    from coprune.cli.images import find_calibration
    from coprune.cli.network import explain_export, find_network, input_shape

    network = find_network(model, weights=weights)
    images = find_calibration(calibration, shape=input_shape(network))
    with explain_export(calibration):
        program = coprune.compile(
            network,
            accelerator,
            calibration=images,
            observer=observer,
            equalize=equalize,
            correct_bias=correct_bias,
            weight_bits=weight_bits,
            skip_zeros=not dense,
            channel_order=channel_order,
            int32_output=int32_output,
            host_fallback=host_fallback,
            network=model,
        )
    program.save(output)
    if not isinstance(program, Program):
        _show_stages(program, f"{output}: {model} for {accelerator.name}", json=json)
        return
    described = tables.describe_program(program)
    tables.show(
        f"{output}: {model} for {accelerator.name}, {described['instructions']} instructions, "
        f"{_compression(described)}"
    )
    tables.write_json(json, described)


@app.command()
def verilog(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Made where it is missing.")
    ],
    config: Config = "16x16",
    json: JsonPath = None,
) -> None:
    """Write the accelerator as Verilog, and list its ports."""
    accelerator = AcceleratorConfig.find(config)
    from coprune.verilog import write_verilog

    result = write_verilog(accelerator, output)
    tables.show_table(
        result["file"],
        headings=("port", "direction", " bits"),
        rows=[(port["name"], port["direction"], str(port["bits"])) for port in result["ports"]],
    )
    tables.write_json(json, result)


@app.command()
def build(
    board: Annotated[str, typer.Option("--board", help=f"{', '.join(BOARDS)}.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Made where it is missing.")
    ],
    config: Config = "16x8",
    mhz: Annotated[int, typer.Option("--mhz", metavar="N", help="The accelerator's clock.")] = 50,
    json: JsonPath = None,
) -> None:
    """Write an IP core for a board with a Zynq, and the script with which Vivado builds it."""
    if board not in BOARDS:
        raise ValueError(f"unknown board {board!r}: must be one of {', '.join(BOARDS)}")
    accelerator = AcceleratorConfig.find(config)
    from coprune.zynq import write_project

    script = write_project(BOARDS[board], accelerator, output, mhz=mhz)
    tables.show(f"{script}: {accelerator.name} at {mhz} MHz for {board}; to build it:")
    tables.show(f"vivado -mode batch -source {script}")
    tables.write_json(json, {"board": board, "mhz": mhz, "script": str(script)})


@app.command()
def info(file: ProgramPath, json: JsonPath = None) -> None:
    """Show a program's manifest, layers and compression."""
    program = coprune.load(file)
    if not isinstance(program, Program):
        _show_stages(program, f"{program.network} for {program.config.name}", json=json)
        return
    described = tables.describe_program(program)
    lines = {name: described[name] for name in ("network", "geometry_hash", "instructions")}
    for name, value in described["geometry"].items():
        lines[f"geometry {name}"] = value
    for name in ("input", "output"):
        tensor = described[name]
        shape = " x ".join(str(tensor[axis]) for axis in ("channels", "height", "width"))
        lines[name] = f"{shape}, scale {tensor['scale']:.6g}, zero point {tensor['zero']}"
    lines["image"] = f"{described['image_bytes']:,} bytes, input and output included"
    lines["compression"] = _compression(described)
    for name, value in lines.items():
        tables.show(f"{name:>27}: {value}")
    tables.write_json(json, described)


def _show_stages(program: HybridProgram, title: str, *, json: Path | None) -> None:
    """What `compile` and `info` say of a network that runs partly on the host."""
    from coprune.cli import stages

    described = stages.describe_program(program)
    tables.show(f"{title}, {len(program.stages)} stages, {_compression(described)}")
    for line in stages.summarize(program):
        tables.show(line)
    tables.write_json(json, described)


def _compression(described: dict) -> str:
    return (
        f"{described['float32_bytes']:,} bytes of float32 weights in "
        f"{described['weight_bytes']:,} bytes of slots and parameters: "
        f"{described['compression']:.2f}x"
    )
