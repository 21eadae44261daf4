"""A network in stages, some compiled for the accelerator, the others for the host."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coprune import hybrid_file
from coprune.host_stage import HostOperator, HostStage
from coprune.program import Program, check_images
from coprune.results import (
    CosimResult,
    CycleTable,
    LayerCycles,
    LayerResult,
    TotalResult,
    add_totals,
)
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cycle_model import MemoryModel


@dataclass(frozen=True)
class HostCost:
    """What is known without running it of a stage on the host, for one image.

    Parameters
    ----------
    operators : tuple of HostOperator
    input_bytes, output_bytes : int
        What the host reads and writes: values of the accelerator where that is on the other side,
        int8 or int32, and float32 images or the network's output where it is not.
    """

    operators: tuple[HostOperator, ...]
    input_bytes: int
    output_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(operator.macs for operator in self.operators)


@dataclass(frozen=True)
class HybridCycles:
    """What a network costs in stages.

    Parameters
    ----------
    stages : tuple of CycleTable and HostCost
    total : TotalResult
        Of the stages on the accelerator.
    """

    stages: tuple[CycleTable | HostCost, ...]
    total: TotalResult

    @property
    def layers(self) -> tuple[LayerCycles, ...]:
        """Those of all stages on the accelerator."""
        tables = [stage for stage in self.stages if isinstance(stage, CycleTable)]
        return tuple(layer for table in tables for layer in table.layers)

    @property
    def host_macs(self) -> int:
        """Multiply-accumulates on the host."""
        return sum(stage.macs for stage in self.stages if isinstance(stage, HostCost))


@dataclass(frozen=True)
class HybridCosimResult:
    """What the RTL did in the stages on the accelerator.

    Parameters
    ----------
    outputs : array [N, ...]
        Of the last stage, computed from what the RTL gave.
    stages : tuple of CosimResult
        Of the stages on the accelerator, in order.
    total : TotalResult
        Of all these.
    """

    outputs: np.ndarray
    stages: tuple[CosimResult, ...]
    total: TotalResult

    @property
    def equal(self) -> bool:
        """Every layer of every image is the same in integer reference, simulator and RTL."""
        return all(stage.equal for stage in self.stages)

    @property
    def layers(self) -> tuple[LayerResult, ...]:
        """Those of all stages, measured by the RTL's counters."""
        return tuple(layer for stage in self.stages for layer in stage.layers)

    @property
    def cycles_per_second(self) -> float:
        """Speed of the co-simulation."""
        seconds = sum(stage.total.cycles / stage.cycles_per_second for stage in self.stages)
        return self.total.cycles / seconds


