"""A network that arrives as an ONNX file, float or quantized, on the RTL."""

import pytest
import torch

from coprune.quantize import quantize
from coprune_sim import machine
from coprune_sim.cosim import runner

from ..compiler.onnx_networks import export, rewrite_quantized
from ..program.networks import images, residual
from .comparison import assert_cycles_equal, assert_layers_equal, assert_rtl_equal, make_case
from .configurations import SMALL

LATENCY = 20


@pytest.mark.parametrize("form", ["float", "int8"])
def test_onnx_network_is_equal_in_every_layer_and_cycle(form):
    model = residual()
    exported = export(model, torch.zeros(2, 3, 8, 8))
    if form == "int8":
        graph = quantize(rewrite_quantized(exported, quantize(model, [images(16)])))
    else:
        graph = quantize(exported, [images(16)])
    assert [len(layer.sources) for layer in graph.layers] == [1, 2, 1, 1]
    case = make_case(graph, SMALL, seed=5)
    simulated = machine.run(case.machine, case.pixels)
    assert_layers_equal(simulated.layers, simulated.output, expected=case.expected)
    (image,) = runner.run(case.machine, [case.pixels], latency=LATENCY).images
    assert_rtl_equal(case, image)
    assert_cycles_equal(case.machine, image, latency=LATENCY)
