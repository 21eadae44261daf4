"""Commands that make something: a program file, Verilog; and `info`, which says what is in one."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Annotated, Optional

import typer

import coprune
from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import Config, JsonPath, ProgramPath, check_writable
from coprune_hw.contract import AcceleratorConfig


@app.command("compile")
def compile_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="resnet20, resnet20-dense, resnet32, resnet44, resnet56, resnet8, resnet18, "
            "mobilenetv1, mobilenetv2, ds-cnn, autoencoder, lenet5 or squeezenet, perhaps with "
            "parameters (mobilenetv1,width=0.5); package.module:function; a .pt2 archive; or an "
            ".onnx file.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The program file.", callback=check_writable
        ),
    ],
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="A state dict or public checkpoint for the network."),
    ] = None,
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
    calibration: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help=".npy, float32 [N, C, H, W]; else images that fit."),
    ] = None,
    observer: Annotated[str, typer.Option(help="mse, percentile or minmax.")] = "mse",
    json: JsonPath = None,
) -> None:
    """Quantize a network and compile it to a program file."""
    accelerator = AcceleratorConfig.find(config)
    from coprune.cli.images import find_calibration
    from coprune.cli.network import find_network, input_shape

    network = find_network(model, weights=weights)
    images = find_calibration(calibration, shape=input_shape(network))
    try:
        # Where an export fails, PyTorch prints graphs there.
        with contextlib.redirect_stderr(io.StringIO()):
            program = coprune.compile(
                network,
                accelerator,
                calibration=images,
                observer=observer,
                skip_zeros=not dense,
                channel_order=channel_order,
                int32_output=int32_output,
                network=model,
            )
    except RuntimeError as error:
        if calibration is None:
            hint = "without --calibration, the network is given images of 3 x 32 x 32"
            raise RuntimeError(f"{error}; {hint}") from error
        raise
    program.save(output)
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
def info(file: ProgramPath, json: JsonPath = None) -> None:
    """Show a program's manifest, layers and compression."""
    program = coprune.load(file)
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


def _compression(described: dict) -> str:
    return (
        f"{described['float32_bytes']:,} bytes of float32 weights in "
        f"{described['weight_bytes']:,} bytes of slots and parameters: "
        f"{described['compression']:.2f}x"
    )
