"""An ONNX file as nodes whose constants are computed and whose shapes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from coprune.compiler.expressions import UnsupportedError, unique_name

from .constants import ROUNDINGS, Constant
from .nodes import DOMAINS, OnnxNode, UnsupportedNodeError

OLDEST_OPSET = 11
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_EXAMPLE_IMAGES = 2
"""Images in a batch whose size the file leaves open: with one, batch and channels look alike."""
_LARGEST_ARGUMENT = 64
"""Values in a constant that shapes may depend on: sizes, axes, pads."""


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """The nodes between a network's input and its output.

    Parameters
    ----------
    name, input, output : str
    nodes : tuple of OnnxNode
        In execution order, without those that are constant or that nothing reads.
    constants : dict of Constant
        By name.
    types : dict of onnx.TypeProto
        Of all values, by name.
    """

    name: str
    input: str
    output: str
    nodes: tuple[OnnxNode, ...]
    constants: dict[str, Constant]
    types: dict[str, onnx.TypeProto]

    @property
    def batch(self) -> int:
        """Images in the batch for which the shapes are."""
        return self.shape(self.input)[0]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value."""
        return _shape(self.types[name])

    def is_float(self, name: str) -> bool:
        """The value is real numbers."""
        return self.types[name].tensor_type.elem_type in FLOATS

    def readers(self, name: str) -> list[OnnxNode]:
        """Nodes that read a value, one entry for each time."""
        return [node for node in self.nodes for operand in node.inputs if operand == name]


