"""From an ONNX network, float or quantized in the QDQ form, to a float graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from coprune.compiler.expressions import (
    Expression,
    GraphBuilder,
    Sum,
    UnsupportedError,
    View,
)
from coprune.compiler.float_graph import FloatGraph, FloatTensor
from coprune.compiler.fusion import join_functions
from coprune.compiler.roundings import Joining, Roundings, check_grid, text
from coprune.compiler.scheme import Scheme

from .call import OnnxCall
from .graph import OnnxGraph, load, read
from .nodes import OnnxNode, UnsupportedNodeError
from .operators import MAPPINGS, explain_missing

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_ADDING = frozenset({"Add", "Sum"})
_JOINING = _ADDING | {"Relu", "Clip"}
"""Operators that join the layer of the convolution before them."""


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """An ONNX network as the quantizer takes it.

    Parameters
    ----------
    name : str
        The file's, without its ending, or the graph's.
    graph : FloatGraph
    scheme : Scheme
        What the file says about quantization.
    output_shape : tuple of int
        Of one image's output.
    """

    name: str
    graph: FloatGraph
    scheme: Scheme
    output_shape: tuple[int, ...]


def lower_onnx(model: str | Path | onnx.ModelProto | OnnxNetwork) -> OnnxNetwork:
    """Turn an ONNX network into a float graph of fused layers.

    It becomes what `coprune.compiler.frontend.lower` makes of the same network in PyTorch. Where a
    file quantizes the result of a convolution only to add it to something or to clamp it, that
    rounding is left out, because the hardware rounds once; a range with 0 at its end is an
    activation function and stays. Where the file's input is [N, H, W, C] and transposed at once,
    the network takes [N, C, H, W] all the same.

    Parameters
    ----------
    model : str, Path or onnx.ModelProto
        Opset 11 or newer, with one float32 input [N, C, H, W], [N, C, L] or
        [N, C], and one output. An `OnnxNetwork`
        is returned as it is.

    Raises
    ------
    TypeError
        `model` is none of these.
    FileNotFoundError
        There is no such file.
    UnsupportedNodeError
        An operator, the way it is used, or the scheme of its quantization is not supported.
    ValueError
        The file is damaged, a constant is not finite, or the network has several inputs or outputs.
    """
    if isinstance(model, OnnxNetwork):
        return model
    if not isinstance(model, str | Path | onnx.ModelProto):
        raise TypeError(
            "the network must be an nn.Module, an ExportedProgram, or ONNX as a path or an "
            f"onnx.ModelProto, not {type(model).__name__}"
        )
    graph = read(load(model))
    name = graph.name if isinstance(model, onnx.ModelProto) else Path(model).stem
    return _Lowering(graph).run(name)


class _Lowering:
    """Walks an ONNX graph and collects layers, and the grids of their tensors."""

    def __init__(self, graph: OnnxGraph):
        self._graph = graph
        first = _first_value(graph)
        channels, *size = graph.shape(first)[1:]
        tensor = FloatTensor(graph.input, channels, *[1] * (2 - len(size)), *size)
        self._builder = GraphBuilder(tensor)
        self._roundings = Roundings(self._builder)
        self._values: dict[str, Expression] = {first: View.of(tensor)}
        self._quantized: dict[str, tuple[float, int]] = {}
        """Values that are int8, and their grids."""
        self._requantizable: set[str] = set()
        """Values that were int8 before, so that another grid may follow."""

    def run(self, name: str) -> OnnxNetwork:
        """Lower all nodes."""
        for node in self._graph.nodes:
            if set(node.outputs) & set(self._values):
                continue
            try:
                self._lower(node)
            except UnsupportedError as error:
                raise UnsupportedNodeError(node, reason=str(error)) from error
        output = self._graph.output
        if isinstance(self._values.get(output), View | Sum):
            stored = self._builder.store(self._values[output], name=output)
            graph = self._builder.graph()
            if graph.layers and graph.layers[-1].output == stored.tensor:
                self._roundings.settle(graph)
                shape = self._graph.shape(output)[1:]
                graph, names = join_functions(graph)
                scheme = self._roundings.scheme.renamed(names)
                return OnnxNetwork(name, graph, scheme, shape)
        raise ValueError("the network's output must be computed from its input")

    def _lower(self, node: OnnxNode) -> None:
        if not any(name in self._values for name in node.inputs):
            raise UnsupportedError("it must be computed from the input")
        if node.operator == QUANTIZE:
            self._quantize(node)
        elif node.operator == DEQUANTIZE:
            self._dequantize(node)
        else:
            self._map(node)

    def _map(self, node: OnnxNode) -> None:
        if node.operator not in MAPPINGS:
            others = (QUANTIZE, DEQUANTIZE)
            raise UnsupportedError(explain_missing(node.operator, others=others))
        outputs = [name for name in node.outputs if name]
        for name in filter(self._uses, outputs):
            shape = self._graph.shape(name)
            if not shape or shape[0] != self._graph.batch:
                raise UnsupportedError("the first axis must remain the batch")
        activations = [name for name in node.inputs if name in self._values]
        for name in activations:
            if not self._graph.is_float(name):
                raise UnsupportedError(f"{name!r} is quantized, and only {DEQUANTIZE} may read it")
        call = OnnxCall(
            node=node,
            operands=tuple(
                self._values.get(name, self._graph.constants.get(name)) for name in node.inputs
            ),
            operand_shape=self._graph.shape(activations[0])[1:],
            shapes=tuple(self._graph.shape(name)[1:] for name in outputs),
            builder=self._builder,
            scheme=self._roundings.scheme,
        )
        results = MAPPINGS[node.operator](call)
        results = [results] if isinstance(results, View | Sum) else results
        if any(self._uses(name) for name in outputs[len(results) :]):
            raise UnsupportedError("only its first result can be used")
        for name, value in zip(outputs[: len(results)], results, strict=True):
            if isinstance(value, Sum) and self._uses(name) > 1:
                value = self._builder.store(value, name=node.name)
            self._values[name] = value
            if isinstance(value, View) and activations[0] in self._requantizable:
                self._requantizable.add(name)

    def _quantize(self, node: OnnxNode) -> None:
        source, output = node.inputs[0], node.outputs[0]
        grid = self._grid(node)
        self._quantized[output] = grid
        self._values[output] = self._roundings.round(
            self._values[source],
            grid,
            name=node.name,
            tensor=source,
            joining=self._joining(output),
            again=source in self._requantizable,
        )

    def _dequantize(self, node: OnnxNode) -> None:
        source, output = node.inputs[0], node.outputs[0]
        grid = self._grid(node)
        if self._quantized.get(source) != grid:
            known = self._quantized.get(source)
            raise UnsupportedError(
                f"tensor {source!r} is dequantized with {text(grid)}, but was quantized with "
                f"{'nothing' if known is None else text(known)}"
            )
        self._values[output] = self._values[source]
        self._requantizable.add(output)

    def _joining(self, quantized: str) -> Joining | None:
        """What the only node that reads a rounded value does, if it joins the layer before."""
        roundings = self._graph.readers(quantized)
        readers = [each for node in roundings for each in self._graph.readers(node.outputs[0])]
        outputs = {quantized, *(node.outputs[0] for node in roundings)}
        if len(readers) != 1 or self._graph.output in outputs:
            return None
        (reader,) = readers
        constant = any(name in self._graph.constants for name in reader.inputs)
        if reader.operator == "Mul" and not constant:
            return Joining.MULTIPLIES
        if reader.operator not in _JOINING:
            return None
        adds = reader.operator in _ADDING and not constant
        return Joining.ADDS if adds else Joining.CLAMPS

    def _grid(self, node: OnnxNode) -> tuple[float, int]:
        """Scale and int8 zero point of an activation."""
        name = node.inputs[0]
        scale, zero = (self._parameter(node, index) for index in (1, 2))
        if scale is None:
            raise UnsupportedError(f"the scale of tensor {name!r} must be a constant")
        if node.attributes.get("block_size", 0):
            raise UnsupportedError(
                f"tensor {name!r} has a scale for each block, but activations must have one"
            )
        integers = node.outputs[0] if node.operator == QUANTIZE else name
        kind = onnx.helper.tensor_dtype_to_np_dtype(
            self._graph.types[integers].tensor_type.elem_type
        )
        return check_grid(
            float(scale.reshape(-1)[0]),
            0 if zero is None else int(zero.reshape(-1)[0]),
            kind=str(kind),
            scales=scale.size,
            tensor=name,
        )

    def _parameter(self, node: OnnxNode, index: int) -> np.ndarray | None:
        name = node.inputs[index] if index < len(node.inputs) else ""
        constant = self._graph.constants.get(name)
        if name and constant is None:
            raise UnsupportedError(f"{name!r} must be a constant")
        return None if constant is None else constant.value

    def _uses(self, name: str) -> int:
        return len(self._graph.readers(name)) + (name == self._graph.output)


def _first_value(graph: OnnxGraph) -> str:
    """The network's input, or what it is right after channels were moved to the front."""
    readers = graph.readers(graph.input)
    if len(readers) == 1 and readers[0].operator == "Transpose":
        rank = len(graph.shape(graph.input))
        if readers[0].attributes.get("perm") == [0, rank - 1, *range(1, rank - 1)]:
            return readers[0].outputs[0]
    return graph.input
