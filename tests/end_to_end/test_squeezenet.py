"""SqueezeNet with unstructured weights: all levels agree, in the given and in the found order."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import coprune
from coprune import prune, zoo
from coprune.compiler.channel_order import order_channels
from coprune.compiler.lowering import transform
from coprune.compiler.streams import build_streams
from coprune.program import count_cycles
from coprune.quantize import quantize
from coprune_hw.contract import AcceleratorConfig
from coprune_sim import machine, reference
from coprune_sim.cosim import runner
from coprune_sim.graph import IntegerGraph

from ..zoo.test_squeezenet import WEIGHTS
from .comparison import assert_cycles_equal, assert_layers_equal, assert_rtl_equal, make_case
from .configurations import SMALL

LATENCY = 20
LARGER = replace(AcceleratorConfig.preset("16x8"), activation_depth=2048)


def quantize_random(model: nn.Module, *, deviation: float = 1.0) -> IntegerGraph:
    generator = torch.Generator().manual_seed(6)
    images = deviation * torch.randn(8, *model.input_shape, generator=generator)
    return transform(quantize(model, [images]))


@cache
def small() -> IntegerGraph:
    """Four fire modules with random weights, a third of which is not zero."""
    model = zoo.squeezenet(resolution=32, classes=10, fires=4)
    prune.prune_weights(model, sparsity=0.67, scope="local")
    return quantize_random(model)


@cache
def small_ordered() -> IntegerGraph:
    return order_channels(small(), config=SMALL)


@cache
def public() -> IntegerGraph:
    """All of it with the public weights."""
    model = zoo.load_deep_compression(zoo.SqueezeNet().eval(), weights=WEIGHTS)
    return quantize_random(model, deviation=60.0)


@cache
def public_ordered() -> IntegerGraph:
    return order_channels(public(), config=LARGER)


def count_slots(graph: IntegerGraph, *, lanes: int, skip_zeros: bool = True) -> int:
    return sum(
        int(build_streams(layer, lanes=lanes, skip_zeros=skip_zeros).counts.sum())
        for layer in graph.layers
    )


def assert_all_levels_agree(graph: IntegerGraph, config: AcceleratorConfig) -> None:
    case = make_case(graph, config, seed=7)
    run = machine.run(case.machine, case.pixels)
    assert_layers_equal(run.layers, run.output, expected=case.expected)
    image = runner.run(case.machine, [case.pixels], latency=LATENCY).images[0]
    assert_rtl_equal(case, image)
    assert_cycles_equal(case.machine, image, latency=LATENCY)


def assert_same_output(graph: IntegerGraph, ordered: IntegerGraph) -> None:
    rng = np.random.default_rng(8)
    pixels = rng.integers(-128, 128, (2, *graph.input.shape)).astype(np.int8)
    np.testing.assert_array_equal(reference.run(ordered, pixels), reference.run(graph, pixels))


@pytest.mark.parametrize("graph", [small, small_ordered])
def test_rtl_computes_every_layer_in_the_cycles_of_the_model(graph):
    assert_all_levels_agree(graph(), SMALL)


def test_order_of_channels_does_not_change_the_output():
    assert_same_output(small(), small_ordered())


def test_order_of_channels_saves_cycles():
    given, ordered = (
        count_cycles(graph, SMALL).total.cycles for graph in (small(), small_ordered())
    )
    assert ordered < given


def test_users_get_the_same_outputs_in_fewer_cycles():
    model = zoo.squeezenet(resolution=24, classes=5, fires=2)
    prune.prune_weights(model, sparsity=0.67, scope="local")
    images = torch.randn(4, *model.input_shape, generator=torch.Generator().manual_seed(9))
    given, ordered = (
        coprune.compile(model, SMALL, calibration=[images], channel_order=channel_order)
        for channel_order in (False, True)
    )
    np.testing.assert_array_equal(ordered.simulate(images), given.simulate(images))
    assert ordered.cycles().total.cycles < given.cycles().total.cycles


needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason="the public weights are not part of the project"
)


@needs_weights
@pytest.mark.slow
def test_public_weights_take_half_of_the_dense_slots():
    dense = count_slots(public(), lanes=LARGER.lanes, skip_zeros=False)
    given, ordered = (
        count_slots(graph, lanes=LARGER.lanes) for graph in (public(), public_ordered())
    )
    assert dense / given > 1.80
    assert dense / ordered > 1.95
    assert_same_output(public(), public_ordered())


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("graph", [public, public_ordered])
def test_rtl_computes_the_public_weights(graph):
    assert_all_levels_agree(graph(), LARGER)
