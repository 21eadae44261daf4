"""Commands that prune without training, and show what cycles and accuracy say of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import numpy as np
import typer

from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import Config, JsonPath, Model, WeightsFile, check_writable
from coprune_hw.contract import AcceleratorConfig

if TYPE_CHECKING:
    from coprune.data import DataSet
    from coprune.prune import HardwarePruner

LatencyMs = Annotated[
    Optional[float],  # noqa: UP045 (typer reads the annotation)
    typer.Option(metavar="MS", help="Budget in milliseconds, at a clock of --mhz."),
]
Importance = Annotated[
    str,
    typer.Option(help="energy, magnitude, lamp, variance, taylor, fisher, wanda or batch_norm."),
]
LabelledData = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--data",
        metavar="PATH",
        help="cifar-10-batches-py, Fashion-MNIST, or an .npz of images and labels; else a sample.",
    ),
]
Skip = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(metavar="LAYER", help="A layer to leave dense; may be repeated."),
]


@app.command()
def prune(
    model: Model,
    cycles: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="Budget in cycles."),
    ] = None,
    speedup: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="X", help="Budget: dense cycles per X."),
    ] = None,
    latency_ms: LatencyMs = None,
    mhz: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="MHZ", help="The clock of --latency-ms."),
    ] = None,
    config: Config = "16x16",
    importance: Importance = "energy",
    granularity: Annotated[
        str, typer.Option(help="layer: one N of N:M in each; block: one in each block of one.")
    ] = "block",
    skip: Skip = None,
    weights: WeightsFile = None,
    data: LabelledData = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The pruned state dict, .pt.",
            callback=check_writable,
        ),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Prune a network to a budget of cycles, at once and without training."""
    from coprune.train import save_state_dict

    pruner, _, _ = _make_pruner(model, weights=weights, config=config, data=data)
    before = pruner.count_cycles()
    with tables.progress_console.status("solving the knapsack"):
        result = pruner.prune_to_budget(
            cycles=cycles,
            speedup=speedup,
            latency_ms=latency_ms,
            mhz=mhz,
            importance=importance,
            granularity=granularity,
            skip=skip or [],
        )
    if output is not None:
        save_state_dict(pruner.model, path=output)
    patterns = {layer.name: [] for layer in result.table.layers}
    for name, pattern in result.pattern.items():
        patterns[pruner.layer_of(name)].append(str(pattern))
    tables.show_table(
        f"{model} on {config}: {result.predicted_cycles:,} of {result.dense_cycles:,} cycles, "
        f"{result.speedup:.2f} times as fast; {result.kept_importance:.1%} of the importance kept",
        headings=["layer", " kept", " cycles before", " after"],
        rows=[
            *(
                [
                    layer.name,
                    " and ".join(patterns[layer.name]) or "all",
                    f"{dense.cycles:,}",
                    f"{layer.cycles:,}",
                ]
                for layer, dense in zip(result.table.layers, before.layers, strict=True)
            ),
            [],
            ["total", "", f"{before.total.cycles:,}", f"{result.predicted_cycles:,}"],
        ],
    )
    tables.write_json(
        json,
        {
            "network": model,
            "budget": result.budget,
            "predicted_cycles": result.predicted_cycles,
            "dense_cycles": result.dense_cycles,
            "kept_importance": result.kept_importance,
            "layers": {
                name: {"pattern": str(pattern), "kept": pattern.kept.tolist()}
                for name, pattern in result.pattern.items()
            },
        },
    )


@app.command()
def sensitivity(
    model: Model,
    ns: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option("--n", metavar="N", help="Of N:M; may be repeated. Else powers of two."),
    ] = None,
    images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", min=1, help="How many images; else all that there are."),
    ] = None,
    config: Config = "16x16",
    importance: Importance = "magnitude",
    skip: Skip = None,
    weights: WeightsFile = None,
    data: LabelledData = None,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="The picture, .svg or .png.", callback=check_writable),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Prune one layer at a time: what accuracy and loss it costs, and what cycles it saves."""
    import torch
    from rich.progress import Progress

    from coprune.prune.sensitivity_plot import plot_sensitivity

    pruner, found, origin = _make_pruner(model, weights=weights, config=config, data=data)
    count = len(found.test) if images is None else images
    if count > len(found.test):
        raise ValueError(f"--images must be at most {len(found.test)}, not {count}")
    with Progress(console=tables.progress_console, transient=True) as progress:
        task = progress.add_task("pruning layers", total=None)
        measured = pruner.measure_sensitivity(
            found.normalize(torch.as_tensor(found.test.images[:count])),
            torch.as_tensor(found.test.labels[:count]).long(),
            ns=ns,
            importance=importance,
            skip=skip or [],
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )
    if plot is not None:
        plot_sensitivity(measured, path=plot)
    columns = [f"{n}:{measured.lanes}" for n in measured.ns]
    tables.show_table(
        f"{model}, {count:,} images ({origin}): accuracy, and 1,000 cycles saved, with one layer "
        f"pruned; dense {measured.dense_accuracy:.2%}, {measured.dense_cycles:,} cycles",
        headings=[
            "layer",
            *(f" {column}" for column in columns),
            *(f" {column} saves" for column in columns),
        ],
        rows=[
            [
                name,
                *(f"{value:.2%}" for value in measured.accuracy[row]),
                *(
                    f"{(measured.dense_cycles - value) / 1000:.1f}"
                    for value in measured.cycles[row]
                ),
            ]
            for row, name in enumerate(measured.layers)
        ],
    )
    tables.write_json(
        json,
        {
            "network": model,
            "data": origin,
            **{
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in vars(measured).items()
            },
        },
    )


def _make_pruner(
    model: str, *, weights: Path | None, config: str, data: Path | None
) -> tuple[HardwarePruner, DataSet, str]:
    """A pruner of the network that is named, images to test it with, and their origin."""
    accelerator = AcceleratorConfig.find(config)
    from torch import nn

    from coprune.cli.images import CIFAR10_SHAPE, find_data_set
    from coprune.cli.network import find_network, input_shape
    from coprune.prune import HardwarePruner

    network = find_network(model, weights=weights)
    if not isinstance(network, nn.Module):
        raise ValueError(f"MODEL must be a zoo network or package.module:function, not {model!r}")
    found, origin = find_data_set(input_shape(network) or CIFAR10_SHAPE, path=data)
    calibration = found.labelled_calibration_batches()
    return HardwarePruner(network, accelerator, calibration=calibration), found, origin
