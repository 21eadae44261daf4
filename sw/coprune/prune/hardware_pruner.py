"""Pruning of one network for one accelerator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import nn

from coprune.prune.block_pattern import BlockPattern, parse_pattern
from coprune.prune.budget import BudgetResult, BudgetSolver, budget_cycles
from coprune.prune.cycle_counter import CycleCounter
from coprune.prune.importance import Calibration, Loss, ScoreFunction, score_weights
from coprune.prune.layer_menu import Granularity
from coprune.prune.pattern import PrunedPattern, apply_masks, prunable_layers, prune_pattern
from coprune.prune.sensitivity import Sensitivity, measure_sensitivity
from coprune.prune.structure import Structure, apply_structure, prune_structure
from coprune.prune.threshold import prune_weights
from coprune.results import CycleTable
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cycle_model import MemoryModel

CHANNEL_RATIOS = (0.25, 0.5)
"""Parts of the channels that `HardwarePruner.prune_to_budget` tries to take out."""


class HardwarePruner:
    """Prunes a network in place, and says what an accelerator gains from it.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; anything that `coprune.compile` takes as a module.
    accelerator : AcceleratorConfig
        Its lanes are the M of N:M.
    calibration : sequence of (images, labels)
        Batches of float32 [N, C, H, W], preprocessed as the network expects them, and int64 [N]: to
        quantize with, as compiling does, and for importances that need images.
    memory : MemoryModel
        That the accelerator is connected to.

    Attributes
    ----------
    masks : dict of bool tensor
        Of the weights kept so far, by module name; for training that must not revive the others.
    """

    def __init__(
        self,
        model: nn.Module,
        accelerator: AcceleratorConfig,
        *,
        calibration: Calibration,
        memory: MemoryModel | None = None,
    ) -> None:
        if not calibration:
            raise ValueError("calibration must hold batches of (images, labels), not none")
        self.model = model
        self.accelerator = accelerator
        self.masks: dict[str, torch.Tensor] = {}
        self._original = copy.deepcopy(model)
        self._calibration = calibration
        self._memory = memory

    def count_cycles(self) -> CycleTable:
        """Count the cycles of the network as it is: those of its compiled program."""
        return self._counter.count_exactly(self.model)

    def layer_of(self, module: str) -> str:
        """Return the name of the accelerator's layer that computes a module of the network."""
        return self._counter.layers[module]

    def prune_weights(
        self,
        *,
        threshold: float | None = None,
        sparsity: float | None = None,
        scope: str = "global",
        unit: str = "layer",
        importance: str | ScoreFunction = "magnitude",
        skip: Collection[str] = (),
        loss: Loss | None = None,
    ) -> dict[str, torch.Tensor]:
        """Zero the weights whose importance does not exceed a threshold; see `prune_weights`."""
        masks = prune_weights(
            self.model,
            threshold=threshold,
            sparsity=sparsity,
            scope=scope,
            unit=unit,
            importance=importance,
            calibration=self._calibration,
            loss=loss,
            lanes=self.accelerator.lanes,
            skip=skip,
        )
        self.masks |= masks
        return masks

    def prune_pattern(
        self,
        pattern: str | Mapping[str, str | BlockPattern],
        *,
        importance: str | ScoreFunction = "magnitude",
        permute: bool = False,
        skip: Collection[str] = (),
        loss: Loss | None = None,
    ) -> PrunedPattern:
        """Zero all but the N most important of every M input channels; see `prune_pattern`.

        Raises
        ------
        ValueError
            M is not the accelerator's lanes; or as `prune_pattern`.
        """
        lanes = self.accelerator.lanes
        for each in [pattern] if isinstance(pattern, str) else pattern.values():
            m = each.lanes if isinstance(each, BlockPattern) else parse_pattern(each)[1]
            if m != lanes:
                raise ValueError(
                    f"M of a pattern must be {lanes}, the accelerator's lanes, not {m} as in {each}"
                )
        result = prune_pattern(
            self.model,
            pattern,
            importance=importance,
            calibration=self._calibration,
            loss=loss,
            permute=permute,
            skip=skip,
        )
        if permute:
            self._count_anew()
        self.masks |= result.masks
        return result

    def prune_structure(
        self,
        *,
        ratio: float | None = None,
        channels: Mapping[str, int] | None = None,
        unit: str = "channels",
        importance: str | ScoreFunction = "magnitude",
        multiple: int = 1,
        skip: Collection[str] = (),
        loss: Loss | None = None,
    ) -> Structure:
        """Take channels or residual blocks out of the network; see `prune_structure`.

        Raises
        ------
        ValueError
            Weights have been masked before, or as `prune_structure`.
        """
        if self.masks:
            raise ValueError(
                "prune_structure must come before other pruning, whose masks would no longer fit"
            )
        structure = prune_structure(
            self.model,
            ratio=ratio,
            channels=channels,
            unit=unit,
            importance=importance,
            calibration=self._calibration,
            loss=loss,
            multiple=multiple,
            skip=skip,
        )
        self._count_anew()
        return structure

    def prune_to_budget(
        self,
        *,
        cycles: int | None = None,
        speedup: float | None = None,
        latency_ms: float | None = None,
        mhz: float | None = None,
        importance: str | ScoreFunction = "energy",
        granularity: Granularity = "block",
        channels: bool = False,
        skip: Collection[str] = (),
        loss: Loss | None = None,
    ) -> BudgetResult:
        """Prune to what keeps the most importance within a budget of cycles.

        Parameters
        ----------
        cycles, speedup, latency_ms
            One of them: from the host's start to the interrupt; how many times as fast as the
            network was when the pruner was made; or time, at a clock of `mhz`.
        importance
            See `score_weights`. Layers compete with each other for cycles, so it must be
            comparable between them.
        granularity
            ``"layer"`` keeps one N of N:lanes in all of a layer, ``"block"`` one N in each block.
        channels
            Try what `CHANNEL_RATIOS` less channels, a multiple of the lanes left, keep at the same
            budget; the network gets smaller where that is more.
        skip
            Module names of layers to leave dense.
        loss
            Of the importances that need gradients.

        Raises
        ------
        ValueError
            The budget cannot be met, or is not given in one way; or as `score_weights`.
        """
        budget = budget_cycles(
            self.dense_cycles, cycles=cycles, speedup=speedup, latency_ms=latency_ms, mhz=mhz
        )
        scores = self._score(importance=importance, skip=skip, loss=loss)
        solver = self._solver(scores, counter=self._counter, granularity=granularity)
        if not channels:
            result = solver.solve(budget, model=self.model)
        else:
            result = self._solve_with_channels(
                budget, solver=solver, scores=scores, granularity=granularity
            )
        if result.structure is not None:
            apply_structure(self.model, result.structure)
            self._count_anew()
        apply_masks(self.model, masks=result.masks)
        self.masks |= result.masks
        return replace(result, dense_cycles=self.dense_cycles)

    def _solve_with_channels(
        self,
        budget: int,
        *,
        solver: BudgetSolver,
        scores: dict[str, torch.Tensor],
        granularity: Granularity,
    ) -> BudgetResult:
        """The best of the solutions without some of the channels, measured by the same scores."""
        if self.masks:
            raise ValueError("channels must be taken out before other pruning, not after it")
        whole = sum(float(layer.sum(dtype=torch.float64)) for layer in scores.values())
        solutions: list[BudgetResult] = []
        failure = None
        try:
            solutions.append(solver.solve(budget, model=self.model))
        except ValueError as error:
            failure = error
        for ratio in CHANNEL_RATIOS:
            smaller = copy.deepcopy(self.model)
            structure = prune_structure(
                smaller,
                ratio=ratio,
                importance=lambda model, layers, batches: {
                    name: scores.get(name, torch.zeros_like(layer.weight))
                    for name, layer in layers.items()
                },
                calibration=self._calibration,
                multiple=self.accelerator.lanes,
            )
            if not structure["channels"]:
                continue
            left = {
                name: _take_channels(layer, structure["channels"].get(name, {}))
                for name, layer in scores.items()
            }
            smaller_solver = self._solver(
                left, counter=self._count(smaller), granularity=granularity
            )
            try:
                solution = smaller_solver.solve(budget, model=smaller)
            except ValueError as error:
                failure = error
                continue
            kept = sum(
                float(layer[solution.masks[name]].sum(dtype=torch.float64))
                for name, layer in left.items()
            )
            solutions.append(replace(solution, kept_importance=kept / whole, structure=structure))
        if not solutions:
            raise failure
        return max(solutions, key=lambda solution: solution.kept_importance)

    def measure_sensitivity(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        ns: Collection[int] | None = None,
        importance: str | ScoreFunction = "magnitude",
        skip: Collection[str] = (),
        loss: Loss | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Sensitivity:
        """Prune one layer at a time to N:lanes, without training: what is lost, what is gained.

        Parameters
        ----------
        images, labels
            Float32 [N, C, H, W] and int64 [N], to measure accuracy and loss on.
        ns
            Values of N; by default the powers of two below the lanes.
        importance, skip, loss
            As for `prune_to_budget`; `loss` is also what is measured, by default cross entropy.
        progress
            Called with the number of measurements done and of all.
        """
        lanes = self.accelerator.lanes
        if ns is None:
            ns = [1 << bit for bit in range(lanes.bit_length() - 1)]
        scores = self._score(importance=importance, skip=skip, loss=loss)
        return measure_sensitivity(
            self.model,
            scores,
            counter=self._counter,
            lanes=lanes,
            ns=sorted(ns),
            images=images,
            labels=labels,
            loss=loss,
            progress=progress,
        )

    @cached_property
    def dense_cycles(self) -> int:
        """Cycles of the network as it was when the pruner was made."""
        return self._dense_counter.count({}).total.cycles

    @cached_property
    def _dense_counter(self) -> CycleCounter:
        return self._count(self._original)

    @cached_property
    def _counter(self) -> CycleCounter:
        """Of the network with the channels that it has now; weights may be masked since."""
        return self._dense_counter

    def _count(self, model: nn.Module) -> CycleCounter:
        return CycleCounter(
            model,
            self.accelerator,
            calibration=[images for images, _ in self._calibration],
            memory=self._memory,
        )

    def _solver(
        self,
        scores: Mapping[str, torch.Tensor],
        *,
        counter: CycleCounter,
        granularity: Granularity,
    ) -> BudgetSolver:
        return BudgetSolver(
            scores, counter=counter, lanes=self.accelerator.lanes, granularity=granularity
        )

    def _count_anew(self) -> None:
        """Count anew from now on, as channels are gone or in another order."""
        self._counter = self._count(self.model)

    def _score(
        self, *, importance: str | ScoreFunction, skip: Collection[str], loss: Loss | None
    ) -> dict[str, torch.Tensor]:
        layers = prunable_layers(self.model, m=self.accelerator.lanes, skip=skip)
        return score_weights(
            self.model, layers, importance=importance, calibration=self._calibration, loss=loss
        )


def _take_channels(scores: torch.Tensor, kept: Mapping[str, list[int]]) -> torch.Tensor:
    """Scores of the channels of a layer that are left."""
    if "outputs" in kept:
        scores = scores[kept["outputs"]]
    return scores[:, kept["inputs"]] if "inputs" in kept else scores
