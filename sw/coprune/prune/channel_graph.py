"""Which channels of a network belong together: those that are reordered or removed as one.

A channel here is an equivalence class: a layer's output channel, what batch norms, activations and
pooling make of it, the channels that it is added to in residual shortcuts, and the input channels
of all layers that read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from torch.fx import Node

from coprune.compiler.export import export
from coprune.compiler.exported import ExportedGraph, is_tensor, operation_of

_CHANNELWISE = frozenset(
    {
        *("relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "hardsigmoid"),
        *("leaky_relu", "sigmoid", "tanh", "silu", "hardswish", "gelu", "mish", "elu", "selu"),
        *("celu", "softplus", "log_sigmoid", "exp", "log", "sqrt", "square", "pow", "abs", "neg"),
        *("dropout", "feature_dropout", "clone", "contiguous", "detach", "alias", "to"),
        *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
        *("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d"),
        *("upsample_nearest2d", "upsample_bilinear2d"),
    }
)
"""Operators of one tensor that treat every channel alike and apart from the others."""
_ELEMENTWISE = frozenset({"add", "sub", "mul", "div", "maximum", "minimum"})
_REDUCTIONS = frozenset({"mean", "sum", "amax", "amin"})
_RESHAPES = frozenset({"flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten"})


@dataclass(frozen=True, eq=False)
class ChannelPadding:
    """Channels of zeros around others, as in a shortcut to more channels without weights.

    Parameters
    ----------
    low, inner, high : int array
        Channels of the result: zeros, the operand's, zeros.
    """

    low: np.ndarray
    inner: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channels of a network, numbered from 0.

    Parameters
    ----------
    inputs : dict of int array
        Module name of a convolution or linear layer to the channel of every input channel, in the
        order of its weight's second axis. Depthwise convolutions are not among them.
    outputs : dict of int array
        Module name of a layer or batch norm to the channel of every output channel.
    tensors : tuple of int array
        Channels of every tensor, along the second axis.
    paddings : tuple of ChannelPadding
    fixed : frozenset of int
        Channels that have to stay as and where they are: of the network's input and output, and of
        operators that are not known to treat channels apart.
    """

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    tensors: tuple[np.ndarray, ...]
    paddings: tuple[ChannelPadding, ...]
    fixed: frozenset[int]

    @classmethod
    def of(cls, model: nn.Module, *, image: tuple[int, ...]) -> ChannelGraph:
        """Trace a network in evaluation mode for inputs of shape [N, `image`].

        Raises
        ------
        ValueError
            The network is in training mode, or has several inputs or outputs.
        """
        return _Tracer(model, image=image).trace()

    def places(self) -> dict[int, tuple[tuple[int, int], ...]]:
        """Return the tensors of every channel that is not fixed, and how often it is in each.

        Channels with the same places can take each other's.
        """
        places: dict[int, list[tuple[int, int]]] = {}
        for number, channels in enumerate(self.tensors):
            for channel, count in zip(*np.unique(channels, return_counts=True), strict=True):
                if int(channel) not in self.fixed:
                    places.setdefault(int(channel), []).append((number, int(count)))
        return {channel: tuple(found) for channel, found in places.items()}

    def classes(self) -> list[np.ndarray]:
        """Return the channels that are not fixed, grouped by their places."""
        groups: dict[tuple, list[int]] = {}
        for channel, places in sorted(self.places().items()):
            groups.setdefault(places, []).append(channel)
        return [np.array(channels) for channels in groups.values()]


