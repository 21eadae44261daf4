"""Recorded synthesis runs: configurations, and the cells that Yosys made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coprune_hw.contract import AcceleratorConfig

RECORD = Path(__file__).parent / "ecp5.json"
"""As ``benchmarks/synthesize_ecp5.py --record`` writes it."""


@dataclass(frozen=True)
class SynthesisRun:
    """One configuration, synthesized.

    Parameters
    ----------
    config : AcceleratorConfig
    cells : dict
        Yosys' name of a cell to how many there are.
    """

    config: AcceleratorConfig
    cells: dict[str, int]


@cache
def read_runs(path: Path = RECORD) -> tuple[SynthesisRun, ...]:
    """The runs of a record, in its order."""
    return tuple(
        SynthesisRun(AcceleratorConfig.from_dict(run["config"], origin=str(path)), run["cells"])
        for run in json.loads(path.read_text())["runs"]
    )
