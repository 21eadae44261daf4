"""Holds every layer of an integer graph against the float simulation that it came from."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Interpreter, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from coprune.compiler.export import export_again
from coprune.compiler.exported import ExportedGraph, operation_of
from coprune.compiler.frontend import lower_network
from coprune.quantize.pt2e import AcceleratorQuantizer
from coprune_hw.contract import arithmetic
from coprune_sim import reference
from coprune_sim.graph import IntegerGraph


@dataclass(frozen=True)
class Agreement:
    """How far a layer is from the simulation, for the same integer inputs, in steps."""

    name: str
    largest: int
    differing: int
    values: int


def prepared(model: nn.Module, batches, *, quantizer=None) -> GraphModule:
    """A network with observers that have seen some images."""
    batch = torch.export.Dim("batch", min=1)
    example = torch.cat([batches[0], batches[0]])
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    module = prepare_pt2e(program.module(), quantizer or AcceleratorQuantizer(observer="minmax"))
    with torch.no_grad():
        for each in batches:
            module(each)
    return module


def converted(model: nn.Module, batches, *, quantizer=None) -> GraphModule:
    """The float simulation of a quantized network."""
    return convert_pt2e(copy.deepcopy(prepared(model, batches, quantizer=quantizer)))


def agreements(simulation: GraphModule, graph: IntegerGraph, images: torch.Tensor):
    """Feed each layer what the simulation feeds it, and compare what comes out.

    Returns
    -------
    list of Agreement
        One for each tensor that the simulation rounds.
    """
    integers = simulated(simulation, images)
    values = {graph.input.name: integers[graph.input.name]}
    results = []
    with torch.inference_mode(), reference.exact_convolutions():
        for layer in graph.layers:
            output = reference.run_layer(layer, graph, values)
            name = layer.output.name
            if name in integers:
                expected = integers[name].reshape(output.shape)
                difference = (output.int() - expected.int()).abs()
                results.append(
                    Agreement(
                        name,
                        int(difference.max()),
                        int(difference.count_nonzero()),
                        difference.numel(),
                    )
                )
                output = expected
            values[name] = output
    return results


def simulated(simulation: GraphModule, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The int8 values that a simulation rounds to, by the names of the float graph's tensors."""
    program = export_again(simulation)
    network = lower_network(ExportedGraph.of_program(program))
    rounded: dict[str, torch.Tensor] = {}

    class Recorder(Interpreter):
        def run_node(self, node: Node):
            result = super().run_node(node)
            if node.op == "call_function" and operation_of(node) == "quantize_per_tensor":
                tensor = tensors.get(node.args[0].name)
                if tensor is not None:
                    offset = 128 if result.dtype == torch.uint8 else 0
                    rounded[tensor] = (result.int() - offset).to(torch.int8)
            return result

    tensors = {node.name: tensor for node, tensor in network.tensors.items()}
    with torch.no_grad():
        Recorder(simulation_module(program)).run(images)
    return rounded


def simulation_module(program) -> GraphModule:
    """The module of a program, for batches of any size."""
    module = program.module()
    for node in list(module.graph.nodes):
        if node.op == "call_module":
            module.graph.erase_node(node)
    module.recompile()
    return module


def input_steps(graph: IntegerGraph, images: torch.Tensor) -> torch.Tensor:
    """Images as the accelerator takes them."""
    grid = {"scale": graph.input.scale, "zero": graph.input.zero}
    return arithmetic.quantize(images, **grid).to(torch.int8)


def output_difference(simulation: GraphModule, graph: IntegerGraph, images) -> np.ndarray:
    """Integer outputs minus the simulation's, in steps, through the whole network."""
    outputs = reference.run(graph, input_steps(graph, images)).astype(np.int64)
    with torch.no_grad():
        expected = simulation(images).double().numpy() / graph.output.scale
    return outputs.reshape(expected.shape) - graph.output.zero - np.rint(expected).astype(np.int64)
