"""Commands that train: `finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import JsonPath


@app.command()
def finetune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file, .toml.")],
    folder: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation)
        typer.Option(
            metavar="DIR", help="Weights, program, metrics, checkpoints; else build/RECIPE."
        ),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="cifar-10-batches-py or the IDX files of Fashion-MNIST."),
    ] = None,
    epochs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="Short for --set train.epochs=N."),
    ] = None,
    assignments: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="Another value than the recipe's."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Of each process.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    teacher_cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="DIR", help="Keep what the teacher says for runs that see the same images."
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, metavar="M", help="Between checkpoints within an epoch.")
    ] = 5.0,
    json: JsonPath = None,
) -> None:
    """Prune, train and quantize a network as a recipe says; goes on after an interruption."""
    import torch

    from coprune.recipe import read_recipe, run_recipe

    torch.set_num_threads(threads)
    changes = list(assignments or [])
    if epochs is not None:
        changes.append(f"train.epochs={epochs}")
    described = read_recipe(recipe, assignments=changes)
    folder = Path("build") / described.name if folder is None else folder
    metrics = run_recipe(
        described,
        folder=folder,
        data_folder=data,
        teacher_cache=teacher_cache,
        checkpoint_minutes=checkpoint_minutes,
        device=device,
    )
    if not metrics:
        return
    speedup = "which does not hold the dense network"
    if metrics["speedup"] is not None:
        speedup = f"{metrics['speedup']:.2f} times as fast as dense"
    tables.show(
        f"{folder}: {described.name}, {metrics['float_accuracy']:.2%} in float and "
        f"{metrics['int8_accuracy']:.2%} in int8 of {metrics['test_images']:,} test images, "
        f"{metrics['cycles']:,} cycles on {metrics['accelerator']}, {speedup}"
    )
    tables.write_json(json, metrics)
