"""Makes an exported network free of operators that overwrite memory, and takes parts out of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from coprune.compiler.exported import UnsupportedOperatorError, operation_of
from coprune.compiler.operators import ALIASING


def make_functional(exported: ExportedProgram) -> Graph:
    """Copy a network's graph with operators that overwrite an operand replaced by others.

    `ExportedProgram.run_decompositions` does that too, but takes batch norms apart.

    Raises
    ------
    UnsupportedOperatorError
        An operator has no counterpart, or overwrites what is read under another name.
    """
    graph = Graph()
    current: dict[Node, Node] = {}
    for node in exported.graph.nodes:
        copied = _copy(graph, node, current)
        schema = getattr(node.target, "_schema", None)
        if node.op == "call_function" and schema is not None and schema.is_mutable:
            copied.target = _counterpart(node)
            before = current[node.args[0]]
            versions = [each for each, version in current.items() if version is before]
            _check_overwriting(node, versions)
            current.update(dict.fromkeys(versions, copied))
        current[node] = copied
    return graph


def extract(
    exported: ExportedProgram, graph: Graph, *, source: Node, result: Node
) -> ExportedProgram:
    """The part of a network that computes one tensor from another.

    Parameters
    ----------
    exported : ExportedProgram
    graph : Graph
        The one that `make_functional` makes of it.
    source, result : Node
        Nodes of the graph. Of what depends on the input, the result needs the source alone; both
        have the batch as their first axis.
    """
    needed = {result}
    for node in reversed(graph.nodes):
        if node in needed and node is not source and not _is_batch(node, source):
            needed.update(node.all_input_nodes)
    needed.discard(source)
    part = Graph()
    copies: dict[Node, Node] = {}
    given = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}
    specs = []
    for node in graph.find_nodes(op="placeholder"):
        if node in needed:
            copies[node] = _copy(part, node, copies)
            specs.append(given[node.name])
    copies[source] = part.placeholder(source.name)
    copies[source].name = source.name
    copies[source].meta = {"val": source.meta["val"]}
    specs.append(InputSpec(InputKind.USER_INPUT, TensorArgument(source.name), None))
    for node in graph.nodes:
        if node not in needed or node in copies:
            continue
        if _is_batch(node, source):
            copies[node] = part.call_function(torch.ops.aten.sym_size.int, (copies[source], 0))
            copies[node].meta = {"val": source.meta["val"].shape[0]}
        else:
            copies[node] = _copy(part, node, copies)
    return _assemble(exported, part, specs, source=copies[source], result=copies[result])


def _copy(graph: Graph, node: Node, copies: dict[Node, Node]) -> Node:
    """Append a node to another graph, under its name, by which signatures and errors know it."""
    copied = graph.node_copy(node, copies.__getitem__)
    copied.name = node.name
    return copied


def _assemble(
    exported: ExportedProgram,
    graph: Graph,
    specs: Sequence[InputSpec],
    *,
    source: Node,
    result: Node,
) -> ExportedProgram:
    """An exported program of a graph that has all but its output."""
    graph.output((result,)).meta["val"] = (result.meta["val"],)
    arguments = TensorArgument(source.name), TensorArgument(result.name)
    call = ModuleCallSignature(
        inputs=[arguments[0]],
        outputs=[arguments[1]],
        in_spec=pytree.tree_structure(((0,), {})),
        out_spec=pytree.tree_structure(0),
    )
    targets = {spec.target for spec in specs}
    return ExportedProgram(
        root=GraphModule(exported.graph_module, graph),
        graph=graph,
        graph_signature=ExportGraphSignature(
            list(specs), [OutputSpec(OutputKind.USER_OUTPUT, arguments[1], None)]
        ),
        state_dict={
            name: exported.state_dict[name] for name in exported.state_dict if name in targets
        },
        range_constraints=exported.range_constraints,
        module_call_graph=[ModuleCallEntry("", call)],
        constants={
            name: exported.constants[name] for name in exported.constants if name in targets
        },
    )


def _is_batch(node: Node, source: Node) -> bool:
    """Is it the number of images, which every part knows from its own input?"""
    value = node.meta.get("val")
    return isinstance(value, torch.SymInt) and str(value) == str(source.meta["val"].shape[0])


def _counterpart(node: Node) -> torch._ops.OpOverload:
    """The operator that returns what one that overwrites its first operand leaves there."""
    written = [
        each.alias_info is not None and each.alias_info.is_write
        for each in node.target._schema.arguments
    ]
    packet = getattr(torch.ops.aten, operation_of(node).removesuffix("_"), None)
    found = getattr(packet, node.target._overloadname, None)
    if found is None or found._schema.is_mutable or written[0] is not True or any(written[1:]):
        reason = "it overwrites an operand, and there is no operator that returns the same instead"
        raise UnsupportedOperatorError(node, reason=reason)
    return found


def _check_overwriting(writer: Node, versions: Sequence[Node]) -> None:
    """Refuse to overwrite memory that is read again under another name than some nodes."""
    owner = _owner(versions[0])
    for node in writer.graph.nodes:
        if node is writer:
            return
        if (
            node not in versions
            and _owner(node) is owner
            and any(each > writer for each in node.users)
        ):
            reason = "it overwrites a view of a tensor that is read again"
            raise UnsupportedOperatorError(writer, reason=reason)


def _owner(node: Node) -> Node:
    """The node whose memory the result of a node may be."""
    while node.op == "call_function" and node.args and isinstance(node.args[0], Node):
        schema = getattr(node.target, "_schema", None)
        aliases = schema is not None and any(each.alias_info is not None for each in schema.returns)
        views = operation_of(node) in ALIASING or node.target is operator.getitem
        if not (aliases or views):
            break
        node = node.args[0]
    return node
