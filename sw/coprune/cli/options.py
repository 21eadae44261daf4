"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from coprune import atomic_file
from coprune_hw.contract import AcceleratorConfig

PRESETS = ", ".join(AcceleratorConfig.preset_names())


def check_writable(path: Path | None) -> Path | None:
    if path is not None:
        atomic_file.check(path)
    return path


ProgramPath = Annotated[Path, typer.Argument(metavar="FILE", help="A program file.")]
JsonPath = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation)
    typer.Option(
        "--json", metavar="FILE", help="Write the result as JSON.", callback=check_writable
    ),
]
Config = Annotated[
    str,
    typer.Option("--config", metavar="PRESET|FILE", help=f"{PRESETS}, or a TOML file."),
]
DataFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--data",
        metavar="DIR",
        help="Test images: cifar-10-batches-py or Fashion-MNIST; else a sample.",
    ),
]
InputFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--inputs", metavar="FILE", help="Images of your own: .npy, float32 [N, C, H, W]."
    ),
]
MODEL_HELP = (
    "resnet20, resnet20-dense, resnet32, resnet44, resnet56, resnet8, resnet18, mobilenetv1, "
    "mobilenetv2, mobilenetv2-cifar10, ds-cnn, autoencoder, lenet5 or squeezenet, perhaps with "
    "parameters (mobilenetv1,width=0.5); package.module:function; a .pt2 archive; or an .onnx file."
)
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
WeightsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--weights", metavar="FILE", help="A state dict or public checkpoint for the network."
    ),
]
CalibrationFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--calibration", metavar="FILE", help=".npy, float32 [N, C, H, W]; else images that fit."
    ),
]
Observer = Annotated[str, typer.Option("--observer", help="mse, percentile or minmax.")]
Equalize = Annotated[
    bool, typer.Option("--equalize", help="Give channels similar ranges before quantizing.")
]
CorrectBias = Annotated[
    bool, typer.Option("--correct-bias", help="Correct what rounding does to channels' means.")
]
WeightBits = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--weight-bits", metavar="N", help="Of weights, 2 to 8; else the hardware's."),
]
