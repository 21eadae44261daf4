"""What a program costs: counted by the cycle model, or measured on the RTL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import Opcode
from coprune_sim.cycle_model import (
    InstructionTiming,
    MemoryModel,
    ProgramTiming,
    Workload,
    count_cycles,
)
from coprune_sim.graph import IntegerGraph


@dataclass(frozen=True)
class LayerCycles:
    """What a layer costs, and why, by the cycle model.

    Parameters
    ----------
    name, op : str
    macs, nonzero_macs : int
        Multiply-accumulates: all, and those with a weight that is not zero.
    slots : int
        Cycles in which the array works.
    cycles : int
        From the mark of the layer before (or the start) to the mark of this one.
    tiles, drain_bound_tiles, waits, load_bytes, store_bytes
        As in `coprune_sim.cycle_model.result.LayerTiming`.
    compute_floor_cycles : int
        Cycles that the non-zero MACs need with all multipliers busy.
    bus_floor_cycles : int
        Cycles that the layer's bytes need on the bus, which reads and writes at once. They may have
        come while an earlier layer computed.
    multiplier_use : float
        ``nonzero_macs / (multipliers * cycles)``.
    """

    name: str
    op: str
    macs: int
    nonzero_macs: int
    slots: int
    cycles: int
    tiles: int
    drain_bound_tiles: int
    waits: dict[str, int]
    load_bytes: int
    store_bytes: int
    compute_floor_cycles: int
    bus_floor_cycles: int
    multiplier_use: float

    @property
    def floor_cycles(self) -> int:
        """What the layer takes of multipliers or bus, whichever is more.

        No schedule of the whole network takes less than the sum of either.
        """
        return max(self.compute_floor_cycles, self.bus_floor_cycles)

    @property
    def limit(self) -> str:
        """What the floor comes from: ``"multipliers"`` or ``"bus"``."""
        return "bus" if self.bus_floor_cycles > self.compute_floor_cycles else "multipliers"


@dataclass(frozen=True)
class LayerResult:
    """What the RTL's counters say of a layer.

    Parameters
    ----------
    name, op, macs, nonzero_macs, slots, cycles
        As in `LayerCycles`.
    equal : bool
        Integer reference, instruction simulator and RTL agree bit for bit.
    """

    name: str
    op: str
    macs: int
    nonzero_macs: int
    slots: int
    cycles: int
    equal: bool


@dataclass(frozen=True)
class TotalResult:
    """A network's cost.

    Parameters
    ----------
    macs, nonzero_macs, cycles : int
        `cycles` are those from start to interrupt.
    compute_floor_cycles, bus_floor_cycles, multiplier_use
        As in `LayerCycles`.
    """

    macs: int
    nonzero_macs: int
    cycles: int
    compute_floor_cycles: int
    bus_floor_cycles: int
    multiplier_use: float

    @property
    def floor_cycles(self) -> int:
        """Cycles below which no schedule gets."""
        return max(self.compute_floor_cycles, self.bus_floor_cycles)

    @property
    def limit(self) -> str:
        """What the floor comes from: ``"multipliers"`` or ``"bus"``."""
        return "bus" if self.bus_floor_cycles > self.compute_floor_cycles else "multipliers"


@dataclass(frozen=True)
class CycleTable:
    """Cycles per layer and in total, by the cycle model, and every instruction's."""

    layers: tuple[LayerCycles, ...]
    total: TotalResult
    timing: ProgramTiming


def tabulate(
    graph: IntegerGraph, workload: Workload, memory: MemoryModel | None = None
) -> CycleTable:
    """Count a workload's cycles, and hold those of every layer against its work.

    Parameters
    ----------
    graph : IntegerGraph
        Its layers are the workload's.
    workload : Workload
    memory : MemoryModel
        By default one with the latencies that `MemoryModel` has by default.
    """
    timing = count_cycles(workload, memory)
    multipliers, bus_bytes = workload.config.multipliers, workload.config.bus_bytes
    layers = tuple(
        LayerCycles(
            name=layer.name,
            op=layer.operation,
            macs=layer.macs,
            nonzero_macs=layer.nonzero_macs,
            slots=counted.slots,
            cycles=counted.cycles,
            tiles=counted.tiles,
            drain_bound_tiles=counted.drain_bound_tiles,
            waits=counted.waits,
            load_bytes=counted.load_bytes,
            store_bytes=counted.store_bytes,
            compute_floor_cycles=-(-layer.nonzero_macs // multipliers),
            bus_floor_cycles=max(counted.load_bytes, counted.store_bytes) // bus_bytes,
            multiplier_use=layer.nonzero_macs / (multipliers * counted.cycles),
        )
        for layer, counted in zip(graph.layers, timing.layers, strict=True)
    )
    return CycleTable(layers, total_result(graph, workload, cycles=timing.cycles), timing)


def total_result(graph: IntegerGraph, workload: Workload, *, cycles: int) -> TotalResult:
    """Hold a network's cycles against its work."""
    nonzero_macs = sum(layer.nonzero_macs for layer in graph.layers)
    multipliers = workload.config.multipliers
    return TotalResult(
        macs=sum(layer.macs for layer in graph.layers),
        nonzero_macs=nonzero_macs,
        cycles=cycles,
        compute_floor_cycles=-(-nonzero_macs // multipliers),
        bus_floor_cycles=max(workload.beats(unit) for unit in (Opcode.LOAD, Opcode.STORE)),
        multiplier_use=nonzero_macs / (multipliers * cycles),
    )


def add_totals(totals: Sequence[TotalResult], config: AcceleratorConfig) -> TotalResult:
    """The cost of programs that run one after the other on one accelerator."""
    cycles = sum(total.cycles for total in totals)
    nonzero_macs = sum(total.nonzero_macs for total in totals)
    return TotalResult(
        macs=sum(total.macs for total in totals),
        nonzero_macs=nonzero_macs,
        cycles=cycles,
        compute_floor_cycles=sum(total.compute_floor_cycles for total in totals),
        bus_floor_cycles=sum(total.bus_floor_cycles for total in totals),
        multiplier_use=nonzero_macs / (config.multipliers * cycles),
    )


@dataclass(frozen=True)
class CosimResult:
    """What the RTL did.

    Parameters
    ----------
    outputs : float32 array [N, ...]
        Dequantized outputs of the RTL, or if asked for the integers themselves.
    equal : bool
        Every layer of every image is the same in integer reference, instruction simulator and RTL.
    layers, total
        Measured by the RTL's counters.
    counters : dict
        All counters of the first image.
    cycles_per_second : float
        Speed of the co-simulation.
    timeline : tuple of InstructionTiming
        When the instructions ran, for the first image.
    waveform : bytes or None
        An FST file of the first image, if one was asked for.
    """

    outputs: np.ndarray
    equal: bool
    layers: tuple[LayerResult, ...]
    total: TotalResult
    counters: dict[str, int]
    cycles_per_second: float
    timeline: tuple[InstructionTiming, ...]
    waveform: bytes | None = None
