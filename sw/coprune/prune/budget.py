"""The pattern of each layer that keeps the most importance within a budget of cycles."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coprune.prune.block_pattern import BlockPattern, block_grid
from coprune.prune.cycle_counter import CycleCounter
from coprune.prune.knapsack import solve
from coprune.prune.layer_menu import Granularity, LayerMenu
from coprune.prune.pattern import apply_masks
from coprune.prune.structure import Structure
from coprune.results import CycleTable

MOST_ROUNDS = 12
"""How often costs are corrected by what the cycle model says of a solution."""


@dataclass(frozen=True, eq=False)
class BudgetResult:
    """Patterns that fit a budget.

    Parameters
    ----------
    budget : int
        Cycles asked for.
    predicted_cycles : int
        Cycles of the pruned network, from start to interrupt: those of its compiled program.
    dense_cycles : int
        Of the network before any pruning.
    pattern : dict of BlockPattern
        By module name.
    masks : dict of bool tensor
        By module name: the weights that are kept.
    kept_importance : float
        Share of the importance of all prunable weights, from 0 to 1.
    table : CycleTable
        The pruned network's cycles per layer.
    structure : Structure or None
        Channels that were taken out before, where that was asked for and keeps more.
    """

    budget: int
    predicted_cycles: int
    dense_cycles: int
    pattern: dict[str, BlockPattern]
    masks: dict[str, torch.Tensor]
    kept_importance: float
    table: CycleTable
    structure: Structure | None = None

    @property
    def speedup(self) -> float:
        """Dense cycles per predicted cycle."""
        return self.dense_cycles / self.predicted_cycles


def budget_cycles(
    dense_cycles: int,
    *,
    cycles: int | None = None,
    speedup: float | None = None,
    latency_ms: float | None = None,
    mhz: float | None = None,
) -> int:
    """Return the cycles of a budget that is given as such, as a speed-up, or as time at a clock.

    Raises
    ------
    ValueError
        None or several of them are given, `latency_ms` without `mhz` or the other way round, or a
        value is not positive.
    """
    given = {"cycles": cycles, "speedup": speedup, "latency_ms": latency_ms}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(
            f"a budget must be one of cycles, speedup and latency_ms (with mhz), "
            f"not {' and '.join(named) or 'none of them'}"
        )
    if (mhz is None) != (latency_ms is None):
        raise ValueError("latency_ms and mhz, the clock, must be given together")
    for name, value in (*given.items(), ("mhz", mhz)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, not {value!r}")
    if speedup is not None:
        return int(dense_cycles / speedup)
    if latency_ms is not None:
        return int(latency_ms * 1000 * mhz)
    return int(cycles)


class BudgetSolver:
    """Chooses patterns of one network for any budget.

    A knapsack: one option of each layer's `LayerMenu`, such that the importance kept is largest and
    the cycles fit. Costs come from the cycle model, so layers that the drain or the bus bounds gain
    nothing from fewer slots, and lose none. What a layer costs depends a little on its neighbours,
    whose weights load meanwhile; so the cycles of a solution are counted as a whole, the capacity
    is corrected by the difference, and the knapsack solved again.

    Parameters
    ----------
    scores
        Importance of every weight, by the names of the layers to prune; not negative.
    counter
        Of the network.
    lanes, granularity
        As for `LayerMenu`.

    Attributes
    ----------
    full_cycles : int
        Of the network with all weights that it has.
    """

    def __init__(
        self,
        scores: Mapping[str, torch.Tensor],
        *,
        counter: CycleCounter,
        lanes: int,
        granularity: Granularity = "block",
    ) -> None:
        self._scores = scores
        self._counter = counter
        self.full_cycles = counter.count({}).total.cycles
        curves = _measure_curves(scores, counter=counter, lanes=lanes)
        self._menus = {
            name: LayerMenu(scores[name], cycles=curves[name], lanes=lanes, granularity=granularity)
            for name in scores
        }

    def solve(self, budget: int, *, model: nn.Module) -> BudgetResult:
        """Choose what keeps the most importance within a budget of cycles.

        Parameters
        ----------
        budget
            Cycles from start to interrupt.
        model
            The network, to count the cycles of; left as it is.

        Raises
        ------
        ValueError
            The network takes more cycles than that however much is pruned.
        """
        target = budget
        for _ in range(MOST_ROUNDS):
            masks, pattern = self._fit(target, budget=budget)
            pruned = copy.deepcopy(model)
            apply_masks(pruned, masks=masks)
            table = self._counter.count_exactly(pruned)
            if table.total.cycles <= budget:
                break
            # Scales changed, and with them which weights round to zero.
            target -= table.total.cycles - budget
        else:
            raise ValueError(f"no solution within {budget:,} cycles was found: give some more")
        whole = sum(float(scores.sum(dtype=torch.float64)) for scores in self._scores.values())
        kept = sum(
            float(scores[masks[name]].sum(dtype=torch.float64))
            for name, scores in self._scores.items()
        )
        return BudgetResult(
            budget=budget,
            predicted_cycles=table.total.cycles,
            dense_cycles=self.full_cycles,
            pattern=pattern,
            masks=masks,
            kept_importance=kept / whole if whole else 1.0,
            table=table,
        )

    def _fit(
        self, target: int, *, budget: int
    ) -> tuple[dict[str, torch.Tensor], dict[str, BlockPattern]]:
        """The best masks found whose cycles, with the dense network's scales, are in the target."""
        menus = [menu.menu for menu in self._menus.values()]
        # What other layers take, and what the menus do not know.
        overhead = self.full_cycles - sum(int(menu.cost[-1]) for menu in menus)
        best, tried = None, set()
        for _ in range(MOST_ROUNDS):
            try:
                chosen = tuple(solve(menus, capacity=target - overhead))
            except ValueError:
                if best is not None:
                    break
                least = overhead + sum(int(menu.cost[0]) for menu in menus)
                raise ValueError(
                    f"a budget of {budget:,} cycles cannot be met: with everything pruned that may "
                    f"be, the network takes about {least:,} of {self.full_cycles:,}"
                ) from None
            costs, values = zip(
                *((m.cost[k], m.value[k]) for m, k in zip(menus, chosen, strict=True)), strict=True
            )
            pattern = {
                name: menu.pattern(option)
                for (name, menu), option in zip(self._menus.items(), chosen, strict=True)
            }
            masks = {name: pattern[name].mask(self._scores[name]) for name in pattern}
            cycles = self._counter.count(masks).total.cycles
            if cycles <= target and (best is None or sum(values) > best[0]):
                best = sum(values), masks, pattern
            if chosen in tried and best is not None:
                break
            # The same solution again, and it does not fit: its error alone is not enough.
            overhead = (overhead if chosen in tried else 0) + cycles - sum(map(int, costs))
            tried.add(chosen)
        if best is None:
            raise ValueError(f"no solution within {budget:,} cycles was found: give some more")
        return best[1:]


def _measure_curves(
    scores: Mapping[str, torch.Tensor], *, counter: CycleCounter, lanes: int
) -> dict[str, np.ndarray]:
    """Cycles of each layer where all blocks of all layers keep N = 0, 1 ... `lanes`.

    Several modules that one layer of the accelerator computes share its cycles by their blocks.
    """
    grids = {name: block_grid(tuple(layer.shape), lanes=lanes) for name, layer in scores.items()}
    blocks = {name: int(np.prod(grid)) for name, grid in grids.items()}
    in_layer: dict[str, int] = {}
    for name, count in blocks.items():
        in_layer[counter.layers[name]] = in_layer.get(counter.layers[name], 0) + count
    curves = {name: np.zeros(lanes + 1) for name in scores}
    for n in range(lanes + 1):
        masks = {
            name: BlockPattern(np.full(grids[name], n), lanes).mask(layer)
            for name, layer in scores.items()
        }
        cycles = {layer.name: layer.cycles for layer in counter.count(masks).layers}
        for name, curve in curves.items():
            layer = counter.layers[name]
            curve[n] = cycles[layer] * blocks[name] / in_layer[layer]
    return curves
