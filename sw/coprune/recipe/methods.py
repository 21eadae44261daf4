"""Ways to choose the weights that a recipe prunes, by the name that ``prune.method`` gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from coprune.data import DataSet
from coprune.prune import BlockPattern, Choose, HardwarePruner, pattern_choice, prunable_layers
from coprune.prune.block_pattern import parse_pattern
from coprune_hw.contract import AcceleratorConfig

Plan = Callable[[nn.Module, AcceleratorConfig, DataSet, Mapping[str, Any]], Choose | None]
"""Returns what chooses masks of a network, or None where nothing is masked.

It is given the dense network, which it may change in place, and the options of ``[prune]``. A run
that is resumed plans again, so the plan must follow from these alone.
"""


@dataclass(frozen=True)
class Method:
    """A way to prune.

    Parameters
    ----------
    plan
    options
        Keys that ``[prune]`` may have besides ``method`` and ``schedule``.
    """

    plan: Plan
    options: tuple[str, ...] = ()


def plan_nothing(
    model: nn.Module, accelerator: AcceleratorConfig, data: DataSet, options: Mapping[str, Any]
) -> None:
    """Leave the network dense."""


def plan_pattern(
    model: nn.Module, accelerator: AcceleratorConfig, data: DataSet, options: Mapping[str, Any]
) -> Choose:
    """Keep the largest N of every M weights.

    Options: ``pattern``, ``"N:M"`` for all prunable layers or a table of layers' names and patterns
    (the others stay dense); ``skip``, a list of layers to leave dense.
    """
    layers = prunable_layers(model, m=accelerator.lanes)
    pattern, skip = options.get("pattern"), options.get("skip", [])
    if not isinstance(skip, list):
        raise ValueError(f"prune.skip must be a list of layers, not {skip!r}")
    if isinstance(pattern, str):
        pattern = dict.fromkeys(layers, pattern)
    elif not isinstance(pattern, Mapping):
        raise ValueError(
            f'prune.pattern must be N:M, as "4:16", or a table of layers, not {pattern!r}'
        )
    for name in (*pattern, *skip):
        if name not in layers:
            raise ValueError(
                f"prune.pattern and prune.skip must name prunable layers, not {name!r}; "
                f"there are {', '.join(layers) or 'none'}"
            )
    return pattern_choice(
        {
            name: _pattern(layers[name], text, lanes=accelerator.lanes)
            for name, text in pattern.items()
            if name not in skip
        }
    )


def plan_budget(
    model: nn.Module, accelerator: AcceleratorConfig, data: DataSet, options: Mapping[str, Any]
) -> Choose:
    """Keep the most importance within a budget of cycles, as `HardwarePruner.prune_to_budget`.

    Options are those of that method: one of ``cycles``, ``speedup`` and ``latency_ms`` with
    ``mhz``; ``importance``, ``granularity`` and ``skip``. What each block keeps is decided once, of
    the dense network's weights; which weights those are, of the weights when masks are chosen.
    """
    pruner = HardwarePruner(
        copy.deepcopy(model), accelerator, calibration=data.labelled_calibration_batches()
    )
    try:
        result = pruner.prune_to_budget(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"prune: {error}") from error
    return pattern_choice(result.pattern)


METHODS = {
    "none": Method(plan_nothing),
    "pattern": Method(plan_pattern, options=("pattern", "skip")),
    "budget": Method(
        plan_budget,
        options=(
            "cycles",
            "speedup",
            "latency_ms",
            "mhz",
            "importance",
            "granularity",
            "skip",
        ),
    ),
}


def _pattern(layer: nn.Conv2d | nn.Linear, text: str, *, lanes: int) -> BlockPattern:
    n, m = parse_pattern(text)
    if m != lanes:
        raise ValueError(
            f"M of prune.pattern must be {lanes}, the lanes of the accelerator, not {m}"
        )
    return BlockPattern.uniform(tuple(layer.weight.shape), n=n, lanes=lanes)
