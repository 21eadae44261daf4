"""The graph that `torch.export` makes of a network: its input, output, parameters and operators."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

from coprune.compiler.operators import ALIASING, IN_PLACE, LOWERINGS

SUPPORTED = tuple(name for name in LOWERINGS if not name.endswith("_"))
"""Names of the supported operators, without those that only differ in what they overwrite."""
_TRAINING = ("training", "train")
"""What operators call the argument that says whether the network is being trained."""


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

    def append(self, advice: str) -> UnsupportedOperatorError:
        """Add to the message, and return the error."""
        self.args = (f"{self}; {advice}",)
        return self


@dataclass(frozen=True, eq=False)
class ExportedGraph:
    """An exported network with one input and one output, ready to be walked.

    Parameters
    ----------
    nodes : tuple of torch.fx.Node
        In execution order.
    input, output : torch.fx.Node
    parameters : dict of Node
        Parameters, buffers and constants; real numbers are float64.
    operands : dict of Node
        Arguments of every operator by name, defaults included. An in-place operator changes what
        later readers of its operand see, so from there on they read the operator's result.
    readers : dict of Node
        What reads the nodes that the output depends on, one entry for each time.
    """

    nodes: tuple[Node, ...]
    input: Node
    output: Node
    parameters: dict[Node, torch.Tensor]
    operands: dict[Node, dict[str, Any]]
    readers: dict[Node, list[Node]]

    @classmethod
    def of_program(cls, program: ExportedProgram) -> ExportedGraph:
        """Read what `torch.export.export` returns.

        Raises
        ------
        UnsupportedOperatorError
            An operator overwrites a view of something that is read again.
        ValueError
            A parameter is not finite, or the network has several inputs or outputs.
        """
        names = program.graph_signature.user_inputs
        inputs = [
            node for node in program.graph.nodes if node.op == "placeholder" and node.name in names
        ]
        return cls._read(program.graph, inputs, _program_parameters(program), training=True)

    @classmethod
    def of_module(cls, module: GraphModule) -> ExportedGraph:
        """Read what `ExportedProgram.module` returns, as it is in evaluation mode.

        Raises
        ------
        UnsupportedOperatorError, ValueError
            As `of_program`.
        """
        inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
        parameters = {
            node: _parameter(node.target, operator.attrgetter(node.target)(module))
            for node in module.graph.nodes
            if node.op == "get_attr"
        }
        return cls._read(module.graph, inputs, parameters, training=False)

    @classmethod
    def _read(
        cls,
        graph: Graph,
        inputs: list[Node],
        parameters: dict[Node, torch.Tensor],
        *,
        training: bool,
    ) -> ExportedGraph:
        """`training` False leaves out that batch norms and dropouts may be in training mode."""
        network_input = _check_input(inputs)
        operands = _operands(graph)
        if not training:
            operands = {
                node: {**arguments, **{name: False for name in _TRAINING if name in arguments}}
                for node, arguments in operands.items()
            }
        return cls(
            nodes=tuple(graph.nodes),
            input=network_input,
            output=_output(graph, operands),
            parameters=parameters,
            operands=operands,
            readers=_readers(graph, operands),
        )


def operation_of(node: Node) -> str:
    """Name of a node's operator, without namespace and overload."""
    schema = getattr(node.target, "_schema", None)
    return str(node.target) if schema is None else schema.name.split("::")[-1]


def name_of(node: Node) -> str:
    """The module that the operator is, or its module and itself."""
    path, kind = _module(node)
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    leaf = kind.startswith("torch.nn.modules.") and ".container." not in kind
    if path and leaf:
        return path
    return ".".join(filter(None, (path, operation_of(node).rstrip("_"))))


def source_of(node: Node) -> str:
    """File, line and text of the user's code that calls an operator; empty where unknown."""
    frames = re.findall(
        r'File "([^"]+)", line (\d+), in \w+\n\s*(.*)', node.meta.get("stack_trace") or ""
    )
    own = [frame for frame in frames if "/torch/nn/" not in frame[0].replace("\\", "/")]
    if not own:
        return ""
    file, line, code = own[-1]
    return f"{file}:{line}: {code.strip()}"


