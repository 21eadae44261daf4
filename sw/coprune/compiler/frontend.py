"""From a PyTorch network to a float graph."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node

from coprune.compiler.expressions import Expression, GraphBuilder, Sum, UnsupportedError, View
from coprune.compiler.float_graph import FloatGraph, FloatTensor
from coprune.compiler.operators import ADVICE, ALIASING, IN_PLACE, LOWERINGS, Call

SUPPORTED = tuple(name for name in LOWERINGS if not name.endswith("_"))
"""Names of the supported operators, without those that only differ in what they overwrite."""

_FACTORIES = frozenset({"arange", "full", "ones", "zeros"})
"""Operators without operands that always make the same tensor."""
_EXAMPLE_IMAGES = 2
"""Images in the batch for which a network is exported: with one, batch and channels look alike."""


class UnsupportedOperatorError(ValueError):
    """The network uses an operator that the accelerator has no counterpart for.

    Parameters
    ----------
    node : torch.fx.Node
        The operator's place in the exported graph.
    reason : str

    Attributes
    ----------
    operator, node, module : str
        The operator, its node in the exported graph, and the path of the module that calls it.
    supported : tuple of str
        The operators that there are.
    """

    supported = SUPPORTED

    def __init__(self, node: Node, *, reason: str):
        super().__init__(
            f"operator {node.target} (node {node.name!r}{_where(node)}) is not supported: {reason}"
        )
        self.node = node.name
        self.operator = str(node.target)
        self.module, _ = _module(node)


def export(model: nn.Module, *, image: tuple[int, ...]) -> ExportedProgram:
    """Export a network for images of one size.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, with one float32 input [N, C, H, W], [N, C, L] or [N, C].
    image : tuple of int
        Shape of the input without its first axis.

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
        Of a network in evaluation mode, with one output and one input [N, C, H, W], [N, C, L] or
        [N, C]; the float graph's input is [N, C, 1, L] or [N, C, 1, 1] then. Its graph must be as
        `torch.export.export` made it, without decompositions.

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
    channels, *size = map(int, network_input.meta["val"].shape[1:])
    tensor = FloatTensor(network_input.name, channels, *[1] * (2 - len(size)), *size)
    builder = GraphBuilder(tensor)
    values: dict[Node, Any] = dict(parameters)
    values[network_input] = View.of(tensor)
    for node in exported.graph.nodes:
        if node.op != "call_function" or not uses.get(node):
            continue
        if not _yields_tensors(node):
            continue  # The size of an axis, which only views use.
        if all(isinstance(values.get(each), torch.Tensor) for each in node.all_input_nodes):
            values[node] = _fold(node, values)
            continue
        if node.target is operator.getitem:
            expression = _pick(node, operands[node], values)
        else:
            expression = _lower_node(node, operands[node], values, builder=builder, batch=batch)
        if isinstance(expression, Sum) and uses[node] > 1:
            expression = builder.store(expression, name=node.name)
        values[node] = expression
    return _finish(_output(exported, operands), values, builder=builder)


def _lower_node(
    node: Node, arguments: dict[str, Any], values: dict[Node, Any], *, builder, batch
) -> Expression | list[Expression]:
    operation = _operation(node)
    if operation not in LOWERINGS:
        supported = f"supported are {', '.join(SUPPORTED)}"
        advice = ADVICE.get(operation)
        raise UnsupportedOperatorError(
            node, reason=supported if advice is None else f"{advice}; {supported}"
        )
    first = _check_results(node, batch=batch)
    try:
        resolved = {name: _resolve(value, values) for name, value in arguments.items()}
        call = Call(
            operation=operation,
            name=_name(node, operation),
            arguments=resolved,
            shape=tuple(int(size) for size in first.shape[1:]),
            operand_shape=_operand_shape(node, values),
            builder=builder,
        )
        return LOWERINGS[operation](call)
    except UnsupportedError as error:
        raise UnsupportedOperatorError(node, reason=str(error)) from error


