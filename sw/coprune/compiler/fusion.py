"""Functions join the layer that computes their argument."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from coprune.compiler.float_graph import FloatGraph, FloatLayer, FloatTensor


def join_functions(graph: FloatGraph) -> tuple[FloatGraph, dict[str, str]]:
    """Let a layer compute the function that alone reads its output.

    A front end stores what two operators read, as both factors of ``x * sigmoid(x)`` read x. Once
    these are one function, nothing but the function reads x any more.

    Returns
    -------
    FloatGraph
    dict of str
        Names of tensors and of functions' arguments to new ones, where they changed: x is the
        argument now, and the function's output has the name that x had.
    """
    readers = Counter(source.tensor.name for layer in graph.layers for source in layer.sources)
    places: dict[str, int] = {}
    layers: list[FloatLayer] = []
    outputs: dict[str, FloatTensor] = {}
    names: dict[str, str] = {}
    for layer in graph.layers:
        name, argument = layer.output.name, layer.requantized
        if any(source.tensor.name in outputs for source in layer.sources):
            sources = tuple(
                replace(source, tensor=outputs.get(source.tensor.name, source.tensor))
                for source in layer.sources
            )
            layer = replace(layer, sources=sources)
        before = layer.sources[0].tensor
        place = places.get(before.name)
        joins = (
            _only_applies_function(layer)
            and place is not None
            and readers[before.name] == 1
            and layers[place].function is None
        )
        if not joins:
            places[name] = len(layers)
            layers.append(layer)
            continue
        layers[place] = replace(layers[place], function=layer.function)
        outputs[name] = before
        readers[before.name] = readers[name]
        names[before.name] = names[argument] = layers[place].requantized
        names[name] = before.name
    return FloatGraph(graph.input, tuple(layers)), names


def _only_applies_function(layer: FloatLayer) -> bool:
    """It passes all pixels and channels of its one source to a function, in their places."""
    source = layer.sources[0]
    return (
        layer.function is not None
        and layer.copies
        and not layer.maximum
        and source.tensor.shape == layer.output.shape
        and tuple(source.weight.shape) == (layer.output.channels, 1, 1, 1)
        and bool((source.weight == 1).all())
        and source.padding == (0, 0)
    )
