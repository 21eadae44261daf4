"""The fast simulator: a graph that is prepared once, then run on batches of images."""

from __future__ import annotations

import math

import numpy as np
import torch

from coprune_sim import reference
from coprune_sim.graph import IntegerGraph, Layer

from .drain import Drain
from .pixels import from_int8, to_int8
from .products import FloatProducts, Int8Products
from .proof import ExactSum, Method, prove

BATCH_VALUES = 1 << 20
"""Values of the largest layer for the images that pass through the graph together."""


class Simulator:
    """Executes an `IntegerGraph` bit for bit as `reference.run` does, several times as fast.

    Layers without a proof (see `proof.prove`) are computed by the reference itself.

    Parameters
    ----------
    graph : IntegerGraph
    """

    def __init__(self, graph: IntegerGraph) -> None:
        self.graph = graph
        largest = max(math.prod(layer.output.shape) for layer in graph.layers)
        self.batch_images = max(1, BATCH_VALUES // largest)
        with torch.inference_mode():
            self._layers = {layer.name: _prepare(layer, graph) for layer in graph.layers}

    def __reduce__(self) -> tuple[type[Simulator], tuple[IntegerGraph]]:
        """Copies are prepared anew: packed weights cannot be copied."""
        return type(self), (self.graph,)

    @property
    def reference_layers(self) -> tuple[str, ...]:
        """Names of the layers that the reference computes."""
        layers = self._layers.items()
        return tuple(name for name, layer in layers if isinstance(layer, _ReferenceLayer))

    def run(
        self, inputs: np.ndarray | torch.Tensor, *, keep_layers: bool = False
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Execute the graph; parameters, result and errors are those of `reference.run`."""
        images = reference.check_images(self.graph, inputs)
        last = self.graph.layers[-1]
        results = {
            layer.name: np.empty((len(images), *layer.output.shape), layer.output.dtype)
            for layer in self.graph.layers
            if keep_layers or layer is last
        }
        with torch.inference_mode(), reference.exact_convolutions():
            for start in range(0, len(images), self.batch_images):
                batch = from_int8(images[start : start + self.batch_images])
                for name, output in reference.execute(self.graph, batch, run_layer=self._run_layer):
                    if name in results:
                        values = output if output.dtype == torch.int32 else to_int8(output)
                        results[name][start : start + len(output)] = values.numpy()
        return results if keep_layers else results[last.name]

    def _run_layer(
        self, layer: Layer, _graph: IntegerGraph, values: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        return self._layers[layer.name](values)


class _SummedLayer:
    """A layer whose sums are exact in float32: convolutions, then the drain."""

    def __init__(self, exact: ExactSum) -> None:
        layer = exact.layer
        scale = np.ldexp(np.float32(1), -layer.pre_shift)
        bias = torch.from_numpy((exact.bias * scale).astype(np.float32))
        self.convolutions, self.identities, factors = [], [], []
        for term in exact.terms:
            if term.method is Method.IDENTITY:
                self.identities.append(term.tensor.name)
                factors.append(term.source.weight.ravel() * scale)
                continue
            kind = Int8Products if term.method is Method.INT8 else FloatProducts
            products = kind(
                term.source,
                tensor=term.tensor,
                output=layer.output,
                scale=torch.from_numpy(scale),
                bias=None if self.convolutions else bias,
            )
            self.convolutions.append((term.tensor.name, products))
        self.drain = Drain(layer, saturates=exact.saturates, factors=factors)

    def __call__(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """The layer's output; all tensors are stored images."""
        total = None
        for name, products in self.convolutions:
            sums = products(values[name])
            total = sums if total is None else total.add_(sums)
        return self.drain(total, [values[name] for name in self.identities])


class _ReferenceLayer:
    """A layer that the reference computes."""

    def __init__(self, layer: Layer, graph: IntegerGraph) -> None:
        self.layer, self.graph = layer, graph

    def __call__(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """The layer's output; all tensors are stored images."""
        names = {source.tensor for source in self.layer.sources}
        pixels = {name: to_int8(values[name]).contiguous() for name in names}
        output = reference.run_layer(self.layer, self.graph, pixels)
        return output if self.layer.output.raw else from_int8(output)


def _prepare(layer: Layer, graph: IntegerGraph) -> _SummedLayer | _ReferenceLayer:
    exact = prove(layer, graph)
    return _ReferenceLayer(layer, graph) if exact is None else _SummedLayer(exact)
