"""Every operator with random shapes and parameters, from PyTorch to the RTL."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

from coprune.compiler.float_graph import evaluate
from coprune.compiler.frontend import export, lower
from coprune.compiler.lowering import transform
from coprune.quantize import quantize
from coprune_sim import machine
from coprune_sim.cosim import runner
from coprune_sim.graph import IntegerGraph

from ..end_to_end.comparison import (
    assert_cycles_equal,
    assert_layers_equal,
    assert_rtl_equal,
    make_case,
)
from ..end_to_end.configurations import SMALL
from .matrix import MATRIX

EXAMPLES = 50
RTL_EXAMPLES = (5, 20, 35)
"""From these on the next one with few layers runs on the RTL; the first are the simplest."""
DEEP = replace(SMALL, mark_depth=128)
"""Holds the many layers of operators that are put together from regions."""
LATENCY = 20


def quantize_example(model: torch.nn.Module, shape: tuple[int, ...]) -> IntegerGraph:
    """Check the float graph against the model, and quantize it."""
    exported = export(model, image=shape)
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    graph = lower(exported)
    with torch.no_grad():
        expected = model(images)
        *_, (_, result) = evaluate(graph, images.reshape(2, *graph.input.shape))
    reach = float(expected.abs().max())
    torch.testing.assert_close(
        result.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4 * reach + 1e-6
    )
    calibration = images.reshape(2, *graph.input.shape)
    return transform(quantize(exported, [calibration], observer="minmax"))


@pytest.mark.parametrize("names", MATRIX, ids="/".join)
def test_torch_reference_simulator_and_rtl_compute_the_same(names):
    numbers, waiting = itertools.count(1), list(RTL_EXAMPLES)

    @settings(
        max_examples=EXAMPLES,
        # The same examples in every run, without a clock.
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(MATRIX[names])
    def check(example):
        graph = quantize_example(*example)
        case = make_case(graph, DEEP, seed=3)
        run = machine.run(case.machine, case.pixels, seed=4)
        assert_layers_equal(run.layers, run.output, expected=case.expected)
        due = next(numbers) >= next(iter(waiting), math.inf)
        if due and len(graph.layers) <= SMALL.mark_depth:
            waiting.pop(0)
            case = make_case(graph, SMALL, seed=3)
            image = runner.run_cpp(case.machine, [case.pixels], latency=LATENCY).images[0]
            assert_rtl_equal(case, image)
            assert_cycles_equal(case.machine, image, latency=LATENCY)

    check()
    assert next(numbers) > EXAMPLES
    assert not waiting
