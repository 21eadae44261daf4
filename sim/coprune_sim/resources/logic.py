"""LUTs, carry cells and flip-flops: linear in what the gateware repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.crossbar import Crossbar

from .runs import SynthesisRun

PER_PE = "PEs"
PER_CHOICE = "bits chosen"
PER_HELD = "bits held"
PER_LANE = "lanes"
PER_BUS_BIT = "bus bits"
BASE = "base"

FEATURES = {
    # Every PE multiplies, adds and holds its sums. It takes one byte out of a word of all lanes,
    # which came through a crossbar of log2(columns) stages.
    "LUT4": (PER_PE, PER_CHOICE, PER_LANE, PER_BUS_BIT, BASE),
    # Adders: of every PE, of every lane's requantization.
    "CCU2C": (PER_PE, PER_LANE, PER_BUS_BIT, BASE),
    # Every PE holds a byte, a product and two sums, and every column its words on their way: behind
    # the bank, in the crossbar, and once for every lane group.
    "TRELLIS_FF": (PER_PE, PER_HELD, PER_LANE, PER_BUS_BIT, BASE),
}
"""Yosys' name of a cell to what the number of them depends on."""


def measure_features(config: AcceleratorConfig, cell: str) -> np.ndarray:
    """The values of a cell's `FEATURES` for one configuration, float64."""
    values = {
        PER_PE: config.multipliers,
        # A choice among n inputs takes n / 2 LUTs of four inputs (and PFUMX, L6MUX cells), and
        # one of two in each of the crossbar's stages a whole one.
        PER_CHOICE: config.multipliers * 8 * (config.lanes / 2 + config.log2_columns),
        PER_HELD: config.columns
        * config.word_bits
        * (1 + Crossbar.latency(config) + config.lane_groups),
        PER_LANE: config.lanes,
        PER_BUS_BIT: config.bus_bits,
        BASE: 1,
    }
    return np.array([values[feature] for feature in FEATURES[cell]], np.float64)


@dataclass(frozen=True)
class LogicModel:
    """Cells as a sum of features times coefficients.

    Parameters
    ----------
    coefficients : dict
        Yosys' name of a cell to a float64 array, one for each of its `FEATURES`.
    """

    coefficients: dict[str, np.ndarray]

    @classmethod
    def fit(cls, runs: Sequence[SynthesisRun]) -> LogicModel:
        """Least squares of the relative errors.

        Raises
        ------
        ValueError
            There are fewer runs than coefficients, or they leave some of them open.
        """
        coefficients = {}
        for cell, features in FEATURES.items():
            matrix = np.stack([measure_features(run.config, cell) for run in runs])
            counts = np.array([run.cells[cell] for run in runs], np.float64)
            solution, _, rank, _ = np.linalg.lstsq(
                matrix / counts[:, None], np.ones(len(runs)), rcond=None
            )
            if rank < len(features):
                raise ValueError(
                    f"{len(runs)} runs say too little about {cell}: they must differ in "
                    f"{', '.join(features[:-1])}"
                )
            coefficients[cell] = solution
        return cls(coefficients)

    def predict(self, config: AcceleratorConfig) -> dict[str, int]:
        """Cells of one configuration, by Yosys' name."""
        return {
            cell: round(float(measure_features(config, cell) @ coefficients))
            for cell, coefficients in self.coefficients.items()
        }


def leave_one_out(runs: Sequence[SynthesisRun]) -> list[dict[str, int]]:
    """For every run, what a model that is fitted to all others predicts."""
    return [
        LogicModel.fit([other for other in runs if other is not run]).predict(run.config)
        for run in runs
    ]
