"""The commands: each parses its arguments, calls the library once and shows the result."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Optional

import click
import numpy as np
import torch
import typer

import coprune
from coprune import zoo
from coprune.cli import network as find
from coprune.cli import tables
from coprune.cli.tables import console
from coprune_hw.contract import AcceleratorConfig

app = typer.Typer(
    name="coprune",
    help="Prune, quantize, compile and verify networks for a sparse INT8 FPGA accelerator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PRESETS = ", ".join(AcceleratorConfig.preset_names())

ProgramPath = Annotated[Path, typer.Argument(metavar="FILE", help="A program file.")]
JsonPath = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation)
    typer.Option("--json", metavar="FILE", help="Write the result as JSON."),
]
Config = Annotated[
    str,
    typer.Option("--config", metavar="PRESET|FILE", help=f"{PRESETS}, or a TOML file."),
]
DataFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--data", metavar="DIR", help="cifar-10-batches-py; else a sample of 500."),
]


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("-o", "--output", help="Where Verilog, programs and plot go.")
    ] = Path("build/demo"),
    json: JsonPath = None,
) -> None:
    """Run the whole path on the 4:16 ResNet-20 that comes along: compile, simulate, run the RTL."""
    from coprune.demo import run_demo

    tables.write_json(json, run_demo(folder))


@app.command("compile")
def compile_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"{', '.join(zoo.names())}; package.module:function; or a .pt2 archive.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE")],
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="A state dict for the network."),
    ] = None,
    config: Config = "16x16",
    dense: Annotated[
        bool, typer.Option("--dense", help="Keep zero weights, as dense hardware would.")
    ] = False,
    calibration: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help=".npy, float32 [N, C, H, W]; else CIFAR-10 images."),
    ] = None,
    observer: Annotated[str, typer.Option(help="mse, percentile or minmax.")] = "mse",
    json: JsonPath = None,
) -> None:
    """Quantize a network and compile it to a program file."""
    accelerator = find.find_config(config)
    program = coprune.compile(
        find.find_network(model, weights=weights),
        accelerator,
        calibration=find.find_calibration(calibration),
        observer=observer,
        skip_zeros=not dense,
        network=model,
    )
    program.save(output)
    described = tables.describe_program(program)
    console.print(
        f"{output}: {model} for {accelerator.name}, {described['instructions']} instructions, "
        f"{described['image_bytes']:,} bytes, {described['compression']:.1f}x less than float32",
        highlight=False,
        soft_wrap=True,
    )
    tables.write_json(json, described)


@app.command()
def simulate(
    file: ProgramPath,
    images: Annotated[int, typer.Option(help="Test images.")] = 500,
    data: DataFolder = None,
    json: JsonPath = None,
) -> None:
    """Run test images in software, bit-exact: accuracy and images per second."""
    program = coprune.load(file)
    inputs, labels, origin = find.find_test_images(images, folder=data)
    begin = time.perf_counter()
    outputs = program.simulate(inputs, integer=True)
    seconds = time.perf_counter() - begin
    accuracy = float(np.mean(outputs.argmax(axis=1) == labels))
    result = {
        "images": images,
        "accuracy": accuracy,
        "images_per_second": images / seconds,
        "data": origin,
        "threads": torch.get_num_threads(),
    }
    console.print(
        f"accuracy {accuracy:.2%} on {images} test images ({origin}), "
        f"{result['images_per_second']:.0f} images/s on {result['threads']} threads",
        highlight=False,
        soft_wrap=True,
    )
    tables.write_json(json, result)


@app.command()
def cosim(
    file: ProgramPath,
    images: Annotated[int, typer.Option(help="Test images.")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Print every layer.")] = False,
    memory: Annotated[
        str, typer.Option(help="internal: a model in the simulation; cocotbext: its RAM.")
    ] = "internal",
    latency: Annotated[int, typer.Option(help="Cycles of the internal memory.")] = 20,
    stalls: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="SEED", help="Pause every AXI channel at random."),
    ] = None,
    data: DataFolder = None,
    json: JsonPath = None,
) -> None:
    """Run the RTL: is every layer equal, and how many cycles does it take?"""
    program = coprune.load(file)
    inputs, _, _ = find.find_test_images(images, folder=data)
    result = program.cosim(inputs, memory=memory, latency_cycles=latency, stall_seed=stalls)
    total = result.total
    if layers:
        tables.print_layers(
            f"{program.network} on {program.config.name}, measured by the RTL's counters",
            result.layers,
            total,
            multipliers=program.config.multipliers,
        )
    console.print(
        f"{'equal' if result.equal else '[red]NOT EQUAL[/red]'}: {len(result.layers)} layers of "
        f"{images} image(s) in integer reference, instruction simulator and RTL; "
        f"{total.cycles:,} cycles from start to interrupt (floor {total.floor_cycles:,}, "
        f"use {total.multiplier_use:.1%}); {result.cycles_per_second:,.0f} cycles/s",
        highlight=False,
        soft_wrap=True,
    )
    tables.write_json(json, {"images": images, **tables.describe_result(result)})
    if not result.equal:
        raise typer.Exit(1)


@app.command()
def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")],
    config: Config = "16x16",
    json: JsonPath = None,
) -> None:
    """Write the accelerator as Verilog, and list its ports."""
    from coprune.verilog import write_verilog

    result = write_verilog(find.find_config(config), output)
    table = tables.Table(title=result["file"])
    for heading in ("port", "direction", "bits"):
        table.add_column(heading, justify="right" if heading == "bits" else "left")
    for port in result["ports"]:
        table.add_row(port["name"], port["direction"], str(port["bits"]))
    console.print(table)
    tables.write_json(json, result)


@app.command()
def info(file: ProgramPath, json: JsonPath = None) -> None:
    """Show a program's manifest, layers and compression."""
    program = coprune.load(file)
    described = tables.describe_program(program)
    for name in ("network", "geometry_hash", "instructions", "image_bytes", "weights"):
        console.print(f"{name:>16}: {described[name]}", highlight=False)
    console.print(f"{'geometry':>16}: {program.config}", highlight=False, soft_wrap=True)
    for name in ("input", "output"):
        tensor = described[name]
        console.print(
            f"{name:>16}: {tensor['channels']} x {tensor['height']} x {tensor['width']}, "
            f"scale {tensor['scale']:.6g}, zero point {tensor['zero']}",
            highlight=False,
        )
    console.print(f"{'compression':>16}: {described['compression']:.2f}x", highlight=False)
    counted = program.cycles()
    tables.print_layers(
        "cycles counted from the program",
        counted.layers,
        counted.total,
        multipliers=program.config.multipliers,
    )
    tables.write_json(json, described)


def main() -> None:
    """Run the command line: exit code 0, or 1 with one line that says what is wrong."""
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message())
    except click.exceptions.Abort:
        _fail("interrupted")
    except KeyboardInterrupt:
        _fail("interrupted")
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        _fail(" ".join(str(error).split()))
    sys.exit(code or 0)


def _fail(message: str) -> None:
    print(f"coprune: {message}", file=sys.stderr)
    sys.exit(1)
