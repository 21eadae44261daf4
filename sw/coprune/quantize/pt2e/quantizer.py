"""The quantizer that tells PT2E what the accelerator rounds, and how."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.fake_quantize import FakeQuantize
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from coprune.compiler.decomposed import WEIGHTS
from coprune.compiler.exported import ExportedGraph, operation_of
from coprune.compiler.float_graph import FloatLayer, FloatSource, Function
from coprune.compiler.frontend import LoweredNetwork, lower_network
from coprune.quantize.accumulator import uniform, weight_limit
from coprune.quantize.calibration import OBSERVERS
from coprune.quantize.pt2e.observers import (
    ActivationObserver,
    MovingActivationObserver,
    Part,
    SharedStep,
    WeightObserver,
)
from coprune_hw.contract.arithmetic import WEIGHT_MAX


class AcceleratorQuantizer(Quantizer):
    """Annotates what the accelerator rounds: the tensors that its layers write, and weights.

    The network is lowered as the compiler does it, so annotation and program agree: a convolution
    with its batch norm, bias, residual addition and activation function is rounded once, and
    operators that only pass values on, as maximum pooling and reshaping, are not rounded at all.
    Activations are int8 with one scale and zero point, weights symmetric int8 with one scale for
    each output channel, those of depthwise layers 12 bits wide. Where a layer sums several sources,
    the scales of its weights are integer parts of each other, as one accumulator needs them.

    Parameters
    ----------
    observer : str
        How a tensor's range is chosen: ``"mse"`` minimizes the mean squared error, ``"percentile"``
        leaves out the rarest values, ``"minmax"`` covers all values.
    is_qat : bool
        The network is going to be trained: for `prepare_qat_pt2e` instead of `prepare_pt2e`.

    Raises
    ------
    ValueError
        There is no such observer.
    """

    def __init__(self, *, observer: str = "mse", is_qat: bool = False):
        if observer not in OBSERVERS:
            raise ValueError(f"observer must be one of {', '.join(OBSERVERS)}, not {observer!r}")
        self._observer = observer
        self._is_qat = is_qat
        self._network: LoweredNetwork | None = None

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotate what is rounded.

        Raises
        ------
        UnsupportedOperatorError, ValueError
            The accelerator cannot compute the network: see `coprune.compiler.frontend`.
        """
        exported = ExportedGraph.of_module(model)
        self._network = lower_network(exported)
        origins, annotated = _origins(self._network), set()
        functions = {layer.requantized: layer.function for layer in self._network.graph.layers}
        for node, tensor in self._network.tensors.items():
            origin = origins[tensor]
            if origin not in annotated:
                function = functions.get(origin)
                _annotation(node).output_qspec = self._activation(origin, function=function)
                annotated.add(origin)
        for layer in self._network.graph.layers:
            for source in layer.sources:
                if source.name in self._network.weights:
                    self._annotate_weight(source, exported=exported)
        return model

    def _annotate_weight(self, source: FloatSource, *, exported: ExportedGraph) -> None:
        node = self._network.weights[source.name]
        operands = exported.operands[node]
        argument, axis = WEIGHTS[operation_of(node)]
        if axis and operands.get("groups", 1) > 1:
            # The compiler rounds these weights, whose output channels are along two axes.
            return
        annotation = _annotation(node)
        # PT2E expects the activation first where it folds a batch norm in training.
        annotation.input_qspec_map = {
            node.args[0]: None,
            operands[argument]: self._weight(source, axis=axis),
        }
        # Two layers with the same weights may need different scales.
        annotation.allow_implicit_sharing = False

    def validate(self, model: GraphModule) -> None:
        """`annotate` has refused what the accelerator cannot compute."""

    def prepare_obs_or_fq_callback(
        self, model: GraphModule, edge_or_node_to_obs_or_fq: Mapping
    ) -> None:
        """Tell the observers of weights what shares an accumulator with them."""
        observers = [
            getattr(each, "activation_post_process", each)
            for each in edge_or_node_to_obs_or_fq.values()
        ]
        activations = {
            each.tensor: each for each in observers if isinstance(each, ActivationObserver)
        }
        weights = {each.source: each for each in observers if isinstance(each, WeightObserver)}
        origins = _origins(self._network)
        for layer in self._network.graph.layers:
            _connect(layer, activations=activations, weights=weights, origins=origins)

    def _activation(self, tensor: str, *, function: Function | None) -> QuantizationSpec:
        kind = MovingActivationObserver if self._is_qat else ActivationObserver
        return self._spec(
            kind,
            {"tensor": tensor, "choice": self._observer, "function": function},
            dtype=torch.int8,
            quant_min=-128,
            quant_max=127,
            qscheme=torch.per_tensor_affine,
        )

    def _weight(self, source: FloatSource, *, axis: int) -> QuantizationSpec:
        limit = weight_limit(source)
        return self._spec(
            WeightObserver,
            {"source": source.name, "ch_axis": axis},
            dtype=torch.int8 if limit <= WEIGHT_MAX else torch.int16,
            quant_min=-limit,
            quant_max=limit,
            qscheme=torch.per_channel_symmetric,
        )

    def _spec(self, kind: type, arguments: dict, **spec) -> QuantizationSpec:
        if self._is_qat:
            constructor = FakeQuantize.with_args(observer=kind, **arguments)
        else:
            constructor = kind.with_args(**arguments)
        return QuantizationSpec(observer_or_fake_quant_ctr=constructor, **spec)


def _connect(
    layer: FloatLayer,
    *,
    activations: dict[str, ActivationObserver],
    weights: dict[str, WeightObserver],
    origins: dict[str, str],
) -> None:
    parts = []
    for source in layer.sources:
        activation = activations.get(origins[source.tensor.name])
        if activation is None:
            continue
        if source.name in weights:
            parts.append(Part(weights[source.name], activation))
        elif uniform(source):
            parts.append(Part(source.weight.abs().amax(dim=(1, 2, 3)).numpy(), activation))
    step = SharedStep(tuple(parts), activations.get(layer.requantized))
    for part in parts:
        if not part.exact:
            part.weight.layer = step


def _origins(network: LoweredNetwork) -> dict[str, str]:
    """For every tensor and argument the one whose values, and so whose grid, it has."""
    origins = {network.graph.input.name: network.graph.input.name}
    for layer in network.graph.layers:
        origins[layer.output.name] = layer.output.name
        if layer.copies:
            origins[layer.requantized] = origins[layer.sources[0].tensor.name]
        else:
            origins[layer.requantized] = layer.requantized
    return origins


def _annotation(node: Node) -> QuantizationAnnotation:
    return node.meta.setdefault(Q_ANNOTATION_KEY, QuantizationAnnotation(_annotated=True))