def load(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """Read an ONNX file and check it.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no ONNX model, is damaged, or is of an opset before 11.
    """
    what = "the model"
    if not isinstance(model, onnx.ModelProto):
        path = Path(model)
        what = str(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such ONNX model: {path}")
        try:
            model = onnx.load(path)
        except Exception as error:
            # protobuf and the reader of external data raise many types.
            raise ValueError(f"{path} is no ONNX model, or is damaged: {error}") from error
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"{what} is no valid ONNX model: {error}") from error
    opset = _opset(model)
    if opset < OLDEST_OPSET:
        raise ValueError(f"{what} must be of opset {OLDEST_OPSET} or newer, not {opset}")
    return model


def read(model: onnx.ModelProto) -> OnnxGraph:
    """Compute all constants and the shapes of all values.

    Raises
    ------
    UnsupportedNodeError
        A node has an unknown operator, a result of unknown shape, or weights in a scheme that the
        hardware does not have.
    ValueError
        The network has several inputs or outputs, or its input is not float32 images.
    """
    if model.functions:
        model = inline_local_functions(model)
    reader = _Reader(model)
    nodes = [reader.visit(node) for node in _named(model.graph.node)]
    output = _output(model.graph)
    return OnnxGraph(
        name=model.graph.name,
        input=reader.input,
        output=output,
        nodes=_live([node for node in nodes if node is not None], output=output),
        constants=reader.constants,
        types=reader.types,
    )


class _Reader:
    """Walks a model: constants are computed, shapes inferred."""

    def __init__(self, model: onnx.ModelProto):
        self._model = model
        self.constants = {
            each.name: Constant(each.name, numpy_helper.to_array(each))
            for each in model.graph.initializer
        }
        self.types = {name: _constant_type(each) for name, each in self.constants.items()}
        inputs = [each for each in model.graph.input if each.name not in self.constants]
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise ValueError(f"the network must have one input, not {len(inputs)}: {names}")
        self.input = inputs[0].name
        self.types[self.input] = _input_type(inputs[0])

    def visit(self, node: OnnxNode) -> OnnxNode | None:
        """Infer the types of a node's results; return it unless they are constants."""
        if node.proto.domain not in DOMAINS:
            raise UnsupportedNodeError(node, reason="it is not one of ONNX's own operators")
        constants = self._fold(node)
        if constants is None:
            self._infer(node)
            return node
        self.constants.update(constants)
        self.types.update({name: _constant_type(each) for name, each in constants.items()})
        return None

    def _fold(self, node: OnnxNode) -> dict[str, Constant] | None:
        """What a node results in whose operands are constants, or matter only by type."""
        if node.operator == "CastLike" and node.inputs[0] in self.constants:
            kind = helper.tensor_dtype_to_np_dtype(self._element_type(node.inputs[1]))
            value = self.constants[node.inputs[0]].value.astype(kind)
            return {node.outputs[0]: Constant(node.outputs[0], value)}
        if node.operator == "Shape":
            shape = np.array(_shape(self.types[node.inputs[0]]), np.int64)
            part = shape[node.attributes.get("start", 0) : node.attributes.get("end")]
            return {node.outputs[0]: Constant(node.outputs[0], part)}
        names = [name for name in node.inputs if name]
        known = node.operator == "Constant" or (names and set(names) <= set(self.constants))
        if not known or any(each.type == each.GRAPH for each in node.proto.attribute):
            return None
        try:
            if node.operator in ROUNDINGS:
                operands = [self.constants.get(name) for name in node.inputs]
                return {node.outputs[0]: ROUNDINGS[node.operator](node, operands)}
            return self._evaluate(node, {name: self.constants[name] for name in names})
        except UnsupportedError as error:
            raise UnsupportedNodeError(node, reason=str(error)) from error

    def _element_type(self, name: str) -> int:
        return self.types[name].tensor_type.elem_type

    def _evaluate(self, node: OnnxNode, operands: dict[str, Constant]) -> dict[str, Constant]:
        outputs = [name for name in node.outputs if name]
        graph = helper.make_graph(
            [node.proto],
            "constant",
            [helper.make_value_info(name, self.types[name]) for name in operands],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import)
        try:
            values = ReferenceEvaluator(model).run(
                None, {name: each.value for name, each in operands.items()}
            )
        except Exception as error:
            # The evaluator is numpy code, which raises many types.
            raise UnsupportedError(f"its constant result cannot be computed: {error}") from error
        results = {
            name: Constant(name, np.asarray(value))
            for name, value in zip(outputs, values, strict=True)
        }
        operand = next(iter(operands.values()), None)
        if node.operator == "Transpose" and operand.scale is not None:
            rank = operand.value.ndim
            order = list(node.attributes.get("perm", range(rank)[::-1]))
            axis = order.index(operand.axis)
            results = {
                name: replace(each, scale=operand.scale, axis=axis)
                for name, each in results.items()
            }
        return results

    def _infer(self, node: OnnxNode) -> None:
        data = {
            name: numpy_helper.from_array(self.constants[name].value, name)
            for name in node.inputs
            if name in self.constants and self.constants[name].value.size <= _LARGEST_ARGUMENT
        }
        try:
            schema = onnx.defs.get_schema(node.proto.op_type, _opset(self._model), "")
            types = shape_inference.infer_node_outputs(
                schema,
                node.proto,
                {name: self.types[name] for name in node.inputs if name},
                data,
                opset_imports=list(self._model.opset_import),
                ir_version=self._model.ir_version,
            )
        except (onnx.defs.SchemaError, shape_inference.InferenceError) as error:
            raise UnsupportedNodeError(node, reason=str(error)) from error
        for name in filter(None, node.outputs):
            if name not in types or not _is_static(types[name]):
                raise UnsupportedNodeError(node, reason="the shape of its result is not known")
            self.types[name] = types[name]


def _named(protos: Sequence[onnx.NodeProto]) -> list[OnnxNode]:
    nodes, taken = [], set()
    for proto in protos:
        name = unique_name(proto.name or next(iter(proto.output)), taken=taken)
        taken.add(name)
        nodes.append(OnnxNode(name, proto))
    return nodes


def _live(nodes: Sequence[OnnxNode], *, output: str) -> tuple[OnnxNode, ...]:
    needed, live = {output}, []
    for node in reversed(nodes):
        if needed & set(node.outputs):
            needed |= set(node.inputs)
            live.append(node)
    return tuple(reversed(live))


def _output(graph: onnx.GraphProto) -> str:
    if len(graph.output) != 1:
        names = ", ".join(each.name for each in graph.output)
        raise ValueError(f"the network must have one output, not {len(graph.output)}: {names}")
    return graph.output[0].name


def _input_type(value: onnx.ValueInfoProto) -> onnx.TypeProto:
    """The input's type, with a batch of a few images where its size is open."""
    tensor = value.type.tensor_type
    axes = [axis.dim_value or axis.dim_param or "?" for axis in tensor.shape.dim]
    if tensor.elem_type != TensorProto.FLOAT or len(axes) not in (2, 3, 4):
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else "unknown"
        raise ValueError(
            f"the network's input {value.name!r} must be float32 [N, C, H, W], [N, C, L] or "
            f"[N, C], not {kind} {axes}"
        )
    if not all(isinstance(size, int) for size in axes[1:]):
        raise ValueError(f"the size of images must be fixed, not {axes}")
    batch = axes[0] if isinstance(axes[0], int) else _EXAMPLE_IMAGES
    return helper.make_tensor_type_proto(TensorProto.FLOAT, [batch, *axes[1:]])


def _opset(model: onnx.ModelProto) -> int:
    versions = [each.version for each in model.opset_import if each.domain in DOMAINS]
    return max(versions, default=1)


def _constant_type(constant: Constant) -> onnx.TypeProto:
    value = constant.value
    # Dequantized values are float64 here so that they are exact, and float32 in the file.
    dequantized = constant.scale is not None
    kind = TensorProto.FLOAT if dequantized else helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_type_proto(kind, value.shape)


def _shape(kind: onnx.TypeProto) -> tuple[int, ...]:
    return tuple(axis.dim_value for axis in kind.tensor_type.shape.dim)


def _is_static(kind: onnx.TypeProto) -> bool:
    tensor = kind.tensor_type
    known = all(axis.HasField("dim_value") for axis in tensor.shape.dim)
    return tensor.HasField("shape") and known
