"""From a PyTorch network to a float graph."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node

from coprune.compiler.expressions import Expression, GraphBuilder, Sum, UnsupportedError, View
from coprune.compiler.float_graph import FloatGraph, FloatTensor
from coprune.compiler.operators import ALIASING, IN_PLACE, LOWERINGS, Call

_EXAMPLE_IMAGES = 2
"""Images in the batch for which a network is exported: with one, batch and channels look alike."""


class UnsupportedOperatorError(ValueError):
    """The network uses an operator that the accelerator has no counterpart for.

    Parameters
    ----------
    node : torch.fx.Node
        The operator's place in the exported graph.
    reason : str
    """

    def __init__(self, node: Node, *, reason: str):
        super().__init__(
            f"operator {node.target} (node {node.name!r}{_where(node)}) is not supported: {reason}"
        )
        self.node = node.name
        self.operator = str(node.target)


def export(model: nn.Module, *, image: tuple[int, int, int]) -> ExportedProgram:
    """Export a network for images of one size.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, with one float32 input [N, C, H, W].
    image : tuple of int
        Channels, height, width.

    Raises
    ------
    ValueError
        The network, or a part of it, is in training mode.
    """
    for name, module in model.named_modules():
        if module.training:
            part = f"its module {name!r}" if name else "the network"
            raise ValueError(f"{part} is in training mode: call eval() first")
    parameter = next(model.parameters(), torch.empty(0))
    example = torch.zeros(_EXAMPLE_IMAGES, *image, device=parameter.device)
    with torch.no_grad():
        return torch.export.export(model, (example,))


def lower(exported: ExportedProgram) -> FloatGraph:
    """Turn an exported network into a float graph of fused layers.

    Batch norms, residual additions, activation functions and zero padding end up in the layer of
    the convolution that they follow or precede; operators that do not change values disappear.

    Parameters
    ----------
    exported : ExportedProgram
        Of a network in evaluation mode, with one input [N, C, H, W] and one output. Its graph must
        be as `torch.export.export` made it, without decompositions.

    Raises
    ------
    UnsupportedOperatorError
        An operator, or the way it is used, is not supported.
    ValueError
        A parameter is not finite, or the network has several inputs or outputs.
    """
    network_input = _input(exported)
    parameters = _parameters(exported)
    operands = _operands(exported)
    uses = _uses(exported, operands)
    batch = network_input.meta["val"].shape[0]
    tensor = FloatTensor(network_input.name, *map(int, network_input.meta["val"].shape[1:]))
    builder = GraphBuilder(tensor)
    values: dict[Node, Any] = dict(parameters)
    values[network_input] = View.of(tensor)
    for node in exported.graph.nodes:
        if node.op != "call_function" or not uses.get(node):
            continue
        if not _is_tensor(node):
            continue  # The size of an axis, which only views use.
        expression = _lower_node(node, operands[node], values, builder=builder, batch=batch)
        if isinstance(expression, Sum) and uses[node] > 1:
            expression = builder.store(expression, name=node.name)
        values[node] = expression
    return _finish(_output(exported, operands), values, builder=builder)


def _lower_node(
    node: Node, arguments: dict[str, Any], values: dict[Node, Any], *, builder, batch
) -> Expression:
    operation = _operation(node)
    if operation not in LOWERINGS:
        supported = ", ".join(name for name in LOWERINGS if not name.endswith("_"))
        raise UnsupportedOperatorError(node, reason=f"supported are {supported}")
    shape = node.meta["val"].shape
    if not len(shape) or str(shape[0]) != str(batch):
        raise UnsupportedOperatorError(node, reason="the first axis must remain the batch")
    try:
        arguments = {name: _resolve(value, values) for name, value in arguments.items()}
        operand = next(filter(_is_tensor, node.all_input_nodes))
        call = Call(
            operation=operation,
            name=_name(node, operation),
            arguments=arguments,
            shape=tuple(int(size) for size in shape[1:]),
            operand_shape=tuple(int(size) for size in operand.meta["val"].shape[1:]),
            builder=builder,
        )
        return LOWERINGS[operation](call)
    except UnsupportedError as error:
        raise UnsupportedOperatorError(node, reason=str(error)) from error


def _finish(node: Node, values: dict[Node, Any], *, builder: GraphBuilder) -> FloatGraph:
    expression = values[node]
    if isinstance(expression, View | Sum):
        stored = builder.store(expression, name=node.name)
        graph = builder.graph()
        if graph.layers and graph.layers[-1].output == stored.tensor:
            return graph
    raise ValueError("the network's output must be computed from its input")


def _input(exported: ExportedProgram) -> Node:
    names = exported.graph_signature.user_inputs
    nodes = [node for node in exported.graph.nodes if node.op == "placeholder"]
    inputs = [node for node in nodes if node.name in names]
    if len(inputs) != 1 or not _is_tensor(inputs[0]):
        raise ValueError(f"the network must have one input, not {len(names)}")
    value = inputs[0].meta["val"]
    if value.dim() != 4 or value.dtype != torch.float32:
        raise ValueError(
            f"the network's input must be float32 [N, C, H, W], not {value.dtype} "
            f"{list(value.shape)}"
        )
    if not all(isinstance(size, int) for size in value.shape[1:]):
        raise ValueError(f"the size of images must be fixed, not {list(value.shape)}")
    return inputs[0]


def _output(exported: ExportedProgram, operands: dict[Node, dict[str, Any]]) -> Node:
    outputs = operands[exported.graph.output_node()]["outputs"]
    if len(outputs) != 1 or not isinstance(outputs[0], Node):
        raise ValueError(f"the network must have one output, not {len(outputs)}")
    return outputs[0]


def _parameters(exported: ExportedProgram) -> dict[Node, torch.Tensor]:
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    parameters = {}
    for node in exported.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in names:
            name = names[node.name]
            value = exported.state_dict.get(name, exported.constants.get(name))
        elif node.name in constants:
            name = constants[node.name]
            value = exported.constants[name]
        else:
            continue
        if value.is_floating_point():
            value = value.detach().cpu().to(torch.float64)
            if not value.isfinite().all():
                raise ValueError(f"parameter {name!r} holds NaN or infinity")
        parameters[node] = value
    return parameters


def _operands(exported: ExportedProgram) -> dict[Node, dict[str, Any]]:
    """Arguments of every node by name, with operands that were overwritten replaced.

    An in-place operator changes what later readers of its operand see, so from there on they read
    the operator's result.
    """
    current: dict[Node, Node] = {}

    def resolve(node: Node) -> Node:
        while node in current:
            node = current[node]
        return node

    operands = {}
    for node in exported.graph.nodes:
        if node.op == "output":
            outputs = torch.fx.map_arg(node.args[0], resolve)
            operands[node] = {"outputs": tuple(outputs)}
        if node.op != "call_function":
            continue
        arguments = torch.fx.map_arg(_bind(node), resolve)
        operands[node] = arguments
        if _operation(node) in IN_PLACE:
            overwritten = next(iter(arguments.values()))
            shares = overwritten.op == "call_function" and _operation(overwritten) in ALIASING
            if shares and _read_after(overwritten.args[0], node):
                reason = "it overwrites a view of a tensor that is read again"
                raise UnsupportedOperatorError(node, reason=reason)
            current[overwritten] = node
    return operands


def _read_after(node: Node, writer: Node) -> bool:
    return any(reader > writer for reader in node.users)


def _bind(node: Node) -> dict[str, Any]:
    """Arguments of an operator by name, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(enumerate(node.args))
    bound = {}
    for position, argument in enumerate(schema.arguments):
        if position < len(node.args):
            bound[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value
    return bound


def _uses(exported: ExportedProgram, operands: dict[Node, dict[str, Any]]) -> dict[Node, int]:
    """How often the nodes that the output depends on are read."""
    uses: dict[Node, int] = {exported.graph.output_node(): 1}

    def count(node: Node) -> Node:
        uses[node] = uses.get(node, 0) + 1
        return node

    for node in reversed(exported.graph.nodes):
        if uses.get(node) and node in operands and (_is_tensor(node) or node.op == "output"):
            torch.fx.map_arg(operands[node], count)
    return uses


def _resolve(argument: Any, values: dict[Node, Any]) -> Any:
    if isinstance(argument, Node):
        return values.get(argument)
    if isinstance(argument, list | tuple):
        return [_resolve(item, values) for item in argument]
    return argument


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _operation(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return str(node.target) if schema is None else schema.name.split("::")[-1]


def _name(node: Node, operation: str) -> str:
    """The module that the operator is, or its module and itself."""
    path, kind = _module(node)
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    leaf = kind.startswith("torch.nn.modules.") and ".container." not in kind
    if path and leaf:
        return path
    return ".".join(filter(None, (path, operation.rstrip("_"))))


def _module(node: Node) -> tuple[str, str | type]:
    """Path and class of the innermost module that the operator belongs to."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1] if stack else ("", "")


def _where(node: Node) -> str:
    """The module and the user's source line that an operator comes from."""
    path, _ = _module(node)
    module = f" of module {path!r}" if path else ""
    frames = re.findall(
        r'File "([^"]+)", line (\d+), in \w+\n\s*(.*)', node.meta.get("stack_trace") or ""
    )
    own = [frame for frame in frames if "/torch/nn/" not in frame[0].replace("\\", "/")]
    if not own:
        return module
    file, line, code = own[-1]
    return f"{module}, {file}:{line}: {code.strip()}"
