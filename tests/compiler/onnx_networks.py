"""ONNX networks: exported by PyTorch, made of single nodes, or rewritten in the QDQ form."""

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference
from torch import nn

from coprune_sim.graph import IntegerGraph, Layer

OPSET = 17


def make_model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    image: Sequence[int | str] = (3, 12, 12),
    batch: int | str = "N",
    kind: int = TensorProto.FLOAT,
    output: str = "y",
    opset: int = OPSET,
) -> onnx.ModelProto:
    """A network with the input x and one output."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, [batch, *image])],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    with contextlib.suppress(shape_inference.InferenceError):
        model = shape_inference.infer_shapes(model)
    for value in model.graph.output:
        # The checker wants a shape, and any will do.
        value.type.tensor_type.shape.SetInParent()
    return model


def export(
    model: nn.Module, images: torch.Tensor, *, dynamo: bool = True, folded: bool = True
) -> onnx.ModelProto:
    """A network as one of PyTorch's two exporters writes it, for batches of any size.

    The newer one (`dynamo`) folds batch norms into convolutions where `folded`.
    """
    options = {"dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}}
    if dynamo:
        options = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            names = {"input_names": ["x"], "output_names": ["y"], "verbose": False}
            program = torch.onnx.export(
                model, (images,), dynamo=True, optimize=folded, **names, **options
            )
            return program.model_proto
        file = io.BytesIO()
        torch.onnx.export(
            model,
            (images,),
            file,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            **options,
        )
    return onnx.load_from_string(file.getvalue())


def rewrite_quantized(
    model: onnx.ModelProto, graph: IntegerGraph, *, unsigned: bool = False
) -> onnx.ModelProto:
    """Write the numbers of an integer graph into the float network that it was made of.

    Weights, biases and the tensors that the integer graph stores are quantized; a sum is rounded
    once, after its activation function.

    Parameters
    ----------
    model : onnx.ModelProto
        Convolutions, linear layers and averages in the order of the graph's layers, with additions
        and activation functions between them.
    graph : IntegerGraph
    unsigned : bool
        Activations are uint8 instead of int8.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    writer = _Writer(rewritten, unsigned=unsigned)
    writer.round_tensor("x", scale=graph.input.scale, zero=graph.input.zero)
    layers = iter(graph.layers)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "ReduceMean", "GlobalAveragePool"):
            layer = next(layers)
            if node.op_type in ("Conv", "Gemm"):
                writer.quantize_weights(node, layer, graph=graph)
            end = _end(model, node.output[0])
            writer.round_tensor(end, scale=layer.output.scale, zero=layer.output.zero)
    return writer.finish()


class _Writer:
    def __init__(self, model: onnx.ModelProto, *, unsigned: bool):
        self._model = model
        self._unsigned = unsigned
        self._before: dict[str, list[onnx.NodeProto]] = {}
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._renamed: dict[str, str] = {}

    def quantize_weights(self, node: onnx.NodeProto, layer: Layer, *, graph: IntegerGraph) -> None:
        source = layer.sources[0]
        tensor = graph.tensor(source.tensor)
        factor = layer.multiplier * 2.0 ** -(layer.pre_shift + layer.post_shift).astype(float)
        step = factor * layer.output.scale
        for shortcut in layer.sources[1:]:
            # Its weights tell more exactly what one step of the sum stands for.
            most = shortcut.weight.max(axis=(1, 2, 3))
            exact = graph.tensor(shortcut.tensor).scale / np.maximum(most, 1)
            step = np.where(most, exact, step)
        scale = (step / tensor.scale).astype(np.float32)
        weight = source.weight.reshape(source.weight.shape[: 4 if node.op_type == "Conv" else 2])
        # The integer graph's bias holds the zero points of all sources.
        bias = layer.bias + sum(
            graph.tensor(each.tensor).zero * each.weight.astype(np.int64).sum(axis=(1, 2, 3))
            for each in layer.sources
        )
        outputs = node.output[0]
        self._before[outputs] = [
            self._dequantize(f"{outputs}.weight", weight.astype(np.int8), scale),
            self._dequantize(
                f"{outputs}.bias", bias.astype(np.int32), (scale * tensor.scale).astype(np.float32)
            ),
        ]

    def round_tensor(self, name: str, *, scale: float, zero: int) -> None:
        kind, offset = (np.uint8, 128) if self._unsigned else (np.int8, 0)
        self._add(f"{name}.scale", np.float32(scale))
        self._add(f"{name}.zero", kind(zero + offset))
        parameters = [f"{name}.scale", f"{name}.zero"]
        self._renamed[name] = f"{name}.real"
        self._after[name] = [
            helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}.steps"]),
            helper.make_node("DequantizeLinear", [f"{name}.steps", *parameters], [f"{name}.real"]),
        ]

    def finish(self) -> onnx.ModelProto:
        nodes = list(self._after.get("x", []))
        for node in self._model.graph.node:
            name = node.output[0]
            for index, operand in enumerate(node.input):
                node.input[index] = self._renamed.get(operand, operand)
            if name in self._before:
                nodes += self._before[name]
                inputs = [node.input[0], f"{name}.weight", f"{name}.bias"]
                del node.input[:]
                node.input.extend(inputs)
            nodes += [node, *self._after.get(name, [])]
        graph = self._model.graph
        del graph.node[:], graph.value_info[:]
        graph.node.extend(nodes)
        output = graph.output[0].name
        graph.output[0].name = self._renamed.get(output, output)
        return self._model

    def _dequantize(self, name: str, steps: np.ndarray, scale: np.ndarray) -> onnx.NodeProto:
        self._add(f"{name}.steps", steps)
        self._add(f"{name}.scale", scale)
        names = [f"{name}.steps", f"{name}.scale"]
        return helper.make_node("DequantizeLinear", names, [name], axis=0)

    def _add(self, name: str, value: np.ndarray) -> None:
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _end(model: onnx.ModelProto, name: str) -> str:
    """The last value of the layer that computes a value: after additions and activations."""
    readers = [node for node in model.graph.node if name in node.input]
    if len(readers) == 1 and readers[0].op_type in ("Add", "Relu"):
        return _end(model, readers[0].output[0])
    return name
