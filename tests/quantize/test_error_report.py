"""Errors of layers, against what the same numbers say when they are computed in one piece."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coprune.compiler.float_graph import evaluate
from coprune.quantize import measure_errors, quantize_traced
from coprune_hw.contract import arithmetic
from coprune_sim import reference

from .networks import branches, chain, curved, images, network, projection, shortcuts


def quantized_network(function):
    return quantize_traced(network(function), [images()])


def on_grid(values, tensor):
    grid = {"scale": tensor.scale, "zero": tensor.zero}
    return arithmetic.quantize(values, **grid).to(torch.int8)


def difference(integers, tensor, exact):
    real = tensor.scale * (integers.astype(np.float64) - tensor.zero)
    return float(np.mean((real - exact.numpy().astype(np.float64)) ** 2))


@pytest.mark.parametrize("function", [shortcuts, projection, branches, curved])
def test_errors_are_those_of_all_images_together(function):
    quantized = quantized_network(function)
    graph, batch = quantized.integers, images(70, seed=2)
    with torch.inference_mode():
        exact = dict(evaluate(quantized.exact, batch))
    rounded = {name: on_grid(values, graph.tensor(name)) for name, values in exact.items()}
    outputs = reference.run(graph, rounded[graph.input.name], keep_layers=True)
    errors = measure_errors(quantized.exact, graph, batch)
    assert [error.name for error in errors] == [layer.name for layer in graph.layers]
    for error, layer in zip(errors, graph.layers, strict=True):
        expected = exact[layer.output.name]
        with reference.exact_convolutions():
            alone = reference.run_layer(layer, graph, rounded).numpy()
        figures = (
            float(expected.double().square().mean()),
            difference(outputs[layer.name], layer.output, expected),
            difference(alone, layer.output, expected),
        )
        # The same float64 sums in another order; convolutions in float32 may depend on the batch.
        assert (error.signal, error.error, error.own_error) == pytest.approx(figures, rel=1e-4)
        assert error.operation == layer.operation
        assert error.sqnr_db == pytest.approx(10 * math.log10(error.signal / error.error))


def test_sums_that_are_not_rounded_have_less_noise():
    model, options = network(chain), {"correct_bias": True}
    rounded, raw = (
        quantize_traced(model, [images()], int32_output=flag, **options) for flag in (False, True)
    )
    rounded, raw = (
        measure_errors(quantized.exact, quantized.integers, images(seed=2))
        for quantized in (rounded, raw)
    )
    assert raw[:-1] == rounded[:-1]
    assert raw[-1].signal == rounded[-1].signal
    # Rounding the output is about half of a last layer's own noise; the weights' is the rest.
    assert 0 < raw[-1].own_error < 0.9 * rounded[-1].own_error


def test_layer_with_wrong_weights_has_the_error_and_those_behind_inherit_it():
    quantized = quantized_network(shortcuts)
    before = measure_errors(quantized.exact, quantized.integers, images())
    layers = list(quantized.integers.layers)
    wrong = replace(layers[1].sources[0], weight=np.flip(layers[1].sources[0].weight, 2).copy())
    layers[1] = replace(layers[1], sources=(wrong, *layers[1].sources[1:]))
    damaged = replace(quantized.integers, layers=tuple(layers))
    after = measure_errors(quantized.exact, damaged, images())
    assert after[0] == before[0]
    assert after[1].own_error > 100 * before[1].own_error
    for error, other in zip(after[2:], before[2:], strict=True):
        assert error.own_error == other.own_error
        assert error.error > 2 * other.error


def test_layer_whose_output_is_exact_has_no_noise():
    quantized = quantized_network(lambda m, x: m.b(F.relu(m.a(x) - 1000)))
    first, second = measure_errors(quantized.exact, quantized.integers, images())
    assert (first.signal, first.error, first.sqnr_db) == (0.0, 0.0, math.inf)
    assert math.isfinite(second.own_sqnr_db)


def test_noise_without_a_signal_is_infinitely_loud():
    quantized = quantized_network(lambda m, x: m.a(x))
    (layer,) = quantized.exact.layers
    silent = replace(layer, low=0.0, high=0.0)
    exact = replace(quantized.exact, layers=(silent,))
    (error,) = measure_errors(exact, quantized.integers, images())
    assert (error.sqnr_db, error.own_sqnr_db) == (-math.inf, -math.inf)


def test_graphs_with_different_layers_are_refused():
    shorter, longer = quantized_network(projection), quantized_network(shortcuts)
    with pytest.raises(
        ValueError, match=r"same layers, not 'max_pool2d' in floats where .* have 'b_1'"
    ):
        measure_errors(shorter.exact, longer.integers, images())
    first = replace(shorter.exact, layers=shorter.exact.layers[:1])
    with pytest.raises(ValueError, match=r"same layers, not 1 in floats where .* have 5"):
        measure_errors(first, shorter.integers, images())


@pytest.mark.parametrize("batch", [torch.zeros(0, 3, 12, 12), torch.zeros(2, 3, 8, 8)])
def test_images_of_another_shape_are_refused(batch):
    quantized = quantized_network(projection)
    with pytest.raises(ValueError, match=r"must have the shape \[N, 3, 12, 12\], not \["):
        measure_errors(quantized.exact, quantized.integers, batch)
