"""Networks whose output are the exact sums of the last layer."""

import numpy as np
import pytest
import torch
from torch import nn

import coprune
from coprune.program_file import load
from coprune_sim import reference

from ..end_to_end.configurations import SMALL
from .networks import images, residual


@pytest.fixture(scope="module")
def program():
    return coprune.compile(
        residual(), SMALL, calibration=[images(16), images(7, seed=2)], int32_output=True
    )


def last_sums(program, x: torch.Tensor) -> np.ndarray:
    """What the last layer's weights make of the int8 values before it, zero points taken off."""
    without = coprune.compile(residual(), SMALL, calibration=[images(16), images(7, seed=2)])
    (source,) = program.graph.layers[-1].sources
    layers = reference.run(without.graph, without.quantize_input(x), keep_layers=True)
    before = without.graph.tensor(source.tensor)
    pixels = layers[source.tensor].astype(np.int64).reshape(len(x), -1) - before.zero
    return pixels @ source.weight.astype(np.int64).reshape(len(source.weight), -1).T


def test_integers_are_products_of_weights_and_int8_values_plus_the_bias(program):
    x = images(5, seed=3)
    integers = program.simulate(x, integer=True)
    (source,) = program.graph.layers[-1].sources
    zero = program.graph.tensor(source.tensor).zero
    folded = zero * source.weight.astype(np.int64).sum(axis=(1, 2, 3))
    bias = program.graph.raw_scale.bias + folded
    assert integers.dtype == np.int32
    assert bias.any()
    assert np.array_equal(integers, last_sums(program, x) + bias)


def test_floats_are_the_integers_times_a_step_for_every_channel(program):
    x = images(4, seed=3)
    integers = program.simulate(x, integer=True).astype(np.float64)
    real = (integers * program.graph.raw_scale.step).astype(np.float32)
    assert np.array_equal(real, program.simulate(x))


def test_are_nearer_to_the_float_network_than_int8(program):
    x = images(64, seed=5)
    rounded = coprune.compile(residual(), SMALL, calibration=[images(16), images(7, seed=2)])
    with torch.inference_mode():
        exact = residual()(x).numpy()
    errors = [np.square(each.simulate(x) - exact).mean() for each in (program, rounded)]
    assert errors[0] < errors[1]


def test_rtl_gives_the_same(program):
    x = images(2, seed=6)
    result = program.cosim(x, integer=True)
    assert result.equal
    assert np.array_equal(result.outputs, program.simulate(x, integer=True))


def test_survive_the_program_file(program, tmp_path):
    program.save(tmp_path / "program.coprune")
    x = images(3, seed=7)
    loaded = load(tmp_path / "program.coprune")
    for integer in (False, True):
        before, after = (each.simulate(x, integer=integer) for each in (program, loaded))
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ([nn.ReLU()], "clamps its sums"),
        ([nn.MaxPool2d(2)], "takes a maximum"),
        ([nn.ReLU(), nn.ZeroPad2d(1)], "copies values"),
        ([nn.Sigmoid()], "has an activation function"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_need_a_network_that_ends_with_a_sum(layers, what):
    network = nn.Sequential(nn.Conv2d(3, 6, 3), *layers).eval()
    with pytest.raises(ValueError, match=f"int32_output: the network must end .*{what}"):
        coprune.compile(network, SMALL, calibration=[images(4)], int32_output=True)
