"""Ways to choose the weights that a recipe prunes, by the name that ``prune.method`` gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from coprune.data import DataSet
from coprune.prune import (
    BlockPattern,
    Choose,
    HardwarePruner,
    Structure,
    apply_structure,
    pattern_choice,
    prunable_layers,
)
from coprune.prune.block_pattern import parse_pattern
from coprune_hw.contract import AcceleratorConfig


@dataclass(frozen=True)
class Planned:
    """How a network is going to be pruned.

    Parameters
    ----------
    choose
        Chooses masks; None where nothing is masked.
    structure
        What was taken out of the network already, if anything was.
    """

    choose: Choose | None = None
    structure: Structure | None = None


Plan = Callable[[nn.Module, AcceleratorConfig, DataSet, Mapping[str, Any]], Planned]
"""Plans how to prune a dense network, and takes out of it what is to go as a whole.

It is given the options of ``[prune]``. A run that is resumed plans again, so the plan must follow
from these alone.
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
) -> Planned:
    """Leave the network dense."""
    return Planned()


def plan_pattern(
    model: nn.Module, accelerator: AcceleratorConfig, data: DataSet, options: Mapping[str, Any]
) -> Planned:
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
    choose = pattern_choice(
        {
            name: _pattern(layers[name], text, lanes=accelerator.lanes)
            for name, text in pattern.items()
            if name not in skip
        }
    )
    return Planned(choose)


def plan_budget(
    model: nn.Module, accelerator: AcceleratorConfig, data: DataSet, options: Mapping[str, Any]
) -> Planned:
    """Keep the most importance within a budget of cycles: `HardwarePruner.prune_to_budget`.

    Options are those of that method but for ``loss``. What each block keeps is decided once, of the
    dense network's weights; which weights those are, of the weights when masks are chosen.
    """
    result = _apply("prune_to_budget", copy.deepcopy(model), accelerator, data, options)
    if result.structure is not None:
        apply_structure(model, result.structure)
    return Planned(pattern_choice(result.pattern), result.structure)


def plan_weights(
    model: nn.Module, accelerator: AcceleratorConfig, data: DataSet, options: Mapping[str, Any]
) -> Planned:
    """Zero weights wherever they are: `HardwarePruner.prune_weights`.

    Options are those of that method but for ``loss``. At a share of pruning that much of the
    sparsity or threshold holds, for the weights as they are then.
    """
    amounts = [name for name in ("sparsity", "threshold") if name in options]

    def choose(model: nn.Module, share: float) -> dict[str, torch.Tensor]:
        scaled = {**options, **{name: share * options[name] for name in amounts}}
        # Calibration images are where the network is: on the CPU.
        return _apply("prune_weights", copy.deepcopy(model).cpu(), accelerator, data, scaled)

    # An option that is wrong shall not wait for the first step to say so.
    choose(model, 1.0)
    return Planned(choose)


def plan_structure(
    model: nn.Module, accelerator: AcceleratorConfig, data: DataSet, options: Mapping[str, Any]
) -> Planned:
    """Take channels or residual blocks out at once: `HardwarePruner.prune_structure`.

    Options are those of that method but for ``loss``.
    """
    return Planned(structure=_apply("prune_structure", model, accelerator, data, options))


BUDGETS = ("cycles", "speedup", "latency_ms", "mhz")
METHODS = {
    "none": Method(plan_nothing),
    "pattern": Method(plan_pattern, options=("pattern", "skip")),
    "budget": Method(
        plan_budget,
        options=(*BUDGETS, "importance", "granularity", "channels", "skip"),
    ),
    "weights": Method(
        plan_weights, options=("threshold", "sparsity", "scope", "unit", "importance", "skip")
    ),
    "structure": Method(
        plan_structure, options=("ratio", "channels", "unit", "importance", "multiple", "skip")
    ),
}


def _apply(
    method: str,
    model: nn.Module,
    accelerator: AcceleratorConfig,
    data: DataSet,
    options: Mapping[str, Any],
) -> Any:
    """Call a method of the network's `HardwarePruner` with the options of ``[prune]``."""
    pruner = HardwarePruner(model, accelerator, calibration=data.labelled_calibration_batches())
    try:
        return getattr(pruner, method)(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"prune: {error}") from error


def _pattern(layer: nn.Conv2d | nn.Linear, text: str, *, lanes: int) -> BlockPattern:
    n, m = parse_pattern(text)
    if m != lanes:
        raise ValueError(
            f"M of prune.pattern must be {lanes}, the lanes of the accelerator, not {m}"
        )
    return BlockPattern.uniform(tuple(layer.weight.shape), n=n, lanes=lanes)
