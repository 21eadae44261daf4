"""The numbers that a quantized network brings along."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from coprune.compiler.float_graph import FloatGraph


@dataclass(frozen=True, eq=False)
class Scheme:
    """Scales and zero points of a quantized network; empty for a float one.

    Parameters
    ----------
    grids : dict
        Name of a tensor of the float graph, or of a function's argument, to scale and int8 zero
        point.
    source_grids : dict
        The same for convolutions that the network rounds before it adds them to something, by the
        name of the `FloatSource`. They count only where the quantizer gives the convolution a layer
        of its own.
    weight_scales : dict
        Name of a `FloatSource` to float64 array [outputs]: what one step of its weights stands for.
    """

    grids: dict[str, tuple[float, int]] = field(default_factory=dict)
    source_grids: dict[str, tuple[float, int]] = field(default_factory=dict)
    weight_scales: dict[str, np.ndarray] = field(default_factory=dict)

    def renamed(self, names: dict[str, str]) -> Scheme:
        """Return the scheme with other names for some tensors and arguments."""
        grids = {names.get(name, name): grid for name, grid in self.grids.items()}
        return replace(self, grids=grids)


NOTHING_GIVEN = Scheme()
"""All grids and weight scales are to be chosen."""


def complete(graph: FloatGraph, scheme: Scheme) -> Scheme:
    """Add grids of tensors that only hold values of others, for which a network need not give any.

    Layers that put together, copy, clamp or compare values do so exactly if what they read and what
    they round to has one grid. So what such a layer rounds to takes the grid of what it reads, and
    a tensor that only such layers read takes that of what they round to.
    """
    grids = dict(scheme.grids)
    readers = {layer.output.name: [] for layer in graph.layers}
    for layer in graph.layers:
        for source in layer.sources:
            readers.setdefault(source.tensor.name, []).append(layer)
    for layer in graph.layers:
        (source, *others) = layer.sources
        if layer.passes_on and not others and source.tensor.name in grids:
            grids.setdefault(layer.requantized, grids[source.tensor.name])
    for layer in reversed(graph.layers):
        of_readers = {
            grids.get(reader.requantized) if reader.passes_on else None
            for reader in readers[layer.output.name]
        }
        if len(of_readers) == 1 and None not in of_readers:
            grids.setdefault(layer.output.name, *of_readers)
    return replace(scheme, grids=grids)
