"""The zoo: integer reference, instruction simulator, RTL and cycle model agree on every network."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from coprune import prune, zoo
from coprune.program import count_cycles
from coprune.quantize import quantize
from coprune.results import CycleTable
from coprune_hw.contract import AcceleratorConfig
from coprune_sim import machine
from coprune_sim.cosim import runner
from coprune_sim.graph import IntegerGraph

from .comparison import assert_cycles_equal, assert_layers_equal, assert_rtl_equal, make_case
from .configurations import NARROW, SMALL, WIDE_BUS

LATENCY = 20
PATTERNS = ("dense", "4:16")

PRESET = AcceleratorConfig.preset("16x8")
LARGER = replace(PRESET, activation_depth=2048)
LARGEST = replace(LARGER, slot_depth=16384)
"""For the 512 channels of ResNet-18: a tile of 16 takes 4,608 slots."""
DEFAULT = AcceleratorConfig.preset("16x16")

REDUCED: dict[str, tuple[Callable[[], nn.Module], int | None, AcceleratorConfig]] = {
    "resnet56": (zoo.resnet56, 8, DEFAULT),
    "resnet8": (zoo.resnet8, 16, WIDE_BUS),
    "resnet18": (lambda: zoo.resnet18(width=0.125), 16, SMALL),
    "mobilenetv1": (lambda: zoo.mobilenetv1(resolution=32), None, SMALL),
    "mobilenetv2": (lambda: zoo.mobilenetv2(resolution=32, blocks=7, classes=10), None, DEFAULT),
    "ds-cnn": (lambda: zoo.ds_cnn(channels=24, blocks=2), None, SMALL),
    "autoencoder": (lambda: zoo.autoencoder(width=24), None, NARROW),
    "lenet5": (zoo.lenet5, None, WIDE_BUS),
}
"""Smaller networks, rows and columns of their images if not their own, and where they run."""

WHOLE = {
    "resnet20": PRESET,
    "resnet20-dense": PRESET,
    "resnet32": PRESET,
    "resnet44": PRESET,
    "resnet56": PRESET,
    "resnet8": PRESET,
    "resnet18": LARGEST,
    "mobilenetv1": PRESET,
    "mobilenetv2": LARGER,
    "mobilenetv2-cifar10": PRESET,
    "ds-cnn": PRESET,
    "autoencoder": PRESET,
    "lenet5": PRESET,
}

ELSEWHERE = {"squeezenet"}
"""It has tests of its own."""

DEPTHWISE_USE = 0.5
WHOLE_USE = {
    ("ds-cnn", "dense"): 0.65,
    ("ds-cnn", "4:16"): 0.58,
    ("mobilenetv1", "dense"): 0.65,
    ("mobilenetv1", "4:16"): 0.58,
}
"""Least use of the multipliers at 16 x 8, from start to interrupt."""


def quantize_random(model: nn.Module, *, pattern: str, size: int | None = None) -> IntegerGraph:
    if pattern != "dense":
        prune.prune_pattern(model, "4:16")
    channels, height, width = model.input_shape
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(8, channels, size or height, size or width, generator=generator)
    return quantize(model, [images])


@cache
def whole(name: str, pattern: str) -> IntegerGraph:
    return quantize_random(zoo.build(name), pattern=pattern)


@cache
def count(name: str, pattern: str) -> CycleTable:
    return count_cycles(whole(name, pattern), WHOLE[name])


def assert_all_agree(graph: IntegerGraph, config: AcceleratorConfig) -> None:
    case = make_case(graph, config, seed=6)
    simulated = machine.run(case.machine, case.pixels)
    assert_layers_equal(simulated.layers, simulated.output, expected=case.expected)
    image = runner.run_cpp(case.machine, [case.pixels], latency=LATENCY).images[0]
    assert_rtl_equal(case, image)
    assert_cycles_equal(case.machine, image, latency=LATENCY)


def test_every_network_is_tested():
    assert set(zoo.names()) - set(WHOLE) <= ELSEWHERE
    assert set(WHOLE) <= set(zoo.names())


@pytest.mark.parametrize("name", REDUCED)
def test_reduced_network_is_equal_in_every_layer_and_cycle(name):
    build, size, config = REDUCED[name]
    assert_all_agree(quantize_random(build(), pattern="dense", size=size), config)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", WHOLE)
def test_whole_network_is_equal_in_every_layer_and_cycle(name, pattern):
    assert_all_agree(whole(name, pattern), WHOLE[name])


@pytest.mark.parametrize(("name", "pattern"), WHOLE_USE)
def test_whole_network_uses_the_multipliers(name, pattern):
    assert count(name, pattern).total.multiplier_use >= WHOLE_USE[name, pattern]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "name", ["mobilenetv1", pytest.param("mobilenetv2", marks=pytest.mark.slow), "ds-cnn"]
)
def test_depthwise_layers_use_half_of_the_multipliers(name, pattern):
    depthwise = {
        layer.name
        for layer in whole(name, pattern).layers
        if layer.operation == "conv2d" and layer.sources[0].groups > 1
    }
    layers = [layer for layer in count(name, pattern).layers if layer.name in depthwise]
    macs = sum(layer.nonzero_macs for layer in layers)
    cycles = sum(layer.cycles for layer in layers)
    assert len(layers) > 1
    assert macs >= DEPTHWISE_USE * cycles * WHOLE[name].multipliers
