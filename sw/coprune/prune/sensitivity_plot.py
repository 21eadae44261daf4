"""A picture of what pruning each layer alone costs and saves."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from coprune import atomic_file
from coprune.prune.sensitivity import Sensitivity


def plot_sensitivity(sensitivity: Sensitivity, *, path: Path) -> None:
    """Write a picture: accuracy by layer and N, above the cycles that are saved.

    Parameters
    ----------
    path
        Its ending says the format, such as ``.svg`` or ``.png``.

    Raises
    ------
    ValueError
        The format is not known.
    """
    layers = np.arange(len(sensitivity.layers))
    figure = Figure(figsize=(max(6, 1.5 + 0.45 * len(layers)), 6.5), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    kind = path.suffix.removeprefix(".")
    if kind not in canvas.get_supported_filetypes():
        raise ValueError(f"a picture must end in .svg or .png, not {path.name!r}")
    accuracy, saved = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    accuracy.axhline(100 * sensitivity.dense_accuracy, color="black", linewidth=1, label="dense")
    for column in reversed(range(len(sensitivity.ns))):
        label = f"{sensitivity.ns[column]}:{sensitivity.lanes}"
        accuracy.plot(layers, 100 * sensitivity.accuracy[:, column], marker="o", label=label)
        cycles = (sensitivity.dense_cycles - sensitivity.cycles[:, column]) / 1000
        saved.plot(layers, cycles, marker="o")
    accuracy.set_ylabel(f"accuracy, % of {sensitivity.images:,} images")
    accuracy.legend(title="one layer pruned to")
    saved.set_ylabel("1,000 cycles saved")
    saved.set_xticks(layers, sensitivity.layers, rotation=60, ha="right")
    for axes in (accuracy, saved):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    atomic_file.write(path, buffer.getvalue())
