"""Pruning of one network for one accelerator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property

import torch
from torch import nn

from coprune.prune.budget import BudgetResult, BudgetSolver, budget_cycles
from coprune.prune.cycle_counter import CycleCounter
from coprune.prune.importance import Calibration, Loss, ScoreFunction, score_weights
from coprune.prune.layer_menu import Granularity
from coprune.prune.pattern import apply_masks, prunable_layers
from coprune.prune.sensitivity import Sensitivity, measure_sensitivity
from coprune.results import CycleTable
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cycle_model import MemoryModel


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
        self._calibration = calibration
        self._memory = memory

    def count_cycles(self) -> CycleTable:
        """Count the cycles of the network as it is: those of its compiled program."""
        return self._counter.count_exactly(self.model)

    def layer_of(self, module: str) -> str:
        """Return the name of the accelerator's layer that computes a module of the network."""
        return self._counter.layers[module]

    def prune_to_budget(
        self,
        *,
        cycles: int | None = None,
        speedup: float | None = None,
        latency_ms: float | None = None,
        mhz: float | None = None,
        importance: str | ScoreFunction = "energy",
        granularity: Granularity = "block",
        skip: Collection[str] = (),
        loss: Loss | None = None,
    ) -> BudgetResult:
        """Prune to what keeps the most importance within a budget of cycles.

        Parameters
        ----------
        cycles, speedup, latency_ms
            One of them: from the host's start to the interrupt; how many times as fast as the
            network with all weights; or time, at a clock of `mhz`.
        importance
            See `score_weights`. Layers compete with each other for cycles, so it must be
            comparable between them.
        granularity
            ``"layer"`` keeps one N of N:lanes in all of a layer, ``"block"`` one N in each block.
        skip
            Module names of layers to leave dense.
        loss
            Of the importances that need gradients.

        Raises
        ------
        ValueError
            The budget cannot be met, or is not given in one way; or as `score_weights`.
        """
        scores = self._score(importance=importance, skip=skip, loss=loss)
        solver = BudgetSolver(
            scores,
            counter=self._counter,
            lanes=self.accelerator.lanes,
            granularity=granularity,
        )
        budget = budget_cycles(
            solver.dense_cycles, cycles=cycles, speedup=speedup, latency_ms=latency_ms, mhz=mhz
        )
        result = solver.solve(budget, model=self.model)
        self._apply(result.masks)
        return result

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
    def _counter(self) -> CycleCounter:
        return CycleCounter(
            self.model,
            self.accelerator,
            calibration=[images for images, _ in self._calibration],
            memory=self._memory,
        )

    def _score(
        self, *, importance: str | ScoreFunction, skip: Collection[str], loss: Loss | None
    ) -> dict[str, torch.Tensor]:
        layers = prunable_layers(self.model, m=self.accelerator.lanes, skip=skip)
        return score_weights(
            self.model, layers, importance=importance, calibration=self._calibration, loss=loss
        )

    def _apply(self, masks: Mapping[str, torch.Tensor]) -> None:
        apply_masks(self.model, masks=masks)
        self.masks = {**self.masks, **masks}