class _Tracer:
    """Walks an exported network, and unites the channels that belong together."""

    def __init__(self, model: nn.Module, *, image: tuple[int, ...]):
        program = export(model, image=image)
        signature = program.graph_signature
        self._graph = ExportedGraph.of_program(program)
        self._parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._modules = dict(model.named_modules())
        self._parents: list[int] = []
        self._channels: dict[Node, np.ndarray] = {}
        self._inputs: dict[str, np.ndarray] = {}
        self._outputs: dict[str, np.ndarray] = {}
        self._paddings: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._fixed: list[int] = []
        self._handlers: dict[str, Callable[[Node, Node, dict[str, Any]], np.ndarray | None]] = {
            "conv1d": self._convolution,
            "conv2d": self._convolution,
            "linear": self._linear,
            "batch_norm": self._batch_norm,
            "cat": self._cat,
            "slice": self._slice,
            "pad": self._pad,
            **dict.fromkeys(_ELEMENTWISE, self._elementwise),
            **dict.fromkeys(_REDUCTIONS, self._reduction),
            **dict.fromkeys(_RESHAPES, self._reshape),
            **dict.fromkeys(_CHANNELWISE, self._channelwise),
        }

    def trace(self) -> ChannelGraph:
        graph = self._graph
        self._channels[graph.input] = self._fix(self._create(_shape(graph.input)[1]))
        for node in graph.nodes:
            if node.op == "call_function":
                channels = self._known(node)
                if channels is None:
                    channels = self._unknown(node)
                if channels is not None:
                    self._channels[node] = channels
        if graph.output in self._channels:
            self._fix(self._channels[graph.output])
        return self._numbered()

    def _numbered(self) -> ChannelGraph:
        numbers: dict[int, int] = {}

        def number(ids: Iterable[int]) -> np.ndarray:
            roots = [self._root(int(one)) for one in ids]
            return np.array([numbers.setdefault(root, len(numbers)) for root in roots], np.int64)

        return ChannelGraph(
            inputs={name: number(ids) for name, ids in self._inputs.items()},
            outputs={name: number(ids) for name, ids in self._outputs.items()},
            tensors=tuple(number(ids) for ids in self._channels.values()),
            paddings=tuple(ChannelPadding(*map(number, parts)) for parts in self._paddings),
            fixed=frozenset(number(self._fixed).tolist()),
        )

    def _known(self, node: Node) -> np.ndarray | None:
        """Return the channels of an operator's result, or None where they are anyone's guess."""
        handler = self._handlers.get(operation_of(node).rstrip("_"))
        x = next(iter(node.all_input_nodes), None)
        if handler is None or x not in self._channels or not is_tensor(node):
            return None
        return handler(node, x, self._graph.operands[node])

    def _unknown(self, node: Node) -> np.ndarray | None:
        for operand in node.all_input_nodes:
            if operand in self._channels:
                self._fix(self._channels[operand])
        if is_tensor(node) and len(_shape(node)) >= 2:
            return self._fix(self._create(_shape(node)[1]))
        return None

    def _convolution(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        name = self._owner(operands, "weight", "bias", kinds=(nn.Conv1d, nn.Conv2d))
        if name is None:
            return None
        channels, module = self._channels[x], self._modules[name]
        if module.groups == 1:
            return self._layer(name, channels, outputs=module.out_channels)
        if module.groups == len(channels):
            multiplier = module.out_channels // module.groups
            return self._use(self._outputs, name, channels.repeat(multiplier))
        return None

    def _linear(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        name = self._owner(operands, "weight", "bias", kinds=(nn.Linear,))
        if name is None or len(_shape(x)) != 2:
            return None
        return self._layer(name, self._channels[x], outputs=self._modules[name].out_features)

    def _layer(self, name: str, channels: np.ndarray, *, outputs: int) -> np.ndarray:
        self._use(self._inputs, name, channels)
        return self._use(self._outputs, name, self._create(outputs))

    def _batch_norm(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        roles = ("weight", "bias", "running_mean", "running_var")
        name = self._owner(operands, *roles, kinds=(nn.BatchNorm1d, nn.BatchNorm2d))
        return None if name is None else self._use(self._outputs, name, self._channels[x])

    def _owner(
        self, operands: dict[str, Any], *roles: str, kinds: tuple[type[nn.Module], ...]
    ) -> str | None:
        """Return the module whose own parameters all those are that an operator has."""
        owners = set()
        for role in roles:
            if operands[role] is not None:
                owner, _, parameter = self._parameters.get(operands[role].name, "").rpartition(".")
                owners.add(owner if parameter == role else None)
        owner = owners.pop() if len(owners) == 1 else None
        return owner if isinstance(self._modules.get(owner), kinds) else None

    def _use(self, axes: dict[str, np.ndarray], name: str, channels: np.ndarray) -> np.ndarray:
        """Note the channels of a module's axis: one axis for all calls of the module."""
        return self._unite(axes.setdefault(name, channels), channels)

    def _elementwise(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        if len(node.all_input_nodes) == 1:
            return self._channels[x]
        other = node.all_input_nodes[1]
        if other not in self._channels or len(_shape(x)) != len(_shape(other)):
            return None
        channels = self._channels[x], self._channels[other]
        if len(channels[0]) == len(channels[1]):
            return self._unite(*channels)
        return max(channels, key=len)  # the other has one channel, for all of them

    def _channelwise(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        return self._channels[x] if len(node.all_input_nodes) == 1 else None

    def _reduction(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        axes = operands.get("dim")
        axes = [axes] if isinstance(axes, int) else axes
        kept = axes and not {axis % len(_shape(x)) for axis in axes} & {0, 1}
        return self._channels[x] if kept else None

    def _reshape(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        before, after = _shape(x), _shape(node)
        if len(after) >= 2 and before[:2] == after[:2]:
            return self._channels[x]
        if len(after) == 2 and before[0] == after[0]:
            return self._channels[x].repeat(math.prod(before[2:]))
        return None

    def _cat(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        if not all(tensor in self._channels for tensor in operands["tensors"]):
            return None
        parts = [self._channels[tensor] for tensor in operands["tensors"]]
        if operands["dim"] % len(_shape(x)) == 1:
            return np.concatenate(parts)
        for part in parts[1:]:
            self._unite(parts[0], part)
        return parts[0]

    def _slice(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        channels = self._channels[x]
        if operands["dim"] % len(_shape(x)) != 1:
            return channels
        return channels[operands["start"] : operands["end"] : operands["step"]]

    def _pad(self, node: Node, x: Node, operands: dict[str, Any]) -> np.ndarray | None:
        channels, axis = self._channels[x], 2 * (len(_shape(x)) - 2)
        low, high = (*operands["pad"][axis : axis + 2], 0, 0)[:2]
        if low == high == 0:
            return channels
        if low < 0 or high < 0 or operands["mode"] != "constant" or operands["value"]:
            return None
        parts = self._create(low), channels, self._create(high)
        self._paddings.append(parts)
        return np.concatenate(parts)

    def _create(self, count: int) -> np.ndarray:
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _root(self, channel: int) -> int:
        while self._parents[channel] != channel:
            self._parents[channel] = channel = self._parents[self._parents[channel]]
        return channel

    def _unite(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            self._parents[self._root(other)] = self._root(one)
        return first

    def _fix(self, channels: np.ndarray) -> np.ndarray:
        self._fixed.extend(channels.tolist())
        return channels


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)
