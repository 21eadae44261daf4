"""The command that searches accelerator and pruning together."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coprune import atomic_file
from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import CalibrationFile, JsonPath, Model, WeightsFile
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cycle_model import MemoryModel
from coprune_sim.resources import DEVICES

# optuna and distributed, which they import, are optional.
if TYPE_CHECKING:
    from coprune.explore import Evaluator, Exploration, SearchSpace, Trial

NEEDED = ("optuna", "distributed")


@app.command()
def explore(
    model: Model,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Where study.journal and front.png go; a study that is there goes on.",
        ),
    ],
    weights: WeightsFile = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Of the study, those that it has already included.")
    ] = 200,
    space: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation)
        typer.Option(
            "--space", metavar="FILE", help="TOML: fields of AcceleratorConfig, and speedup."
        ),
    ] = None,
    choose: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=VALUE,...", help="Values of one parameter, such as lanes=8,16."),
    ] = None,
    objective: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="cycles, milliseconds, kept_importance, agreement, accuracy, luts, flip_flops, "
            "multipliers, block_rams or device_share; two or more. Else time, importance, and the "
            "share of the device or LUTs and block RAMs.",
        ),
    ] = None,
    mhz: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--mhz", min=0.001, help="Clock, for milliseconds."),
    ] = None,
    device: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help=f"What the accelerator must fit: {', '.join(DEVICES)}."),
    ] = None,
    latency: Annotated[int, typer.Option(min=0, help="Cycles of the memory.")] = 20,
    calibration: CalibrationFile = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 2,
    scheduler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ADDRESS", help="Of a running dask scheduler, tcp://HOST:PORT."),
    ] = None,
    storage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="URL", help="A data base for the study, as sqlite:///FILE; else a file."
        ),
    ] = None,
    sampler: Annotated[str, typer.Option(help="nsga2, tpe or random.")] = "nsga2",
    population: Annotated[
        int, typer.Option(min=2, help="Candidates that are chosen at once.")
    ] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    picture: Annotated[str, typer.Option(help="Name of the picture, .png or .svg.")] = "front.png",
    json: JsonPath = None,
) -> None:
    """Search accelerator and pruning together: the Pareto front of time, quality and resources."""
    _check_installed()
    from coprune.explore import SearchSpace, Setup
    from coprune.explore import explore as run_exploration
    from coprune.explore.picture import check_picture, draw_front
    from coprune.explore.space import parse_choice

    objectives = objective or _default_objectives(mhz=mhz, device=device)
    setup = Setup(objectives, sampler=sampler, population=population, seed=seed)
    given = None if space is None else SearchSpace.from_toml(space)
    choices = dict(map(parse_choice, choose or []))
    # What is wrong with them should be said before the work.
    (given or SearchSpace({})).with_choices(**choices)
    if device is not None and device not in DEVICES:
        raise ValueError(f"--device must be one of {', '.join(DEVICES)}, not {device!r}")
    atomic_file.make_folder(output)
    check_picture(output / picture)
    with tables.progress_console.status("quantizing the network"):
        evaluator = _prepare(
            model,
            weights=weights,
            calibration=calibration,
            images=any(name in ("agreement", "accuracy") for name in objectives),
            labels="accuracy" in objectives,
            accumulator_bits=_fewest_accumulator_bits(given, choices),
            mhz=mhz,
            latency=latency,
            device=device,
        )
    search_space = (given or SearchSpace.default(evaluator.graph)).with_choices(**choices)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    counts: Counter[str] = Counter()
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=tables.progress_console,
        transient=True,
        disable=not tables.progress_console.is_terminal,
    ) as progress:
        task = progress.add_task("trials", total=trials)

        def start(done: int, processes: dict[str, int]) -> None:
            listed = ", ".join(map(str, processes.values()))
            begun = f"{done} trials are there; " if done else ""
            tables.show(f"{begun}workers: processes {listed}")
            progress.update(task, completed=done)

        def advance(trial: Trial) -> None:
            counts[trial.state.value] += 1
            if trial.state.value != "failed":
                progress.advance(task)

        exploration = run_exploration(
            evaluator,
            search_space,
            trials=trials,
            storage=storage or output / "study.journal",
            name=model,
            setup=setup,
            workers=workers,
            scheduler=scheduler,
            on_start=start,
            on_trial=advance,
        )
    _show(exploration, model, size=search_space.size)
    tables.write_json(json, exploration.to_dict())
    if exploration.front:
        draw_front(
            exploration,
            output / picture,
            title=f"{model}: {len(exploration.front)} of "
            f"{len(exploration.feasible)} candidates are not dominated",
        )
        tables.show(f"{output / picture}: the front, and what it dominates")


def _default_objectives(*, mhz: float | None, device: str | None) -> list[str]:
    time = "cycles" if mhz is None else "milliseconds"
    area = ["luts", "block_rams"] if device is None else ["device_share"]
    return [time, "kept_importance", *area]


def _check_installed() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"explore needs {' and '.join(missing)}: pip install 'coprune[explore]'")


def _fewest_accumulator_bits(given: SearchSpace | None, choices: dict[str, tuple]) -> int:
    """The network is quantized once, for all accelerators of the space."""
    choices = {**({} if given is None else given.choices), **choices}
    return min(choices.get("accumulator_bits", (AcceleratorConfig().accumulator_bits,)))


def _prepare(
    model: str,
    *,
    weights: Path | None,
    calibration: Path | None,
    images: bool,
    labels: bool,
    accumulator_bits: int,
    mhz: float | None,
    latency: int,
    device: str | None,
) -> Evaluator:
    """Quantize the network, and the images that its answers are compared on."""
    import torch

    from coprune.cli.images import find_calibration, find_calibration_labels
    from coprune.cli.network import explain_export, find_network, input_shape
    from coprune.explore import Evaluator
    from coprune.quantize import quantize
    from coprune_hw.contract import arithmetic

    network = find_network(model, weights=weights)
    batches = find_calibration(calibration, shape=input_shape(network))
    with explain_export(calibration):
        graph = quantize(network, batches, accumulator_bits=accumulator_bits)
    pixels = None
    if images:
        pixels = arithmetic.quantize(
            torch.cat(batches), scale=graph.input.scale, zero=graph.input.zero
        )
        pixels = pixels.to(torch.int8).numpy()
    return Evaluator(
        graph,
        mhz=mhz,
        memory=MemoryModel(latency, latency),
        device=None if device is None else DEVICES[device],
        images=pixels,
        labels=find_calibration_labels(calibration, shape=graph.input.shape) if labels else None,
    )


def _show(exploration: Exploration, model: str, *, size: int) -> None:
    named = {each.name for each in exploration.objectives}
    headings = ["accelerator", " activations", " slots", " parameters", " bus", " speedup", " N"]
    headings += [" cycles", *([" ms"] if "milliseconds" in named else []), " importance"]
    shares = [name for name in ("agreement", "accuracy") if name in named]
    headings += [*(f" {name}" for name in shares), " LUTs", " multipliers", " block RAMs"]
    headings += [*([" device"] if "device_share" in named else []), " trial"]
    rows = []
    for trial in exploration.front:
        values, evaluation = trial.values, trial.evaluation
        kept = evaluation.kept.values()
        row = [f"{values.get('lanes', 16)}x{values.get('columns', 16)}"]
        for name in ("activation_depth", "slot_depth", "parameter_depth", "bus_bits", "speedup"):
            row.append(f"{values[name]:,g}" if name in values else "")
        row += [f"{min(kept):.1f}-{max(kept):.1f}" if kept else "", f"{evaluation.cycles:,}"]
        if "milliseconds" in named:
            row.append(f"{evaluation.milliseconds:.3f}")
        row.append(f"{evaluation.kept_importance:.3f}")
        row += [f"{getattr(evaluation, name):.1%}" for name in shares]
        resources = evaluation.resources
        row += [f"{resources.luts:,}", str(resources.multipliers), str(resources.block_rams)]
        if "device_share" in named:
            row.append(f"{evaluation.device_share:.0%}")
        rows.append([*row, str(trial.number)])
    tables.show_table(
        f"{model}: not dominated in {', '.join(each.label for each in exploration.objectives)}",
        headings=headings,
        rows=rows,
    )
    states = Counter(trial.state.value for trial in exploration.trials)
    evaluated = Counter(trial.worker for trial in exploration.trials if trial.worker)
    tables.show(
        f"{len(exploration.trials)} trials in a space of {size:,}: "
        + ", ".join(f"{count} {state}" for state, count in states.items())
        + f"; {evaluated.total()} evaluated, the others had the values of an earlier one"
    )
    for worker, count in evaluated.items():
        tables.show(f"{count:>6} by {worker}")
    for reason, count in _group(exploration.reasons()).most_common(5):
        tables.show(f"{count:>6} infeasible: {reason}")


def _group(reasons: Counter[str]) -> Counter[str]:
    """Reasons that differ in numbers only are one: the first stands for them."""
    first: dict[str, str] = {}
    grouped: Counter[str] = Counter()
    for reason, count in reasons.items():
        grouped[first.setdefault(re.sub(r"\d[\d,]*", "#", reason), reason)] += count
    return grouped