@dataclass(frozen=True, eq=False)
class HybridProgram:
    """A network that runs partly on the accelerator and partly on the host.

    It has the interface of `coprune.program.Program`, except for what needs one memory image.

    Parameters
    ----------
    stages : tuple of Program and HostStage
        In execution order; at least one Program. Between stages are float32 tensors.
    network : str
        The network's name.
    """

    stages: tuple[Program | HostStage, ...]
    network: str

    @property
    def programs(self) -> tuple[Program, ...]:
        """The stages on the accelerator."""
        return tuple(stage for stage in self.stages if isinstance(stage, Program))

    @property
    def config(self) -> AcceleratorConfig:
        """The accelerator that it was compiled for."""
        return self.programs[0].config

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an image; missing axes have size 1, as in `Program`."""
        first = self.stages[0]
        return first.image_shape if isinstance(first, HostStage) else first.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one image's output."""
        return self.stages[-1].output_shape

    @property
    def picks_class(self) -> bool:
        """Its output is the number of a class, as after an argmax."""
        last = self.stages[-1]
        integer = isinstance(last, HostStage) and last.output_dtype == torch.int64
        return integer and math.prod(last.output_shape) == 1

    @property
    def weight_bytes(self) -> int:
        """As `Program.weight_bytes`, of all stages on the accelerator."""
        return sum(program.weight_bytes for program in self.programs)

    @property
    def float32_bytes(self) -> int:
        """As `Program.float32_bytes`, of all stages on the accelerator."""
        return sum(program.float32_bytes for program in self.programs)

    @property
    def compression(self) -> float:
        """`float32_bytes` per `weight_bytes`."""
        return self.float32_bytes / self.weight_bytes

    def save(self, path: str | Path) -> None:
        """Write one file with all stages, whole or not at all."""
        hybrid_file.save(self, path)

    def simulate(self, x: torch.Tensor | np.ndarray, *, integer: bool = False) -> np.ndarray:
        """Run the network in software on float32 images [N, C, H, W].

        Stages on the accelerator give what the RTL gives, bit for bit.

        Returns
        -------
        array [N, *output_shape], float32 or what the last stage on the host gives; with `integer`
        the int8 values of the last stage on the accelerator.

        Raises
        ------
        TypeError, ValueError
            As `Program.quantize_input`; a stage on the host gives values that are not finite to one
            on the accelerator; or `integer` is asked of a last stage on the host.
        """
        values = self._check(x, integer=integer)
        for number, stage in enumerate(self.stages):
            if isinstance(stage, HostStage):
                values = stage.run(values).numpy()
            else:
                last = integer and stage is self.stages[-1]
                values = stage.simulate(self._enter(number, values), integer=last)
        return values

    def cosim(
        self,
        x: torch.Tensor | np.ndarray,
        *,
        integer: bool = False,
        memory: str = "internal",
        latency_cycles: int = 20,
        stall_seed: int | None = None,
    ) -> HybridCosimResult:
        """Run the RTL for the stages on the accelerator, and compare every layer of every image.

        Parameters and errors are those of `Program.cosim` and `simulate`.
        """
        values = self._check(x, integer=integer)
        results = []
        for number, stage in enumerate(self.stages):
            if isinstance(stage, HostStage):
                values = stage.run(values).numpy()
                continue
            result = stage.cosim(
                self._enter(number, values),
                integer=integer and stage is self.stages[-1],
                memory=memory,
                latency_cycles=latency_cycles,
                stall_seed=stall_seed,
            )
            results.append(result)
            values = result.outputs
        total = add_totals([result.total for result in results], self.config)
        return HybridCosimResult(values, tuple(results), total)

    def cycles(self, memory: MemoryModel | None = None) -> HybridCycles:
        """Count the cycles of the stages on the accelerator, and say what is left to the host."""
        stages = tuple(
            self._host_cost(number) if isinstance(stage, HostStage) else stage.cycles(memory)
            for number, stage in enumerate(self.stages)
        )
        totals = [stage.total for stage in stages if isinstance(stage, CycleTable)]
        return HybridCycles(stages, add_totals(totals, self.config))

    def _host_cost(self, number: int) -> HostCost:
        stage = self.stages[number]
        input_bytes, output_bytes = stage.input_bytes, stage.output_bytes
        if number > 0:
            output = self.stages[number - 1].graph.output
            input_bytes = math.prod(output.shape) * (4 if output.raw else 1)
        if number + 1 < len(self.stages):
            output_bytes = math.prod(stage.output_shape)
        return HostCost(stage.operators, input_bytes, output_bytes)

    def _check(self, x: torch.Tensor | np.ndarray, *, integer: bool) -> torch.Tensor:
        if integer and isinstance(self.stages[-1], HostStage):
            raise ValueError(
                "integer outputs need a last stage on the accelerator, but this network's runs on "
                "the host: leave out integer=True"
            )
        return torch.as_tensor(check_images(x, shape=self.input_shape))

    def _enter(self, number: int, values: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Images for a stage on the accelerator."""
        images = torch.as_tensor(values)
        if number and not bool(torch.isfinite(images).all()):
            raise ValueError(
                f"stage {number} on the host gives NaN or infinite values, which stage "
                f"{number + 1} on the accelerator cannot take"
            )
        return images.reshape(len(images), *self.stages[number].graph.input.shape)
