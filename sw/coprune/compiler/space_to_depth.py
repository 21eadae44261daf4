"""A strided first layer reads an input whose phases lie side by side as channels.

An input with few channels fills a small part of each word, and LOAD writes a word a cycle. Where
every reader has stride s, the s x s pixels of different phases become one pixel: a word then holds
s * s as many channels, and there are s * s times fewer words to write and to keep.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coprune_sim.graph import IntegerGraph, Source

from .strides import read_strides


def fold_input_phases(graph: IntegerGraph, *, lanes: int) -> tuple[IntegerGraph, int]:
    """Turn the phases of the input into channels, where all its readers have one stride above 1.

    Parameters
    ----------
    graph : IntegerGraph
    lanes : int
        The channels of all phases must fit into one word of so many.

    Returns
    -------
    IntegerGraph
        Its input has ``phases**2`` times as many channels, ordered by phase row, phase column and
        channel, and ``phases`` times fewer rows and columns, rounded up. Pixels beyond the image
        must be its zero point. All layers have the outputs of those of `graph`.
    int
        The number of phases in a row; 1, and `graph` itself, where nothing is folded.
    """
    image = graph.input
    strides = read_strides(graph).get(image.name, {1})
    phases = min(strides)
    readers = [
        (layer, source)
        for layer in graph.layers
        for source in layer.sources
        if source.tensor == image.name
    ]
    foldable = all(
        source.groups == 1
        # A maximum's padding loses against every pixel, the zero point beyond an image may not.
        and not layer.maximum
        # Selected channels would no longer be on their own lanes.
        and not source.selects
        for layer, source in readers
    )
    fits = image.channels * phases**2 <= lanes
    if len(strides) > 1 or phases == 1 or not (foldable and fits):
        return graph, 1
    folded = replace(
        image,
        channels=image.channels * phases**2,
        height=-(-image.height // phases),
        width=-(-image.width // phases),
    )
    layers = tuple(
        replace(
            layer,
            sources=tuple(
                _fold_weights(source, phases=phases) if source.tensor == image.name else source
                for source in layer.sources
            ),
        )
        for layer in graph.layers
    )
    return IntegerGraph(folded, layers), phases


def _fold_weights(source: Source, *, phases: int) -> Source:
    """Move every tap to its phase's channels."""
    outputs, channels, *kernel = source.weight.shape
    # Tap k of an axis reads row stride * y + offset: row `shift` after y of the offset's phase.
    places = [
        [divmod(tap * dilation - padding, phases) for tap in range(size)]
        for size, dilation, padding in zip(kernel, source.dilation, source.padding, strict=True)
    ]
    firsts = [min(shift for shift, _ in axis) for axis in places]
    sizes = [
        max(shift for shift, _ in axis) - first + 1
        for axis, first in zip(places, firsts, strict=True)
    ]
    weight = np.zeros((outputs, phases, phases, channels, *sizes), source.weight.dtype)
    for row, (row_shift, row_phase) in enumerate(places[0]):
        for column, (column_shift, column_phase) in enumerate(places[1]):
            weight[
                :, row_phase, column_phase, :, row_shift - firsts[0], column_shift - firsts[1]
            ] = source.weight[:, :, row, column]
    return replace(
        source,
        weight=weight.reshape(outputs, -1, *sizes),
        stride=1,
        padding=(-firsts[0], -firsts[1]),
        dilation=(1, 1),
    )
