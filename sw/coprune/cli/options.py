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
