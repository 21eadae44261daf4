"""Accuracy against cycles: ways to prune ResNet-20 for CIFAR-10, fine-tuned with one schedule.

Every run is ``recipes/resnet20_4x.toml`` with another way to prune; it resumes where it was
interrupted. What is done is written to ``docs/pruning_accuracy.json`` run by run, and drawn in
``docs/pruning_accuracy.png``; ``--draw`` only draws. Hours on one core: each process trains with
one thread, and several processes (``--part 0/2`` and ``--part 1/2``) share the runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from coprune import atomic_file
from coprune.recipe import read_recipe, run_recipe

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "resnet20_4x.toml"
RESULTS = ROOT / "docs" / "pruning_accuracy.json"
PICTURE = ROOT / "docs" / "pruning_accuracy.png"
KEPT = (8, 4, 2)
"""N of N:16, and so the cycles that the methods are compared at."""
CYCLES = {8: 81_870, 4: 42_780, 2: 23_380}
"""Of uniform N:16."""
METHODS = {
    "uniform": "uniform N:16",
    "budget": "budget, N of each block",
    "unstructured": "global magnitude, as many weights",
    "channels": "whole channels",
}


@dataclass(frozen=True)
class Run:
    """One network to train.

    Parameters
    ----------
    method, n, seed
        A key of `METHODS`, N of the uniform pattern that it is compared with, and the seed.
    assignments
        What differs from the recipe.
    """

    method: str
    n: int
    seed: int
    epochs: int
    assignments: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.method}_{self.n}of16_{self.epochs}epochs_seed{self.seed}"
