"""The cycle model against the RTL: random layers, and ResNet-20 in many shapes."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from coprune import prune, zoo
from coprune.data import cifar10
from coprune.program import compile_graph
from coprune.quantize import quantize
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.program import MachineProgram
from coprune_sim.cosim import runner
from coprune_sim.graph import IntegerGraph

from ..graphs import single_layer_graph
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


def measure(program: MachineProgram, *, latency: int) -> runner.CosimImage:
    shape = (program.input.channels, program.input.height, program.input.width)
    return runner.run_cpp(program, [np.zeros(shape, np.int8)], latency=latency).images[0]


@pytest.mark.parametrize("first_seed", range(0, RANDOM_LAYERS, TOGETHER))
def test_is_exact_for_random_layers(first_seed):
    for seed in range(first_seed, first_seed + TOGETHER):
        config = RANDOM_CONFIGS[seed % len(RANDOM_CONFIGS)]
        latency = LATENCIES[seed // len(RANDOM_CONFIGS) % len(LATENCIES)]
        program = compile_graph(single_layer_graph(seed=seed), config).machine
        assert_cycles_equal(program, measure(program, latency=latency), latency=latency)


@cache
def resnet20(pattern: str) -> IntegerGraph:
    """ResNet-20 with weights pruned by magnitude: what it computes does not matter here."""
    model = zoo.build("resnet20-dense")
    if pattern.endswith(":16"):
        prune.prune_nm(model, n=int(pattern.removesuffix(":16")), m=16)
    elif pattern != "dense":
        layers = prune.prunable_layers(model)
        masks = {
            name: layer.weight.abs() > torch.quantile(layer.weight.abs(), 0.75)
            for name, layer in layers.items()
        }
        prune.apply_masks(model, masks=masks)
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


@pytest.mark.parametrize(("preset", "bus_bits", "pattern", "latency"), list_resnets())
def test_is_exact_for_resnet20(preset, bus_bits, pattern, latency):
    config = replace(AcceleratorConfig.preset(preset), bus_bits=bus_bits)
    program = compile_graph(resnet20(pattern), config).machine
    assert_cycles_equal(program, measure(program, latency=latency), latency=latency)
