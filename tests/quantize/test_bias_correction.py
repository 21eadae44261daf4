"""Bias correction: which means it restores, and what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.compiler.float_graph import evaluate, evaluate_sum
from coprune.quantize import measure_errors, quantize, quantize_traced
from coprune_hw.contract import arithmetic
from coprune_sim import reference

from .networks import branches, chain, curved, images, network, projection, shortcuts


def quantized_inputs(graph, batch):
    grid = {"scale": graph.input.scale, "zero": graph.input.zero}
    return arithmetic.quantize(batch, **grid).to(torch.int8)


def integer_tensors(graph, batch):
    inputs = quantized_inputs(graph, batch)
    layers = reference.run(graph, inputs, keep_layers=True)
    outputs = {layer.output.name: torch.from_numpy(layers[layer.name]) for layer in graph.layers}
    return {graph.input.name: inputs, **outputs}


def mean_before_activation(graph, layer, tensors, *, step):
    """What sums and bias stand for, on average over images and pixels."""
    raw = replace(layer, output=replace(layer.output, raw=True))
    with reference.exact_convolutions():
        sums = reference.run_layer(raw, graph, tensors).double().mean(dim=(0, 2, 3)).numpy()
    return (sums + layer.bias) * step


def real_step(graph, layer, floats):
    """What one step of the accumulator stands for, per channel."""
    if layer.table is None:
        factor = layer.multiplier * 2.0 ** -(layer.pre_shift + layer.post_shift)
        return factor * layer.output.scale
    # The grid of the function's argument is not kept, but the largest weight has all steps.
    (source,), (exact,) = layer.sources, floats.sources
    largest = exact.weight.abs().amax(dim=(1, 2, 3)).numpy()
    most_steps = np.abs(source.weight).max(axis=(1, 2, 3))
    return graph.tensor(source.tensor).scale * largest / most_steps


def test_known_error_of_constant_inputs_is_removed():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 8, 1)).eval()
    model[0].weight.data.abs_()
    batch = torch.full((4, 3, 5, 5), 0.75)
    errors = {}
    for corrected in (False, True):
        graph = quantize(model, [batch], weight_bits=3, correct_bias=corrected)
        (outputs,) = (integer_tensors(graph, batch)[layer.output.name] for layer in graph.layers)
        real = arithmetic.dequantize(
            outputs.double(), scale=graph.output.scale, zero=graph.output.zero
        )
        errors[corrected] = (real - model(batch).detach()).abs().max() / graph.output.scale
    assert errors[False] > 5
    # Rounding the output is half a step; rounding the bias a hundredth, as weights have 3 bits.
    assert errors[True] < 0.55


@pytest.mark.parametrize("function", [chain, shortcuts, projection, branches, curved])
@pytest.mark.parametrize("options", [{}, {"weight_bits": 4}, {"equalize": True}])
def test_means_before_activations_are_those_of_the_float_network(function, options):
    batches = images(20).split(7)
    quantized = quantize_traced(network(function), batches, correct_bias=True, **options)
    tensors = integer_tensors(quantized.integers, images(20))
    exact = dict(evaluate(quantized.exact, images(20)))
    corrected = 0
    for layer, floats in zip(quantized.integers.layers, quantized.exact.layers, strict=True):
        if layer.operation not in ("conv2d", "linear"):
            continue
        corrected += 1
        unclamped = evaluate_sum(replace(floats, low=-np.inf, high=np.inf), exact)
        expected = unclamped.double().mean(dim=(0, 2, 3)).detach().numpy()
        step = real_step(quantized.integers, layer, floats)
        actual = mean_before_activation(quantized.integers, layer, tensors, step=step)
        # The bias is rounded to a step of the accumulator twice: when its error is measured, and
        # corrected. Another bias can change the step's fixed-point factor, which has 16 bits, and
        # so what the whole sum stands for.
        size = np.abs(layer.bias) * step + np.abs(expected)
        bound = step + 2**-15 * size
        assert (np.abs(actual - expected) <= bound).all(), layer.name
    assert corrected >= 2


def test_layers_without_rounded_weights_stay_as_they_are():
    plain, corrected = (
        quantize(network(projection), [images()], weight_bits=4, correct_bias=flag)
        for flag in (False, True)
    )
    changed = []
    for layer, other in zip(plain.layers, corrected.layers, strict=True):
        same = all(
            np.array_equal(getattr(layer, name), getattr(other, name))
            for name in ("bias", "multiplier", "pre_shift", "post_shift")
        )
        if not same:
            changed.append(layer.name)
        for source, corrected_source in zip(layer.sources, other.sources, strict=True):
            assert np.array_equal(source.weight, corrected_source.weight)
    assert changed == ["a", "b", "c"]


def test_batches_are_one_set_of_images():
    graphs = [
        quantize(network(shortcuts), batches, correct_bias=True)
        for batches in ([images(20)], images(20).split(7))
    ]
    for layer, other in zip(*(graph.layers for graph in graphs), strict=True):
        assert np.array_equal(layer.bias, other.bias)


def test_sums_that_a_correction_makes_too_large_are_refused():
    """As without a correction: each layer is converted again."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    with pytest.raises(
        ValueError, match=r"layer '\S+', channel \d: sums may reach \d+, .* 12 bits"
    ):
        quantize(model, [images()], accumulator_bits=12, correct_bias=True)


def test_four_bit_weights_gain():
    def positive(m, x):
        return m.linear(F.relu(m.c(F.relu(m.b(F.relu(m.a(x)) + 1)) + 1)).mean((2, 3)))

    ratios = []
    for flag in (False, True):
        quantized = quantize_traced(
            network(positive), [images(64)], weight_bits=4, correct_bias=flag
        )
        errors = measure_errors(quantized.exact, quantized.integers, images(64, seed=2))
        ratios.append(errors[-1].sqnr_db)
    assert ratios[1] > ratios[0] + 6
