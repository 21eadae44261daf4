"""What one candidate costs and keeps: counted, predicted and simulated."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Self

import numpy as np

from coprune.explore.pruning import PrunedGraph, prune_graph
from coprune.explore.space import Candidate
from coprune.program import count_cycles
from coprune_sim.cycle_model import MemoryModel
from coprune_sim.graph import IntegerGraph
from coprune_sim.resources import Device, Resources, estimate_resources, read_runs

PRUNED_GRAPHS = 64
"""Pruned networks whose answers are remembered: most candidates differ in the accelerator only."""


class InfeasibleError(ValueError):
    """A candidate cannot be built, or cannot run the network; the message says why."""


@dataclass(frozen=True)
class Evaluation:
    """A candidate that works.

    Parameters
    ----------
    cycles : int
        From start to interrupt, by the cycle model, which is exact.
    milliseconds : float or None
        At the evaluator's clock.
    kept_importance : float
    kept : dict
        Layer to the mean of its N of N:lanes. Both as in `PrunedGraph`.
    agreement : float or None
        Part of the images on which the pruned int8 network, without fine-tuning, has the same
        largest output as the dense one.
    accuracy : float or None
        Part of the images on which that is the label.
    resources : Resources
    device_share : float or None
        Of the evaluator's device, as `Resources.share` gives it.
    """

    cycles: int
    milliseconds: float | None
    kept_importance: float
    kept: dict[str, float]
    agreement: float | None
    accuracy: float | None
    resources: Resources
    device_share: float | None = None

    def to_dict(self) -> dict:
        """For JSON; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        return cls(**{**values, "resources": Resources(**values["resources"])})


@dataclass
class Evaluator:
    """Evaluates candidates for one network. It is sent to the workers, and keeps no open file.

    Parameters
    ----------
    graph : IntegerGraph
        The quantized dense network.
    mhz : float or None
        Clock, for milliseconds.
    memory : MemoryModel
    device : Device or None
        What the accelerator must fit.
    images : int8 array [N, C, H, W] or None
        For the agreement. Simulating them takes most of the time.
    labels : int array [N] or None
        For the accuracy.
    """

    graph: IntegerGraph
    mhz: float | None = None
    memory: MemoryModel = field(default_factory=MemoryModel)
    device: Device | None = None
    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    _pruned: dict[tuple[int, float], tuple[PrunedGraph, np.ndarray | None]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __getstate__(self) -> dict:
        """Without what it remembers."""
        hidden = ("_pruned", "dense_answers")
        return {name: value for name, value in vars(self).items() if name not in hidden}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, _pruned={})

    @cached_property
    def digest(self) -> str:
        """Differs where candidates are evaluated differently."""
        parts = [repr((self.mhz, self.memory, self.device, self.graph.input)), repr(read_runs())]
        for layer in self.graph.layers:
            parts.append(repr((layer.name, layer.operation, layer.output)))
            parts += [source.weight.tobytes().hex() for source in layer.sources]
            parts += [layer.bias.tobytes().hex(), layer.multiplier.tobytes().hex()]
        parts += [
            "" if array is None else array.tobytes().hex() for array in (self.images, self.labels)
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Everything about one candidate; the same for the same candidate, wherever it runs.

        Raises
        ------
        InfeasibleError
            It does not fit the device, or cannot run the network.
        """
        accelerator = candidate.accelerator
        resources = estimate_resources(accelerator)
        if self.device is not None and (excess := resources.excess(self.device)):
            raise InfeasibleError(excess)
        try:
            pruned, answers = self._prune(accelerator.lanes, candidate.speedup)
            table = count_cycles(pruned.graph, accelerator, self.memory)
        except (ValueError, OverflowError) as error:
            raise InfeasibleError(str(error)) from error
        cycles = table.total.cycles
        return Evaluation(
            cycles=cycles,
            milliseconds=None if self.mhz is None else cycles / (1000 * self.mhz),
            kept_importance=pruned.kept_importance,
            kept=pruned.kept,
            agreement=None if answers is None else float(np.mean(answers == self.dense_answers)),
            accuracy=None if self.labels is None else float(np.mean(answers == self.labels)),
            resources=resources,
            device_share=None if self.device is None else resources.share(self.device),
        )

    @cached_property
    def dense_answers(self) -> np.ndarray:
        """Index of the largest output of the dense network for every image."""
        return self._answer(self.graph)

    def _prune(self, lanes: int, speedup: float) -> tuple[PrunedGraph, np.ndarray | None]:
        key = (lanes, speedup)
        if key not in self._pruned:
            if len(self._pruned) == PRUNED_GRAPHS:
                del self._pruned[next(iter(self._pruned))]
            pruned = prune_graph(self.graph, lanes=lanes, speedup=speedup)
            answers = None if self.images is None else self._answer(pruned.graph)
            self._pruned[key] = pruned, answers
        return self._pruned[key]

    def _answer(self, graph: IntegerGraph) -> np.ndarray:
        # PyTorch, which it imports, takes seconds.
        from coprune_sim.inference import Simulator

        outputs = Simulator(graph).run(self.images)
        return outputs.reshape(len(outputs), -1).argmax(axis=1)
