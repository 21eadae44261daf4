"""Accuracy against cycles: ways to prune ResNet-20 for CIFAR-10, all fine-tuned alike.

Every run is ``recipes/resnet20_4x.toml`` with another way to prune, and resumes where it was
interrupted. Each is written to ``docs/pruning_accuracy.json`` when it is done; then the table is
printed and ``docs/pruning_accuracy.png`` drawn, as they are without any run by ``--draw``.
``--rtl`` runs the programs of the finished runs on the RTL, and adds the cycles that it counts.

Hours on one core. Several processes may share the runs: each takes one that no other has taken.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import coprune
from coprune import atomic_file
from coprune.recipe import read_recipe, run_recipe

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "resnet20_4x.toml"
RESULTS = ROOT / "docs" / "pruning_accuracy.json"
PICTURE = ROOT / "docs" / "pruning_accuracy.png"
CACHE = ROOT / ".cache" / "pruning_accuracy"
METHODS = {
    "budget": "budget of cycles",
    "uniform": "uniform N:16",
    "unstructured": "global magnitude",
    "channels": "whole channels",
}
WAYS = {
    **{f"budget {x}x": f"method='budget', speedup={x}.0" for x in (2, 4, 6)},
    **{f"uniform {n}:16": f"method='pattern', pattern='{n}:16'" for n in (8, 4, 2)},
    # As many weights as N:16 keeps of the same layers.
    **{f"unstructured {n}/16": f"method='weights', sparsity={1 - n / 16}" for n in (8, 4, 2)},
    # Parts of the channels that go, near the cycles of 8:16, 4:16 and 2:16.
    **{f"channels {ratio}": f"method='structure', ratio={ratio}" for ratio in (0.4, 0.6, 0.7)},
    "lanes 2:8": "method='pattern', pattern='2:8'",
}
"""By a name that begins with the method: ``[prune]`` of the recipe, but for its schedule."""
ACCELERATORS = {"lanes 2:8": "8x16"}
"""Instead of the recipe's: half as many multipliers, so not in the picture."""
PRUNING_TIME = 0.3
"""Part of the epochs in which masks become sparser."""


@dataclass(frozen=True)
class Run:
    """One network to train."""

    way: str
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """Such as ``budget 4x, 30 epochs, seed 0``."""
        return f"{self.way}, {self.epochs} epochs, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return CACHE / self.name.replace(" ", "_").replace(",", "").replace("/", "of")


def main() -> None:
    """Train what is missing, and show all results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", default=list(WAYS), help="by default all")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", type=Path, help="folder cifar-10-batches-py")
    parser.add_argument("--draw", action="store_true", help="train nothing")
    parser.add_argument("--rtl", action="store_true", help="count cycles on the RTL; train nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.ways) - set(WAYS):
        parser.error(f"ways must be among {', '.join(WAYS)}, not {sorted(unknown)}")
    if arguments.rtl:
        measure_rtl()
    elif not arguments.draw:
        torch.set_num_threads(1)
        for seed in arguments.seeds:
            for way in arguments.ways:
                train(Run(way, arguments.epochs, seed), data=arguments.data)
    results = read_results()
    print_table(results.values())
    draw(results.values(), epochs=arguments.epochs)


def train(run: Run, *, data: Path | None) -> None:
    """Train a network and add it to the results, unless it is there or another process has it."""
    atomic_file.make_folder(run.folder)
    claim = run.folder / "process"
    if run.name in read_results() or is_alive(claim):
        return
    atomic_file.write(claim, str(os.getpid()))
    schedule = f"{{kind='gradual', epochs={PRUNING_TIME * run.epochs}, initial=0.5}}"
    if run.way.startswith("channels"):
        schedule = "{kind='one_shot'}"
    assignments = [
        f"name='{run.name}'",
        f"seed={run.seed}",
        f"train.epochs={run.epochs}",
        f"prune={{{WAYS[run.way]}, schedule={schedule}}}",
    ]
    if run.way in ACCELERATORS:
        assignments.append(f"accelerator='{ACCELERATORS[run.way]}'")
    recipe = read_recipe(RECIPE, assignments=assignments)
    print(run.name, flush=True)
    metrics = run_recipe(
        recipe,
        folder=run.folder,
        data_folder=data,
        teacher_cache=CACHE / "teacher",
        show_progress=os.isatty(2),
    )
    keep(run.name, {"way": run.way, "epochs": run.epochs, **metrics, "seed": run.seed})


def measure_rtl() -> None:
    """Add the RTL's cycles to the results whose programs are in the cache."""
    for name, result in read_results().items():
        run = Run(result["way"], result["epochs"], result["seed"])
        program = run.folder / "network.coprune"
        if "rtl_cycles" in result or not program.exists():
            continue
        _, cycles = coprune.load(program).measure_cycles()
        print(
            f"{name}: {cycles:,} cycles on the RTL, {result['cycles']:,} by the model", flush=True
        )
        keep(name, {**result, "rtl_cycles": cycles})


