"""A picture of a training's log."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from coprune import atomic_file


def plot_log(history: Sequence[dict], *, path: Path) -> None:
    """Write an SVG of loss and accuracies after each epoch, and of the weights that are kept."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasSVG(figure)
    losses, accuracies = figure.subplots(2, 1, sharex=True)
    epochs = [line["epoch"] for line in history]
    losses.plot(epochs, [line["loss"] for line in history], marker=".", label="loss")
    losses.set_ylabel("loss")
    shown = {
        "train_accuracy": "training images, augmented",
        "validation_accuracy": "validation images",
        "kept": "weights kept",
    }
    for name, label in shown.items():
        if name in history[0]:
            percent = [100 * line[name] for line in history]
            accuracies.plot(epochs, percent, marker=".", label=label)
    accuracies.set_xlabel("epoch")
    accuracies.set_ylabel("%")
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
    accuracies.legend()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    atomic_file.write(path, buffer.getvalue())
