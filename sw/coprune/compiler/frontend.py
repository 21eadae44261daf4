"""From a PyTorch network, float or quantized, to a float graph."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from coprune.compiler import decomposed
from coprune.compiler.decomposed import DEQUANTIZE, QUANTIZE, WEIGHTS, GivenSteps, Steps
from coprune.compiler.export import export
from coprune.compiler.exported import (
    SUPPORTED,
    ExportedGraph,
    UnsupportedOperatorError,
    is_tensor,
    name_of,
    operation_of,
    yields_tensors,
)
from coprune.compiler.expressions import (
    Expression,
    GraphBuilder,
    Sum,
    UnsupportedError,
    View,
    unique_name,
)
from coprune.compiler.float_graph import FloatGraph, FloatSource, FloatTensor
from coprune.compiler.fusion import join_functions
from coprune.compiler.operators import ADVICE, LOWERINGS, Call
from coprune.compiler.operators.curves import lower_curve, lower_power
from coprune.compiler.operators.elementwise import lower_multiply
from coprune.compiler.roundings import Joining, Roundings, text
from coprune.compiler.scheme import Scheme

__all__ = ["LoweredNetwork", "UnsupportedOperatorError", "export", "lower", "lower_network"]

_FACTORIES = frozenset({"arange", "full", "ones", "zeros"})
"""Operators without operands that always make the same tensor."""
_ADDING = frozenset({"add", "add_", "sub", "sub_"})
_CLAMPING = frozenset(
    name + overwriting
    for name in ("relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max")
    for overwriting in ("", "_")
)
"""With `_ADDING`, operators that join the layer of the convolution before them."""


@dataclass(frozen=True, eq=False)
class LoweredNetwork:
    """A network as the quantizer takes it.

    Parameters
    ----------
    graph : FloatGraph
    scheme : Scheme
        What the network says about its quantization.
    tensors : dict of Node
        Names of the graph's tensors and of functions' arguments by the operators, and the input,
        whose results they hold.
    weights : dict of str
        Operators that have weights, by the names of the `FloatSource` that they became.
    """

    graph: FloatGraph
    scheme: Scheme
    tensors: dict[Node, str]
    weights: dict[str, Node]


def lower(exported: ExportedProgram) -> FloatGraph:
    """Turn an exported network into a float graph; see `lower_network`."""
    return lower_network(ExportedGraph.of_program(exported)).graph


def lower_network(exported: ExportedGraph) -> LoweredNetwork:
    """Turn an exported network into a float graph of fused layers.

    Batch norms, residual additions, activation functions and zero padding end up in the layer of
    the convolution that they follow or precede; operators that do not change values disappear.
    Where the network quantizes and dequantizes, grids and steps are noted, and weights dequantized.

    Parameters
    ----------
    exported : ExportedGraph
        Of a network in evaluation mode, with one output and one input [N, C, H, W], [N, C, L] or
        [N, C]; the float graph's input is [N, C, 1, L] or [N, C, 1, 1] then. Its graph must be as
        `torch.export.export` made it, without decompositions.

    Raises
    ------
    UnsupportedOperatorError
        An operator, the way it is used, or the scheme of its quantization is not supported.
    ValueError
        A parameter is not finite, or the network's output does not depend on its input.
    """
    return _Lowering(exported).run()


class _Lowering:
    """Walks an exported graph and collects layers, and the grids of their tensors."""

    def __init__(self, exported: ExportedGraph):
        self._exported = exported
        shape = exported.input.meta["val"].shape
        self._batch = shape[0]
        channels, *size = map(int, shape[1:])
        tensor = FloatTensor(exported.input.name, channels, *[1] * (2 - len(size)), *size)
        self._builder = GraphBuilder(tensor)
        self._roundings = Roundings(self._builder)
        self._values: dict[Node, Any] = dict(exported.parameters)
        self._values[exported.input] = View.of(tensor)
        self._steps: dict[Node, Steps] = {}
        """Of parameters that were dequantized."""
        self._quantized: dict[Node, tuple[float, int]] = {}
        """Activations that are int8, and their grids."""
        self._requantizable: set[Node] = set()
        """Activations that were int8 before, so that another grid may follow."""
        self._weights: dict[str, Node] = {}
        self._given = GivenSteps()

    def run(self) -> LoweredNetwork:
        """Lower all nodes."""
        for node in self._exported.nodes:
            if node.op != "call_function" or node not in self._exported.readers:
                continue
            if not yields_tensors(node):
                continue  # The size of an axis, which only views use.
            try:
                self._lower(node)
            except UnsupportedError as error:
                raise UnsupportedOperatorError(node, reason=str(error)) from error
        graph = self._finish()
        self._roundings.settle(graph)
        scheme = replace(self._roundings.scheme, weight_scales=self._given.of(graph))
        graph, names = join_functions(graph)
        tensors = {node: names.get(name, name) for node, name in self._tensors().items()}
        return LoweredNetwork(graph, scheme.renamed(names), tensors, self._weights)

    def _lower(self, node: Node) -> None:
        operation = operation_of(node)
        decomposed.refuse_other_schemes(node, operation)
        constant = all(isinstance(self._value(each), torch.Tensor) for each in node.all_input_nodes)
        if constant and operation in DEQUANTIZE:
            name = node.all_input_nodes[0].name
            self._values[node], self._steps[node] = decomposed.dequantize(
                self._arguments(node), name=name
            )
        elif constant:
            self._values[node] = self._fold(node)
        elif operation in QUANTIZE:
            self._quantize(node)
        elif operation in DEQUANTIZE:
            self._dequantize(node)
        elif node.target is operator.getitem:
            self._set(node, self._pick(node))
        else:
            self._set(node, self._call(node, operation))

    def _set(self, node: Node, expression: Expression | list[Expression]) -> None:
        if isinstance(expression, Sum) and len(self._exported.readers[node]) > 1:
            expression = self._builder.store(expression, name=node.name)
        self._values[node] = expression
        if isinstance(expression, View) and node.all_input_nodes[0] in self._requantizable:
            self._requantizable.add(node)

    def _call(self, node: Node, operation: str) -> Expression | list[Expression]:
        if operation not in LOWERINGS:
            supported = f"supported are {', '.join(SUPPORTED)}"
            advice = ADVICE.get(operation)
            raise UnsupportedError(supported if advice is None else f"{advice}; {supported}")
        first = self._check_results(node)
        name = name_of(node)
        if operation in WEIGHTS:
            name = unique_name(name, taken=set(self._weights))
            self._weights[name] = node
        call = Call(
            operation=operation,
            name=name,
            arguments=self._arguments(node),
            shape=tuple(int(size) for size in first.shape[1:]),
            operand_shape=self._operand_shape(node),
            builder=self._builder,
        )
        result = LOWERINGS[operation](call)
        if operation in WEIGHTS:
            argument, axis = WEIGHTS[operation]
            steps = self._steps.get(self._exported.operands[node][argument])
            if steps is not None:
                self._given.add(self._source(name, result), steps, axis=axis)
        return result

    def _source(self, name: str, result: Expression) -> FloatSource:
        """The source that an operator became, in its result or in a layer that it took."""
        for owner in (result, *reversed(self._builder.graph().layers)):
            for source in getattr(owner, "sources", ()):
                if source.name == name:
                    return source
        raise AssertionError(f"{name} has no source")

    def _quantize(self, node: Node) -> None:
        rounded = self._exported.operands[node]["input"]
        grid = decomposed.grid(self._arguments(node), name=rounded.name)
        self._quantized[node] = grid
        self._values[node] = self._roundings.round(
            self._values[rounded],
            grid,
            name=node.name,
            tensor=rounded.name,
            joining=self._joining(node),
            again=rounded in self._requantizable,
        )

    def _dequantize(self, node: Node) -> None:
        integers = self._exported.operands[node]["input"]
        grid = decomposed.grid(self._arguments(node), name=integers.name)
        known = self._quantized.get(integers)
        if known != grid:
            raise UnsupportedError(
                f"tensor {integers.name!r} is dequantized with {text(grid)}, but was quantized "
                f"with {'nothing' if known is None else text(known)}"
            )
        self._values[node] = self._values[integers]
        self._requantizable.add(node)

    def _joining(self, quantized: Node) -> Joining | None:
        """What the only node that reads a rounded value does, if it joins the layer before."""
        readers = self._exported.readers
        found = [each for node in readers[quantized] for each in readers.get(node, [])]
        if len(found) != 1:
            return None
        (reader,) = found
        operation, operands = operation_of(reader), reader.all_input_nodes
        if LOWERINGS.get(operation) in (lower_curve, lower_power):
            return Joining.TABULATES
        if LOWERINGS.get(operation) is lower_multiply and len(operands) == 2:
            constant = any(each in self._exported.parameters for each in operands)
            return None if constant else Joining.MULTIPLIES
        if operation in _CLAMPING:
            return Joining.CLAMPS
        if operation not in _ADDING:
            return None
        constant = len(operands) < 2 or any(each in self._exported.parameters for each in operands)
        return Joining.CLAMPS if constant else Joining.ADDS

    def _check_results(self, node: Node) -> torch.Tensor:
        """Return an operator's first result; all of them must be images of the same batch."""
        value = node.meta["val"]
        results = (value,) if isinstance(value, torch.Tensor) else value
        for result in results:
            if not result.dim() or str(result.shape[0]) != str(self._batch):
                raise UnsupportedError("the first axis must remain the batch")
        if results[0].dtype != torch.float32:
            raise UnsupportedError(f"its result must be float32, not {str(results[0].dtype)[6:]}")
        return results[0]

    def _operand_shape(self, node: Node) -> tuple[int, ...]:
        """Shape of the first operand that is computed from the input, without the batch axis."""
        for operand in node.all_input_nodes:
            if isinstance(self._value(operand), View | Sum):
                return tuple(int(size) for size in operand.meta["val"].shape[1:])
        raise UnsupportedError("it must be computed from the input")

    def _fold(self, node: Node) -> torch.Tensor:
        """Compute an operator of parameters alone."""
        operation = operation_of(node)
        known = bool(node.all_input_nodes) or operation in _FACTORIES
        if not known or operation.endswith("_") or not is_tensor(node):
            raise UnsupportedError("it must be computed from the input")
        # Quantizing is defined for float32.
        kind = torch.float32 if operation in QUANTIZE else torch.float64

        def operand(node: Node) -> torch.Tensor:
            value = self._values[node]
            return value.to(kind) if value.is_floating_point() else value

        arguments, options = torch.fx.map_arg((node.args, node.kwargs), operand)
        result = node.target(*arguments, **options)
        return result.to(torch.float64) if result.is_floating_point() else result

    def _pick(self, node: Node) -> Expression:
        """One of several results of an operator."""
        several, index = self._exported.operands[node].values()
        results = self._values[several]
        if index >= len(results):
            reason = f"its result {index} does not exist on the accelerator"
            raise UnsupportedOperatorError(several, reason=reason)
        return results[index]

    def _finish(self) -> FloatGraph:
        node, builder = self._exported.output, self._builder
        expression = self._values[node]
        if not isinstance(expression, View | Sum):
            raise ValueError("the network's output must be computed from its input")
        stored = builder.store(expression, name=node.name)
        if not builder.graph().layers or builder.graph().layers[-1].output != stored.tensor:
            builder.store(builder.copy(stored, name=node.name), name=node.name)
        return builder.graph()

    def _tensors(self) -> dict[Node, str]:
        tensors: dict[Node, str] = {}
        taken = set()
        arguments = {
            (layer.sources, layer.low, layer.high): layer.requantized
            for layer in self._builder.graph().layers
            if layer.function is not None
        }
        for node, value in self._values.items():
            name = None
            if isinstance(value, View | Sum) and (tensor := self._builder.tensor(value)):
                name = tensor.name
            elif isinstance(value, Sum) and value.function is None:
                name = arguments.get((value.sources, value.low, value.high))
            if name is not None and name not in taken:
                tensors[node] = name
                taken.add(name)
        return tensors

    def _arguments(self, node: Node) -> dict[str, Any]:
        """An operator's arguments, with what is known in place of nodes."""
        return {
            name: self._resolve(argument)
            for name, argument in self._exported.operands[node].items()
        }

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, Node):
            return self._value(argument)
        if isinstance(argument, list | tuple):
            return [self._resolve(item) for item in argument]
        return argument

    def _value(self, node: Node) -> Any:
        return self._values.get(node)
