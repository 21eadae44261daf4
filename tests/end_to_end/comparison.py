"""Programs with what they must compute, and the comparison of all layers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coprune.program import compile_graph
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.program import MachineProgram, collect_layers
from coprune_hw.contract.registers import COUNTERS, State
from coprune_sim import reference
from coprune_sim.cosim.result import CosimImage
from coprune_sim.cycle_model import MemoryModel, ProgramTiming, count_cycles
from coprune_sim.graph import IntegerGraph


@dataclass(frozen=True)
class Case:
    """A program, an input, and what the integer reference makes of it, layer by layer."""

    machine: MachineProgram
    pixels: np.ndarray
    expected: Mapping[str, np.ndarray]


def make_case(graph: IntegerGraph, config: AcceleratorConfig, *, seed: int) -> Case:
    """Compile a graph and run the integer reference on random pixels."""
    program = compile_graph(graph, config)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(-128, 128, graph.input.shape).astype(np.int8)
    expected = reference.run(program.graph, pixels[None], keep_layers=True)
    return Case(program.machine, pixels, {name: values[0] for name, values in expected.items()})


def assert_layers_equal(
    layers: Mapping[str, np.ndarray], output: np.ndarray, *, expected: Mapping[str, np.ndarray]
) -> None:
    """Every layer is as expected, and so is the output region; the first mismatch is reported."""
    assert list(layers) == list(expected)
    last = list(expected)[-1]
    for name, actual, wanted in (
        *((name, layers[name], expected[name]) for name in expected),
        ("output region", output, expected[last]),
    ):
        if not np.array_equal(actual, wanted):
            at = tuple(np.argwhere(actual != wanted)[0].tolist())
            raise AssertionError(f"{name} at {at} is {actual[at]}, must be {wanted[at]}")


def assert_rtl_equal(case: Case, image: CosimImage) -> None:
    """The RTL is done, and has computed what the integer reference has."""
    assert image.state == State.DONE, image.error.name
    layers = collect_layers(case.machine, image.drained)
    assert_layers_equal(layers, image.output, expected=case.expected)


def assert_cycles_equal(
    program: MachineProgram, image: CosimImage, *, latency: int
) -> ProgramTiming:
    """The cycle model gives every counter at every mark, and every instruction's cycles."""
    timing = count_cycles(program, MemoryModel(latency, latency))
    measured = [{name: mark[name] for name in COUNTERS} for mark in image.marks]
    for layer, mark in zip(timing.layers, measured, strict=True):
        assert layer.marks == mark, f"counters at the mark of {layer.name}"
    assert timing.counters == image.counters
    assert timing.instructions == image.timeline
    for layer in timing.layers:
        assert layer.slots + sum(layer.waits.values()) == layer.cycles
        assert min(layer.waits.values()) >= 0
    return timing
