"""Weights of fewer bits than the hardware has: they are small integers, and run as they are."""

from __future__ import annotations

from dataclasses import replace

from coprune.compiler.float_graph import FloatGraph, FloatSource
from coprune.quantize.accumulator import uniform

WIDTHS = range(2, 9)
"""Bits that the weights of a network may have; those of shortcuts and averages have 12."""


def narrow_weights(graph: FloatGraph, *, bits: int) -> FloatGraph:
    """Give the weights of convolutions and linear layers, depthwise ones too, a width.

    Weights of one magnitude for each channel (shortcuts, averages, batch norms that stand alone)
    keep the hardware's: they are scales, and exact.

    Raises
    ------
    ValueError
        `bits` is none of `WIDTHS`.
    """
    if bits not in WIDTHS:
        raise ValueError(f"weight_bits must be {WIDTHS[0]} to {WIDTHS[-1]}, not {bits!r}")

    def narrowed(source: FloatSource) -> FloatSource:
        return source if uniform(source) else replace(source, weight_bits=bits)

    layers = tuple(
        replace(layer, sources=tuple(map(narrowed, layer.sources))) for layer in graph.layers
    )
    return replace(graph, layers=layers)