def _check_results(node: Node, *, batch: int | torch.SymInt) -> torch.Tensor:
    """Return an operator's first result; all of them must be images of the same batch."""
    value = node.meta["val"]
    results = (value,) if isinstance(value, torch.Tensor) else value
    for result in results:
        if not result.dim() or str(result.shape[0]) != str(batch):
            raise UnsupportedOperatorError(node, reason="the first axis must remain the batch")
    if results[0].dtype != torch.float32:
        raise UnsupportedOperatorError(
            node, reason=f"its result must be float32, not {str(results[0].dtype)[6:]}"
        )
    return results[0]


def _operand_shape(node: Node, values: dict[Node, Any]) -> tuple[int, ...]:
    """Shape of the first operand that is computed from the input, without the batch axis."""
    for operand in node.all_input_nodes:
        if isinstance(values.get(operand), View | Sum):
            return tuple(int(size) for size in operand.meta["val"].shape[1:])
    raise UnsupportedError("it must be computed from the input")


def _fold(node: Node, values: dict[Node, Any]) -> torch.Tensor:
    """Compute an operator of parameters alone."""
    known = bool(node.all_input_nodes) or _operation(node) in _FACTORIES
    if not known or _operation(node).endswith("_") or not _is_tensor(node):
        raise UnsupportedOperatorError(node, reason="it must be computed from the input")
    arguments, options = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
    result = node.target(*arguments, **options)
    return result.to(torch.float64) if result.is_floating_point() else result


def _pick(node: Node, arguments: dict[str, Any], values: dict[Node, Any]) -> Expression:
    """One of several results of an operator."""
    results, index = values[arguments[0]], arguments[1]
    if index >= len(results):
        reason = f"its result {index} does not exist on the accelerator"
        raise UnsupportedOperatorError(arguments[0], reason=reason)
    return results[index]


def _finish(node: Node, values: dict[Node, Any], *, builder: GraphBuilder) -> FloatGraph:
    expression = values[node]
    if isinstance(expression, View | Sum):
        stored = builder.store(expression, name=node.name)
        if not builder.graph().layers or builder.graph().layers[-1].output != stored.tensor:
            builder.store(builder.copy(stored, name=node.name), name=node.name)
        return builder.graph()
    raise ValueError("the network's output must be computed from its input")


def _input(exported: ExportedProgram) -> Node:
    names = exported.graph_signature.user_inputs
    nodes = [node for node in exported.graph.nodes if node.op == "placeholder"]
    inputs = [node for node in nodes if node.name in names]
    if len(inputs) != 1 or not _is_tensor(inputs[0]):
        raise ValueError(f"the network must have one input, not {len(names)}")
    value = inputs[0].meta["val"]
    if value.dim() not in (2, 3, 4) or value.dtype != torch.float32:
        raise ValueError(
            f"the network's input must be float32 [N, C, H, W], [N, C, L] or [N, C], not "
            f"{value.dtype} {list(value.shape)}"
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
            _check_overwriting(node, overwritten, nodes=exported.graph.nodes)
            current[overwritten] = node
    return operands


def _check_overwriting(writer: Node, overwritten: Node, *, nodes: Iterable[Node]) -> None:
    """Refuse to overwrite memory that is read again under another name."""
    for node in nodes:
        if node >= writer:
            return
        shared = node is not overwritten and _owner(node) is _owner(overwritten)
        if shared and any(reader > writer for reader in node.users):
            reason = "it overwrites a view of a tensor that is read again"
            raise UnsupportedOperatorError(writer, reason=reason)


def _owner(node: Node) -> Node:
    """The node whose memory the result of a node may be."""
    while node.op == "call_function":
        views = _operation(node) in ALIASING or node.target is operator.getitem
        if not (views or _operation(node) in IN_PLACE):
            break
        node = node.args[0]
    return node


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
        reads = node in operands and (_yields_tensors(node) or node.op == "output")
        if uses.get(node) and reads:
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


def _yields_tensors(node: Node) -> bool:
    value = node.meta.get("val")
    several = isinstance(value, list | tuple) and any(isinstance(v, torch.Tensor) for v in value)
    return several or isinstance(value, torch.Tensor)


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
