"""Layers that read dilated images: each phase of the output is a convolution of its own.

Of an image with zeros between its pixels, a window's taps meet pixels at every second place only.
Which ones depends on whether the output's row and column are even: so the output has four phases,
and every tap belongs to one of the two of its axis. No product with a zero in between is computed
(Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from coprune_sim.graph import IntegerGraph, Layer, Source

DILATIONS = (1, 2)
"""Input dilations that layers may have."""


@dataclass(frozen=True)
class PhaseLayer(Layer):
    """One phase of a layer: it writes rows ``2 y + phase[0]`` and columns ``2 x + phase[1]``."""

    phase: tuple[int, int] = (0, 0)

    @property
    def computed(self) -> tuple[int, int]:
        """Rows and columns of the phase."""
        rows, columns = (
            -(-(size - phase) // 2)
            for size, phase in zip(self.output.shape[1:], self.phase, strict=True)
        )
        return rows, columns


def split_phases(graph: IntegerGraph) -> tuple[IntegerGraph, tuple[int, ...]]:
    """Replace every layer that reads dilated images by a layer for each phase of its output.

    Returns
    -------
    IntegerGraph
        In which several layers may write parts of one tensor.
    tuple of int
        For each of its layers the one of `graph` that it is a part of.

    Raises
    ------
    ValueError
        An input dilation is none of `DILATIONS`, or a layer's sources have different ones.
    """
    layers: list[Layer] = []
    numbers: list[int] = []
    for number, layer in enumerate(graph.layers):
        parts = [layer] if _check_dilation(layer) == 1 else _phases_of(layer, graph)
        layers += parts
        numbers += [number] * len(parts)
    return replace(graph, layers=tuple(layers)), tuple(numbers)


def _check_dilation(layer: Layer) -> int:
    dilations = sorted({source.input_dilation for source in layer.sources})
    if len(dilations) > 1 or dilations[0] not in DILATIONS:
        raise ValueError(
            f"layer {layer.name!r}: the input dilation of its sources must be 1 or 2 and the same "
            f"for all, not {dilations}"
        )
    if dilations[0] > 1 and (layer.maximum or any(source.stride > 1 for source in layer.sources)):
        raise ValueError(
            f"layer {layer.name!r}: with an input dilation it must be a sum with stride 1"
        )
    return dilations[0]


def _phases_of(layer: Layer, graph: IntegerGraph) -> list[Layer]:
    plain = {field.name: getattr(layer, field.name) for field in fields(Layer)}
    parts = []
    for phase in np.ndindex(2, 2):
        bias = layer.bias.copy()
        sources = []
        for source in layer.sources:
            part = _take_taps(source, phase=phase)
            sources.append(part)
            # The bias takes off the zero point for all taps, but here only some are added up.
            missing = source.weight.astype(np.int64).sum(axis=(1, 2, 3))
            missing -= part.weight.astype(np.int64).sum(axis=(1, 2, 3))
            bias += graph.tensor(source.tensor).zero * missing
        part = PhaseLayer(**{**plain, "sources": tuple(sources), "bias": bias}, phase=phase)
        if 0 not in part.computed:
            parts.append(part)
    return parts


def _take_taps(source: Source, *, phase: tuple[int, int]) -> Source:
    """The taps of a window that meet pixels where the output's place has this phase."""
    weight, padding, dilation = source.weight, list(source.padding), list(source.dilation)
    for axis in range(2):
        offsets = np.arange(weight.shape[2 + axis]) * dilation[axis] + phase[axis] - padding[axis]
        taps = np.flatnonzero(offsets % 2 == 0)
        if not len(taps):
            # Nothing but the bias: a tap of zeros.
            weight, padding[axis], dilation[axis] = np.zeros_like(weight).take([0], 2 + axis), 0, 1
            continue
        weight = weight.take(taps, axis=2 + axis)
        padding[axis] = -int(offsets[taps[0]]) // 2
        # Every tap, or every second one: an odd distance meets pixels every second time.
        dilation[axis] = dilation[axis] // 2 if dilation[axis] % 2 == 0 else dilation[axis]
    return replace(
        source,
        weight=np.ascontiguousarray(weight),
        padding=tuple(padding),
        dilation=tuple(dilation),
        input_dilation=1,
    )
