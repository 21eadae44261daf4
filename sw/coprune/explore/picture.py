"""The Pareto front as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from coprune import atomic_file
from coprune.explore.exploration import Exploration
from coprune.explore.objectives import Objective

GREY = "#b0b0b0"
SUFFIXES = (".png", ".svg", ".pdf")


def draw_front(exploration: Exploration, path: Path, *, title: str) -> None:
    """Write a picture: every objective after the first against the first, one below the other.

    Grey points are dominated. Those of the front have the colour of the last objective, and the
    shape of their lanes. Its suffix says of what kind the picture is, such as ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        There is no feasible trial, or as `check_picture`.
    """
    # Without the global state of pyplot: this runs in any thread, with or without a display.
    from matplotlib.figure import Figure

    check_picture(path)
    front = exploration.front
    if not front:
        raise ValueError("there is nothing to draw: no candidate is feasible")
    first, *others = exploration.objectives
    colour = others[-1]
    upright = others[:-1] or others
    figure = Figure(figsize=(8, 1 + 3.2 * len(upright)), layout="constrained")
    axes = figure.subplots(len(upright), 1, sharex=True, squeeze=False)[:, 0]
    scores = np.array([exploration.scores(trial) for trial in exploration.feasible])
    front_scores = np.array([exploration.scores(trial) for trial in front])
    lanes = np.array([trial.values.get("lanes", 16) for trial in front])
    for axis, objective in zip(axes, upright, strict=True):
        column = exploration.objectives.index(objective)
        axis.scatter(scores[:, 0], scores[:, column], s=8, color=GREY, label="dominated")
        for marker, count in (("o", 16), ("^", 8)):
            chosen = lanes == count
            points = axis.scatter(
                front_scores[chosen, 0],
                front_scores[chosen, column],
                s=36,
                marker=marker,
                c=front_scores[chosen, -1],
                vmin=front_scores[:, -1].min(),
                vmax=front_scores[:, -1].max(),
                cmap="viridis",
                edgecolors="black",
                linewidths=0.5,
                label=f"front, {count} lanes",
            )
        axis.set_ylabel(_label(objective))
        axis.grid(alpha=0.3)
        if not objective.maximize and front_scores[:, column].min() > 0:
            axis.set_yscale("log")
    axes[0].set_xscale("log")
    axes[0].set_title(title)
    axes[0].legend(fontsize="small")
    axes[-1].set_xlabel(_label(first))
    figure.colorbar(points, ax=list(axes), label=_label(colour))
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:], dpi=110)
    atomic_file.write(path, image.getvalue())


def check_picture(path: Path) -> None:
    """Refuse a path whose suffix is of no picture, or that cannot be written.

    Raises
    ------
    ValueError, OSError
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a picture must end in {', '.join(SUFFIXES)}, not {path.name!r}")
    atomic_file.check(path)


def _label(objective: Objective) -> str:
    return f"{objective.label} ({'more' if objective.maximize else 'less'} is better)"
