"""What an exploration minimizes or maximizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coprune.explore.evaluation import Evaluation


@dataclass(frozen=True)
class Objective:
    """One number of an `Evaluation`.

    Parameters
    ----------
    name : str
        Of the attribute of `Evaluation`, or of its resources.
    label : str
        For tables and pictures.
    maximize : bool
    """

    name: str
    label: str
    maximize: bool = False

    def read(self, evaluation: Evaluation) -> float:
        """The number; infinite or NaN ones there are none."""
        holder = evaluation if hasattr(evaluation, self.name) else evaluation.resources
        return float(getattr(holder, self.name))


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("cycles", "cycles"),
        Objective("milliseconds", "ms"),
        Objective("kept_importance", "importance kept", maximize=True),
        Objective("agreement", "agreement with the dense network", maximize=True),
        Objective("accuracy", "accuracy before fine-tuning", maximize=True),
        Objective("luts", "LUTs"),
        Objective("flip_flops", "flip-flops"),
        Objective("multipliers", "multipliers"),
        Objective("block_rams", "block RAMs"),
        Objective("device_share", "share of the device"),
    )
}
"""By name."""


def find_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of some names.

    Raises
    ------
    ValueError
        A name is unknown or comes twice, or there are fewer than two.
    """
    for name in names:
        if name not in OBJECTIVES:
            raise ValueError(f"unknown objective {name!r}: must be one of {', '.join(OBJECTIVES)}")
    if len(set(names)) < len(names) or len(names) < 2:
        raise ValueError(f"objectives must be two or more, each once, not {', '.join(names)}")
    return tuple(OBJECTIVES[name] for name in names)
