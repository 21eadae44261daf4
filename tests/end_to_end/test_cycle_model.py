"""The cycle model against the RTL: random layers, and ResNet-20 in many shapes."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from coprune import prune, zoo
from coprune.data import cifar10
from coprune.program import compile_graph
from coprune.quantize import quantize
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.program import MachineProgram
from coprune_sim.cosim import runner
from coprune_sim.cosim.result import CosimImage
from coprune_sim.cycle_model import MemoryModel, Pauses, bound_cycles, count_cycles
from coprune_sim.graph import IntegerGraph

from ..graphs import GRAPHS, single_layer_graph
from .comparison import assert_cycles_equal
from .configurations import NARROW, SMALL, WIDE_BUS

LATENCIES = (0, 20, 100)

RANDOM_LAYERS = 300
TOGETHER = 10
"""Random layers in one test."""
RANDOM_CONFIGS = (SMALL, WIDE_BUS, NARROW)

PATTERNS = ("dense", "2:16", "4:16", "8:16", "unstructured 75 %")
PRESETS = ("8x8", "16x8", "16x16")
BUSES = (64, 128)


def measure(program: MachineProgram, *, latency: int) -> CosimImage:
    return runner.run_cpp(program, [no_pixels(program)], latency=latency).images[0]


def no_pixels(program: MachineProgram) -> np.ndarray:
    return np.zeros((program.input.channels, program.input.height, program.input.width), np.int8)


@pytest.mark.parametrize("first_seed", range(0, RANDOM_LAYERS, TOGETHER))
def test_is_exact_for_random_layers(first_seed):
    for seed in range(first_seed, first_seed + TOGETHER):
        config = RANDOM_CONFIGS[seed % len(RANDOM_CONFIGS)]
        latency = LATENCIES[seed // len(RANDOM_CONFIGS) % len(LATENCIES)]
        program = compile_graph(single_layer_graph(seed=seed), config).machine
        assert_cycles_equal(program, measure(program, latency=latency), latency=latency)


def longest_pause(seed: int, *, share: float, cycles: int) -> int:
    """The `burst` of the `Pauses` of memory.v in its first cycles, by its own random numbers."""
    mask = (1 << 64) - 1
    state = seed << 32 | ~seed & 0xFFFF_FFFF
    numbers = []
    for _ in range(cycles):
        numbers.append(state)
        state ^= state << 13 & mask
        state ^= state >> 7
        state ^= state << 17 & mask
    states = np.array(numbers, np.uint64)
    excess = 0.0
    for channel in range(5):
        paused = (states >> np.uint64(8 * channel) & np.uint64(0xFF)) < runner.STALL_LEVEL
        total = np.concatenate([[0.0], np.cumsum(paused - share)])
        excess = max(excess, (total - np.minimum.accumulate(total)).max())
    return int(np.ceil(excess))


def assert_within_bounds(program: MachineProgram, *, latency: int, seed: int) -> None:
    image = runner.run_cpp(program, [no_pixels(program)], latency=latency, seed=seed).images[0]
    share = 0.35
    burst = longest_pause(seed, share=share, cycles=2 * image.counters["cycles"] + 10_000)
    pauses = Pauses(share=share, burst=burst)
    bounds = bound_cycles(program, MemoryModel(latency, latency), pauses)
    for layer, mark in zip(bounds.marks, image.marks, strict=True):
        assert mark["cycles"] in layer, mark["layer"]
    assert image.counters["cycles"] in bounds.cycles


@pytest.mark.parametrize("network", GRAPHS)
@pytest.mark.parametrize("config", [SMALL, WIDE_BUS, NARROW], ids=("8x4", "8x4 wide", "16x2"))
def test_bounds_hold_with_random_pauses(network, config):
    program = compile_graph(GRAPHS[network](), config).machine
    exact = count_cycles(program, MemoryModel(20, 20)).cycles
    for seed in range(4):
        assert_within_bounds(program, latency=20, seed=seed)
    for pauses in (Pauses(), Pauses(0.5, 100)):
        bounds = bound_cycles(program, MemoryModel(20, 20), pauses)
        assert exact in bounds.cycles


@pytest.mark.parametrize("first_seed", range(1000, 1060, TOGETHER))
def test_bounds_hold_for_random_layers_with_random_pauses(first_seed):
    for seed in range(first_seed, first_seed + TOGETHER):
        config = RANDOM_CONFIGS[seed % len(RANDOM_CONFIGS)]
        program = compile_graph(single_layer_graph(seed=seed), config).machine
        assert_within_bounds(program, latency=LATENCIES[seed // 3 % 3], seed=seed)


def test_bounds_are_close_for_resnet20():
    program = compile_graph(resnet20("4:16"), AcceleratorConfig.preset("16x16")).machine
    assert_within_bounds(program, latency=20, seed=7)
    bounds = bound_cycles(program, MemoryModel(20, 20), Pauses(0.3, 40)).cycles
    assert bounds.highest < 1.15 * bounds.lowest


@cache
def resnet20(pattern: str) -> IntegerGraph:
    """ResNet-20 with weights pruned by magnitude: what it computes does not matter here."""
    model = zoo.build("resnet20-dense")
    if pattern.endswith(":16"):
        prune.prune_pattern(model, pattern)
    elif pattern != "dense":
        prune.prune_weights(model, sparsity=0.75, scope="local")
    images = cifar10.normalize(cifar10.load_sample().calibration.images[:32])
    return quantize(model, [images], accumulator_bits=32)


def list_resnets():
    for preset in PRESETS:
        for bus_bits in BUSES:
            for pattern in PATTERNS:
                for latency in LATENCIES:
                    is_quick = preset == "16x16" and bus_bits == 64
                    marks = [] if is_quick else [pytest.mark.slow]
                    yield pytest.param(preset, bus_bits, pattern, latency, marks=marks)


@pytest.mark.parametrize(("preset", "bus_bits", "pattern", "latency"), list(list_resnets()))
def test_is_exact_for_resnet20(preset, bus_bits, pattern, latency):
    config = replace(AcceleratorConfig.preset(preset), bus_bits=bus_bits)
    program = compile_graph(resnet20(pattern), config).machine
    assert_cycles_equal(program, measure(program, latency=latency), latency=latency)
