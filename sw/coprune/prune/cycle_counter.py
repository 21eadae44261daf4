"""Cycles of a network under masks, counted without quantizing it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from coprune.program import count_cycles
from coprune.quantize import quantize, quantize_traced
from coprune.results import CycleTable
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cycle_model import MemoryModel


class CycleCounter:
    """Counts the cycles of a network whose weights are masked, on one accelerator.

    The network is quantized once; masks then zero its integer weights. What quantizing the masked
    network anew would change are scales, so at most weights that round to zero in one and not in
    the other: `count_exactly` says what the compiled program takes.

    Parameters
    ----------
    model
        In evaluation mode; anything that `coprune.compile` takes as a module.
    accelerator
    calibration : sequence of float32 tensors [N, C, H, W]
        As for `coprune.compile`.
    memory
        By default one with the latencies that `MemoryModel` has by default.

    Attributes
    ----------
    layers : dict of str
        Name of the accelerator's layer that computes it, by module name.
    """

    def __init__(
        self,
        model: nn.Module,
        accelerator: AcceleratorConfig,
        *,
        calibration: Sequence[torch.Tensor],
        memory: MemoryModel | None = None,
    ) -> None:
        self._accelerator = accelerator
        self._calibration = calibration
        self._memory = memory
        traced = quantize_traced(model, calibration, accumulator_bits=accelerator.accumulator_bits)
        self._graph = traced.integers
        self._names = [[source.name for source in layer.sources] for layer in traced.exact.layers]
        self.layers = {
            name: layer.name
            for layer, names in zip(self._graph.layers, self._names, strict=True)
            for name in names
        }

    def count(self, masks: Mapping[str, torch.Tensor]) -> CycleTable:
        """Count the cycles with the weights that `masks` (by module name) keep."""
        layers = []
        for layer, names in zip(self._graph.layers, self._names, strict=True):
            sources = tuple(
                replace(source, weight=_masked(source.weight, masks[name]))
                if name in masks
                else source
                for name, source in zip(names, layer.sources, strict=True)
            )
            layers.append(replace(layer, sources=sources))
        graph = replace(self._graph, layers=tuple(layers))
        return count_cycles(graph, self._accelerator, self._memory)

    def count_exactly(self, model: nn.Module) -> CycleTable:
        """Quantize a network and count its cycles: those of its compiled program."""
        graph = quantize(
            model, self._calibration, accumulator_bits=self._accelerator.accumulator_bits
        )
        return count_cycles(graph, self._accelerator, self._memory)


def _masked(weight: np.ndarray, mask: torch.Tensor) -> np.ndarray:
    return weight * mask.cpu().numpy().reshape(weight.shape)
