"""Weights of fewer bits, and that the machine runs them as they are."""

import numpy as np
import pytest

import coprune
from coprune.quantize import measure_errors, quantize, quantize_traced
from coprune.quantize.weight_width import narrow_weights
from coprune_hw.contract import arithmetic
from coprune_sim import machine, reference

from ..end_to_end.configurations import SMALL
from .networks import chain, images, lowered, mobile, network, shortcuts


@pytest.mark.parametrize("bits", [2, 4, 7])
@pytest.mark.parametrize("function", [chain, shortcuts, mobile])
def test_weights_use_all_of_their_bits_and_no_more(function, bits):
    graph = quantize(network(function), [images()], weight_bits=bits)
    for layer in graph.layers:
        if layer.operation in ("conv2d", "linear"):
            largest = np.abs(layer.sources[0].weight).max()
            assert largest <= (1 << (bits - 1)) - 1
            # Beside a shortcut, the step of the weights is a fraction of that of the shortcut.
            assert len(layer.sources) > 1 or largest == (1 << (bits - 1)) - 1


def test_shortcuts_and_averages_keep_the_bits_of_the_hardware():
    graph = quantize(network(shortcuts), [images()], weight_bits=4)
    shortcut = graph.layers[1].sources[1]
    assert shortcut.selects
    assert np.abs(shortcut.weight).max() > 7
    narrowed = narrow_weights(lowered(network(shortcuts)), bits=4)
    main, shortcut = narrowed.layers[1].sources
    assert (main.weight_bits, shortcut.weight_bits) == (4, None)


def test_eight_bits_are_those_of_the_hardware_but_for_depthwise_ones():
    plain, narrow = (
        quantize(network(shortcuts), [images()], weight_bits=bits) for bits in (None, 8)
    )
    for layer, other in zip(plain.layers, narrow.layers, strict=True):
        for source, narrow_source in zip(layer.sources, other.sources, strict=True):
            assert np.array_equal(source.weight, narrow_source.weight)
    depthwise = quantize(network(mobile), [images()], weight_bits=8).layers[1].sources[0]
    assert np.abs(depthwise.weight).max() == arithmetic.WEIGHT_MAX


def test_every_bit_less_costs_some_of_the_signal():
    ratios = []
    for bits in (8, 6, 4, 2):
        quantized = quantize_traced(network(chain), [images()], weight_bits=bits)
        ratios.append(measure_errors(quantized.exact, quantized.integers, images(seed=2))[-1])
    levels = [error.sqnr_db for error in ratios]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > levels[2] + 8


@pytest.mark.parametrize("function", [shortcuts, mobile])
def test_machine_runs_four_bit_weights_as_they_are(function):
    program = coprune.compile(
        network(function), SMALL, calibration=[images()], weight_bits=4, correct_bias=True
    )
    pixels = program.quantize_input(images(2))
    expected = reference.run(program.graph, pixels)
    for image, output in zip(pixels, expected, strict=True):
        assert np.array_equal(machine.run(program.machine, image).output, output)


@pytest.mark.parametrize("bits", [0, 1, 9, 4.5])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=rf"weight_bits must be 2 to 8, not {bits}"):
        quantize(network(chain), [images()], weight_bits=bits)