def is_tensor(node: Node) -> bool:
    """The node's result is one tensor."""
    return isinstance(node.meta.get("val"), torch.Tensor)


def yields_tensors(node: Node) -> bool:
    """The node's result is a tensor, or several."""
    value = node.meta.get("val")
    several = isinstance(value, list | tuple) and any(isinstance(v, torch.Tensor) for v in value)
    return several or isinstance(value, torch.Tensor)


def _check_input(inputs: list[Node]) -> Node:
    if len(inputs) != 1 or not is_tensor(inputs[0]):
        raise ValueError(f"the network must have one input, not {len(inputs)}")
    value = inputs[0].meta["val"]
    if value.dim() not in (2, 3, 4) or value.dtype != torch.float32:
        raise ValueError(
            f"the network's input must be float32 [N, C, H, W], [N, C, L] or [N, C], not "
            f"{value.dtype} {list(value.shape)}"
        )
    if not all(isinstance(size, int) for size in value.shape[1:]):
        raise ValueError(f"the size of images must be fixed, not {list(value.shape)}")
    return inputs[0]


def _output(graph: Graph, operands: dict[Node, dict[str, Any]]) -> Node:
    outputs = operands[graph.output_node()]["outputs"]
    if len(outputs) != 1 or not isinstance(outputs[0], Node):
        raise ValueError(f"the network must have one output, not {len(outputs)}")
    return outputs[0]


def _program_parameters(program: ExportedProgram) -> dict[Node, torch.Tensor]:
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    parameters = {}
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in names:
            name = names[node.name]
            value = program.state_dict.get(name, program.constants.get(name))
        elif node.name in constants:
            name = constants[node.name]
            value = program.constants[name]
        else:
            continue
        parameters[node] = _parameter(name, value)
    return parameters


def _parameter(name: str, value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu()
    if not value.is_floating_point():
        return value
    value = value.to(torch.float64)
    if not value.isfinite().all():
        raise ValueError(f"parameter {name!r} holds NaN or infinity")
    return value


def _operands(graph: Graph) -> dict[Node, dict[str, Any]]:
    """Arguments of every node by name, with operands that were overwritten replaced."""
    current: dict[Node, Node] = {}

    def resolve(node: Node) -> Node:
        while node in current:
            node = current[node]
        return node

    operands = {}
    for node in graph.nodes:
        if node.op == "output":
            outputs = torch.fx.map_arg(node.args[0], resolve)
            outputs = (outputs,) if isinstance(outputs, Node) else outputs
            operands[node] = {"outputs": tuple(outputs)}
        if node.op != "call_function":
            continue
        arguments = torch.fx.map_arg(_bind(node), resolve)
        operands[node] = arguments
        if operation_of(node) in IN_PLACE:
            overwritten = next(iter(arguments.values()))
            _check_overwriting(node, overwritten, nodes=graph.nodes)
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
        views = operation_of(node) in ALIASING or node.target is operator.getitem
        if not (views or operation_of(node) in IN_PLACE):
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


def _readers(graph: Graph, operands: dict[Node, dict[str, Any]]) -> dict[Node, list[Node]]:
    readers: dict[Node, list[Node]] = {}
    for node in reversed(graph.nodes):
        live = node.op == "output" or (node in readers and yields_tensors(node))
        if live and node in operands:
            torch.fx.map_arg(
                operands[node],
                lambda operand, reader=node: readers.setdefault(operand, []).append(reader),
            )
    return readers


def _module(node: Node) -> tuple[str, str | type]:
    """Path and class of the innermost module that the operator belongs to."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1] if stack else ("", "")


def _where(node: Node) -> str:
    """The module and the user's source line that an operator comes from."""
    path, _ = _module(node)
    module = f" of module {path!r}" if path else ""
    source = source_of(node)
    return f"{module}, {source}" if source else module
