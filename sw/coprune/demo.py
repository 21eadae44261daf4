"""The demo: ResNet-20 for CIFAR-10, dense and pruned to 4:16, from PyTorch to measured cycles."""

from __future__ import annotations

import io
import json
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import nn

import coprune
from coprune import atomic_file, zoo
from coprune.cli import tables
from coprune.data import cifar10
from coprune.program import CosimResult, Program
from coprune.report import Subject, write_report
from coprune.verilog import write_verilog
from coprune_sim.chrome_trace import chrome_trace

PRESET = "16x16"


def run_demo(folder: Path) -> dict:
    """Compile, simulate and co-simulate both networks; write programs, Verilog, plot and report.

    Parameters
    ----------
    folder : Path
        Made where it is missing.

    Returns
    -------
    dict
        Everything that it prints.
    """
    atomic_file.make_folder(folder)
    accelerator = coprune.AcceleratorConfig.preset(PRESET)
    sample = cifar10.load_sample()
    calibration = list(cifar10.normalize(sample.calibration.images).split(64))
    images = cifar10.normalize(sample.test.images)
    written = write_verilog(accelerator, folder)
    tables.show(f"Verilog of the {PRESET} accelerator: {written['file']}")

    programs, results, accuracies = {}, {}, {}
    for name in ("resnet20-dense", "resnet20"):
        model = zoo.build(name)
        with tables.progress_console.status(f"compiling {name}"):
            program = coprune.compile(model, accelerator, calibration=calibration, network=name)
        program.save(folder / f"{name}.coprune")
        programs[name] = program
        accuracies[name] = {
            "float": _accuracy(_run_float(model, images), sample.test.labels),
            "int8": _accuracy(program.simulate(images, integer=True), sample.test.labels),
        }
    for name, program in programs.items():
        with tables.progress_console.status(
            f"running {name} on the RTL (the first time builds the simulation)"
        ):
            results[name] = program.cosim(images[:1])
        tables.show(
            f"{name}: accuracy on {len(images)} test images float "
            f"{accuracies[name]['float']:.1%}, int8 {accuracies[name]['int8']:.1%}; RTL "
            f"{'equal bit for bit in every layer' if results[name].equal else 'NOT EQUAL'}, "
            f"{results[name].total.cycles:,} cycles"
        )
    dense, sparse = results["resnet20-dense"], results["resnet20"]
    _print_comparison(dense, sparse, programs["resnet20"])
    plot = folder / "cycles.png"
    atomic_file.write(plot, _plot(dense, sparse))
    tables.show(f"Plot: {plot}")
    report = folder / "report.html"
    write_report(_list_subjects(programs, results, folder), report)
    tables.show(f"Report: {report}")
    if not (dense.equal and sparse.equal):
        raise RuntimeError("the RTL differs from the integer reference")
    return {
        "accuracy": accuracies,
        "equal": True,
        "dense_cycles": dense.total.cycles,
        "sparse_cycles": sparse.total.cycles,
        "speed_up": dense.total.cycles / sparse.total.cycles,
        "plot": str(plot),
        "report": str(report),
        "verilog": written["file"],
    }


def _run_float(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in images.split(100)]).numpy()


def _accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(outputs.argmax(axis=1) == labels))


def _list_subjects(
    programs: dict[str, Program], results: dict[str, CosimResult], folder: Path
) -> list[Subject]:
    """What the report compares: the programs, with the timelines that were measured on the RTL."""
    subjects = []
    for name, program in programs.items():
        timeline = folder / f"{name}.timeline.json"
        trace = chrome_trace(results[name].timeline, program.machine)
        atomic_file.write(timeline, json.dumps(trace))
        subjects.append(Subject(program, f"{name}.coprune", timeline))
    return subjects


def _print_comparison(dense: CosimResult, sparse: CosimResult, program: Program) -> None:
    multipliers = program.config.multipliers
    rows = [
        (
            after.name,
            f"{after.macs:,}",
            f"{after.nonzero_macs:,}",
            f"{before.cycles:,}",
            f"{after.cycles:,}",
            f"{before.cycles / after.cycles:.2f}",
            f"{after.nonzero_macs / (multipliers * after.cycles):.0%}",
        )
        for before, after in zip(dense.layers, sparse.layers, strict=True)
    ]
    total = (
        "total",
        f"{sparse.total.macs:,}",
        f"{sparse.total.nonzero_macs:,}",
        f"{dense.total.cycles:,}",
        f"{sparse.total.cycles:,}",
        f"{dense.total.cycles / sparse.total.cycles:.2f}",
        f"{sparse.total.multiplier_use:.0%}",
    )
    tables.show_table(
        f"ResNet-20 on {PRESET}: cycles measured by the RTL's counters",
        headings=("layer", " MACs", " non-zero", " dense", " 4:16", " speed-up", " use"),
        rows=[*rows, (), total],
    )


def _plot(dense: CosimResult, sparse: CosimResult) -> bytes:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4.5), layout="constrained")
    positions = np.arange(len(dense.layers))
    for offset, result, label in ((-0.2, dense, "dense"), (0.2, sparse, "4:16")):
        cycles = [layer.cycles for layer in result.layers]
        axes.bar(positions + offset, cycles, 0.4, label=f"{label}: {result.total.cycles:,} cycles")
    axes.set_xticks(positions, [layer.name for layer in dense.layers], rotation=60, ha="right")
    axes.set_ylabel("cycles, measured on the RTL")
    axes.set_title(f"ResNet-20 on {PRESET}, start to interrupt")
    axes.margins(y=0.2)
    axes.legend(loc="upper right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    return buffer.getvalue()
