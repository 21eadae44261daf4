"""Divides a network between the accelerator and the host.

A cut is a tensor through which every path from the input to the output goes, so that nothing but it
passes from what is before to what is after. Between neighbouring cuts lies a segment: a residual
block, a squeeze-and-excite block, or a single operator. The accelerator takes runs of segments that
`coprune.compiler.frontend.lower` takes together, the host everything else, whole segments too.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from coprune.compiler.exported import UnsupportedOperatorError, operation_of
from coprune.compiler.frontend import lower
from coprune.compiler.functional import extract, make_functional

MATRIX_OPERATORS = frozenset(
    ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear", "matmul", "mm", "addmm")
)
"""Operators that make a part of a network worth the way to the accelerator."""
_INPUT_AXES = (2, 3, 4)
"""Axes that a tensor may have to be the accelerator's input."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a network with one tensor in and one out.

    Parameters
    ----------
    exported : ExportedProgram
        That part.
    on_host : bool
        It does not run on the accelerator.
    """

    exported: ExportedProgram
    on_host: bool


def divide(exported: ExportedProgram) -> tuple[Segment, ...]:
    """Divide a network into segments for the host and for the accelerator, in execution order.

    A part that the accelerator could run, but without a convolution or a matrix product, joins the
    parts for the host beside it: the way to the accelerator would cost more than it gains.

    Parameters
    ----------
    exported : ExportedProgram
        As `coprune.compiler.frontend.lower` takes it, but of any operators.

    Raises
    ------
    UnsupportedOperatorError
        No convolution or matrix product is left for the accelerator; an operator overwrites memory
        in a way that cannot be followed; or the output has not the batch as its first axis.
    ValueError
        The network has several inputs or outputs, or a parameter is not finite.
    """
    network = _Network.of(exported)
    parts: list[tuple[int, int, bool]] = []
    refusals = []
    first = 0
    while first < len(network.cuts) - 1:
        last, refusal = network.reach(first)
        if refusal is not None:
            refusals.append(refusal)
        whole = (first, last) == (0, len(network.cuts) - 1)
        on_host = last == first or not (whole or network.has_matrix(first, last))
        last = max(last, first + 1)
        begin = parts.pop()[0] if on_host and parts and parts[-1][2] else first
        parts.append((begin, last, on_host))
        first = last
    if all(on_host for _, _, on_host in parts):
        raise refusals[0].append(
            "and the host cannot take it alone, as no convolution or matrix product would be left "
            "for the accelerator between tensors that all paths go through"
        )
    return tuple(Segment(network.between(begin, end), host) for begin, end, host in parts)


@dataclass(frozen=True, eq=False)
class _Network:
    """A network as a sequence of steps.

    Parameters
    ----------
    exported : ExportedProgram
    graph : Graph
        Of the network, without operators that overwrite something.
    steps : tuple of Node
        The input, and what depends on it and is needed for the output, in order.
    cuts : tuple of int
        Places of the cuts among the steps; the input and the output are the first and the last.
    """

    exported: ExportedProgram
    graph: Graph
    steps: tuple[Node, ...]
    cuts: tuple[int, ...]

    @classmethod
    def of(cls, exported: ExportedProgram) -> _Network:
        graph = make_functional(exported)
        source, result = _ends(exported, graph)
        batch = source.meta["val"].shape[0]
        if not _is_batched(result, batch):
            raise UnsupportedOperatorError(result, reason="the first axis must remain the batch")
        steps = tuple(_steps(graph, source=source, result=result))
        places = {step: place for place, step in enumerate(steps)}
        cuts, furthest = [], 0
        for place, step in enumerate(steps):
            # Nothing that is computed before a cut is read after it.
            if furthest <= place and (step is result or _is_image(step, batch)):
                cuts.append(place)
            furthest = max([furthest, *(places[each] for each in step.users if each in places)])
        return cls(exported, graph, steps, tuple(cuts))

    @cached_property
    def _places(self) -> dict[str, set[int]]:
        """By a node's name the steps that need it, or the step that it is."""
        places = {step: {place} for place, step in enumerate(self.steps)}
        for node in reversed(self.graph.nodes):
            if node not in places:
                places[node] = set().union(*(places[each] for each in node.users))
        return {node.name: needed for node, needed in places.items()}

    def reach(self, first: int) -> tuple[int, UnsupportedOperatorError | None]:
        """The last cut that the accelerator gets to from one, and what stops it there."""
        last, refusal = len(self.cuts) - 1, None
        if self.steps[self.cuts[first]].meta["val"].dim() not in _INPUT_AXES:
            return first, None
        while last > first:
            try:
                lower(self.between(first, last))
                break
            except UnsupportedOperatorError as error:
                refusal = refusal or error
                begin = self.cuts[first]
                failed = min(place for place in self._places[error.node] if place > begin)
                last = min(bisect.bisect_left(self.cuts, failed), last) - 1
        return last, refusal

    def has_matrix(self, first: int, last: int) -> bool:
        """Is there a convolution or matrix product between two cuts?"""
        steps = self.steps[self.cuts[first] + 1 : self.cuts[last] + 1]
        return any(operation_of(step) in MATRIX_OPERATORS for step in steps)

    def between(self, first: int, last: int) -> ExportedProgram:
        """The part of the network between two cuts."""
        source, result = (self.steps[self.cuts[index]] for index in (first, last))
        return extract(self.exported, self.graph, source=source, result=result)


def _ends(exported: ExportedProgram, graph: Graph) -> tuple[Node, Node]:
    names = exported.graph_signature.user_inputs
    inputs = [node for node in graph.find_nodes(op="placeholder") if node.name in names]
    outputs = graph.output_node().args[0]
    for kind, nodes in (("input", inputs), ("output", outputs)):
        if len(nodes) != 1 or not isinstance(nodes[0], Node):
            raise ValueError(f"the network must have one {kind}, not {len(nodes)}")
    return inputs[0], outputs[0]


def _steps(graph: Graph, *, source: Node, result: Node) -> Iterator[Node]:
    """The source, and what depends on its values and is needed for the result.

    Random numbers are steps too: whoever reads them must see the same ones.
    """
    needed = {result}
    for node in reversed(graph.nodes):
        if node in needed and not _is_size(node):
            needed.update(node.all_input_nodes)
    changing = {source}
    yield source
    for node in graph.nodes:
        if node.op != "call_function" or node not in needed or _is_size(node):
            continue
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if random or changing.intersection(node.all_input_nodes):
            changing.add(node)
            yield node


def _is_size(node: Node) -> bool:
    return node.op == "call_function" and operation_of(node) == "sym_size"


def _is_batched(node: Node, batch: int | torch.SymInt) -> bool:
    value = node.meta.get("val")
    batched = isinstance(value, torch.Tensor) and value.dim() > 0
    return batched and str(value.shape[0]) == str(batch)


def _is_image(node: Node, batch: int | torch.SymInt) -> bool:
    """Is it a float32 tensor of a fixed size for each image of the batch?"""
    if not _is_batched(node, batch) or node.meta["val"].dtype != torch.float32:
        return False
    return all(isinstance(size, int) for size in node.meta["val"].shape[1:])