def keep(name: str, result: dict) -> None:
    """Add a result, or put it in the place of the one of that name."""
    # Another process may have written meanwhile.
    results = {**read_results(), name: result}
    atomic_file.write(RESULTS, json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def read_results() -> dict[str, dict]:
    """Finished runs by name."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def is_alive(claim: Path) -> bool:
    """Whether the process that wrote its number there still runs."""
    try:
        os.kill(int(claim.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def print_table(results: Iterable[dict]) -> None:
    """Print accuracies and cycles; means over seeds where there are several."""
    print("| way | epochs | seeds | accuracy, float | int8 | cycles | on the RTL | speed-up |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    groups: dict[tuple[str, int], list[dict]] = {}
    for result in results:
        groups.setdefault((result["way"], result["epochs"]), []).append(result)
    order = list(WAYS)
    for (way, epochs), runs in sorted(
        groups.items(), key=lambda g: (g[0][1], order.index(g[0][0]))
    ):
        floats, integers, cycles, speedups = (
            [run[name] for run in runs]
            for name in ("float_accuracy", "int8_accuracy", "cycles", "speedup")
        )
        counted = [run["rtl_cycles"] for run in runs if "rtl_cycles" in run]
        on_rtl = f"{round(statistics.mean(counted)):,}" if len(counted) == len(runs) else ""
        print(
            f"| {way} | {epochs} | {len(runs)} | {spread(floats)} | {spread(integers)} "
            f"| {round(statistics.mean(cycles)):,} | {on_rtl} | {statistics.mean(speedups):.2f} |"
        )


def spread(accuracies: list[float]) -> str:
    """The mean in percent, and the smallest and largest where there are several."""
    mean = f"{statistics.mean(accuracies):.2%}"
    if len(accuracies) == 1:
        return mean
    return f"{mean} ({min(accuracies):.2%} to {max(accuracies):.2%})"


def draw(results: Iterable[dict], *, epochs: int) -> None:
    """Draw accuracy against cycles, a curve for each method, of the runs of that many epochs."""
    figure = Figure(figsize=(7, 4.5), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    of_length = [result for result in results if result["epochs"] == epochs]
    for method, label in METHODS.items():
        points: dict[str, list[dict]] = {}
        for result in of_length:
            if result["way"].split()[0] == method:
                points.setdefault(result["way"], []).append(result)
        if not points:
            continue
        cycles, accuracies = zip(
            *sorted(
                (
                    statistics.mean(run["cycles"] for run in runs),
                    100 * statistics.mean(run["int8_accuracy"] for run in runs),
                )
                for runs in points.values()
            ),
            strict=True,
        )
        axes.plot(cycles, accuracies, marker="o", label=label)
    axes.set_xlabel("cycles of an image, 16 x 16 multipliers")
    axes.set_ylabel("int8 accuracy, % of 10,000 test images")
    axes.set_title(f"ResNet-20, CIFAR-10, {epochs} epochs of fine-tuning", fontsize=10)
    axes.set_xscale("log")
    ticks = (20_000, 30_000, 40_000, 60_000, 80_000, 100_000)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    part = PICTURE.with_name(f"{PICTURE.stem}.part.png")
    canvas.print_png(part)
    os.replace(part, PICTURE)


if __name__ == "__main__":
    main()
