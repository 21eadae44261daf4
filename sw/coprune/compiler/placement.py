"""Tensors to activation banks: bank shapes, then addresses that are reused when tensors die."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import RAW_WORDS
from coprune_hw.contract.planes import Placement
from coprune_sim.graph import IntegerGraph, Layer, Tensor

from .streams import LayerStreams, reach_blocks
from .strides import read_strides


@dataclass(frozen=True)
class Lifetime:
    """Layers during which a tensor occupies its words, both included.

    The input lives from layer 0 on. A tensor may follow another one in the same words from the
    layer after the other's last reader: reads are issued in order, and a write is never ahead of
    the reads that come before it in the program.
    """

    words: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Both are alive during some layer."""
        return self.first <= other.last and other.first <= self.last


def place_tensors(
    graph: IntegerGraph, *, streams: Sequence[LayerStreams], config: AcceleratorConfig
) -> dict[str, Placement]:
    """Choose phase split, bank shape and address of every tensor.

    Parameters
    ----------
    graph : IntegerGraph
        Every tensor is read with one stride, as `unify_strides` makes it.
    streams : sequence of LayerStreams
        Of each layer.
    config : AcceleratorConfig

    Returns
    -------
    dict
        Tensor name to `Placement`.

    Raises
    ------
    ValueError
        The sources of a layer have planes of different sizes, a tap is out of reach with every bank
        shape, or the tensors do not fit.
    """
    placements = _shape_tensors(graph, streams=streams, config=config)
    lifetimes = _lifetimes(graph, streams=streams, placements=placements)
    bases = _allocate(lifetimes, graph=graph, depth=config.activation_depth)
    return {name: replace(placement, base=bases[name]) for name, placement in placements.items()}


def peak_words(placements: Mapping[str, Placement]) -> int:
    """Words of every bank that the tensors take, from the first to the last that is used."""
    return max(placement.base + placement.words for placement in placements.values())


def _tensors(graph: IntegerGraph) -> list[Tensor]:
    """The input, and what layers write; several may write one tensor."""
    tensors = (graph.input, *(layer.output for layer in graph.layers))
    return list({tensor.name: tensor for tensor in tensors}.values())


def _shape_tensors(
    graph: IntegerGraph, *, streams: Sequence[LayerStreams], config: AcceleratorConfig
) -> dict[str, Placement]:
    """Placements at address 0, with the bank shape that takes the fewest cycles.

    Tensors that some layer reads together share it, and so do their readers' tiles. Between equals,
    the fewest words decide, then the shape nearest to a square; for the input the lowest one, with
    which the first tiles need the fewest rows.
    """
    strides = read_strides(graph)
    placements = {}
    for names in _read_together(graph):
        tensors = [graph.tensor(name) for name in names]
        candidates = []
        for log2_bank_columns in range(config.log2_columns + 1):
            placed = {
                tensor.name: Placement(
                    groups=tensor.groups(config.lanes),
                    height=tensor.height,
                    width=tensor.width,
                    columns=config.columns,
                    log2_stride=(min(strides.get(tensor.name, {1}))).bit_length() - 1,
                    log2_bank_columns=log2_bank_columns,
                    base=0,
                )
                for tensor in tensors
            }
            readers = [
                (layer, stream)
                for layer, stream in zip(graph.layers, streams, strict=True)
                if layer.sources[0].tensor in placed
            ]
            for layer, _ in readers:
                check_geometry(layer, placed)
            if all(_within_reach(layer, stream, placed) for layer, stream in readers):
                cycles = sum(_cycles(layer, stream, placed, config) for layer, stream in readers)
                words = sum(placement.words for placement in placed.values())
                shape = abs(2 * log2_bank_columns - config.log2_columns)
                if graph.input.name in placed:
                    shape = -log2_bank_columns
                candidates.append((cycles, words, shape, placed))
        if not candidates:
            raise ValueError(
                f"layer {readers[0][0].name!r}: a tap is out of reach with every bank shape"
            )
        placements |= min(candidates, key=lambda candidate: candidate[:3])[3]
    return placements


def check_geometry(layer: Layer, placements: Mapping[str, Placement]) -> Placement:
    """The placement whose plane size all sources of a layer share.

    Raises
    ------
    ValueError
        They have planes of different sizes.
    """
    placed = [placements[source.tensor] for source in layer.sources]
    sizes = [(placement.plane_height, placement.plane_width) for placement in placed]
    if len(set(sizes)) > 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise ValueError(
            f"layer {layer.name!r}: its sources must have planes of equal size, not {listed}"
        )
    return placed[0]


def _read_together(graph: IntegerGraph) -> list[list[str]]:
    """Partition the tensors into sets that layers read together."""
    sets = {tensor.name: [tensor.name] for tensor in _tensors(graph)}
    for layer in graph.layers:
        first = sets[layer.sources[0].tensor]
        for source in layer.sources[1:]:
            other = sets[source.tensor]
            if other is not first:
                first += other
                sets |= dict.fromkeys(other, first)
    return list({id(names): names for names in sets.values()}.values())


def _within_reach(layer: Layer, streams: LayerStreams, placements: dict[str, Placement]) -> bool:
    placed = [placements[source.tensor] for source in layer.sources]
    reaches = reach_blocks(streams.blocks, layer=layer, placements=placed)
    return all(reach.within_reach[streams.block].all() for reach in reaches)


def _cycles(
    layer: Layer, streams: LayerStreams, placements: dict[str, Placement], config: AcceleratorConfig
) -> int:
    grid = placements[layer.sources[0].tensor]
    height, width = layer.computed
    rows, columns = -(-height // grid.bank_rows), -(-width // grid.bank_columns)
    draining = config.columns * (RAW_WORDS if layer.output.raw else 1)
    return rows * columns * int(np.maximum(streams.counts, draining).sum())


def _lifetimes(
    graph: IntegerGraph, *, streams: Sequence[LayerStreams], placements: dict[str, Placement]
) -> dict[str, Lifetime]:
    last_reader, slack = {}, {}
    for index, (layer, stream) in enumerate(zip(graph.layers, streams, strict=True)):
        placed = [placements[source.tensor] for source in layer.sources]
        reaches = reach_blocks(stream.blocks, layer=layer, placements=placed)
        folded = any(reach.folded[stream.block].any() for reach in reaches)
        for source, placement in zip(layer.sources, placed, strict=True):
            last_reader[source.tensor] = index
            slack[source.tensor] = max(slack.get(source.tensor, 0), folded * (placement.pitch + 1))
    first_use, last_use = {graph.input.name: 0}, {graph.input.name: 0}
    for index, layer in enumerate(graph.layers):
        first_use.setdefault(layer.output.name, index)
        last_use[layer.output.name] = index
    last_use |= last_reader
    return {
        name: Lifetime(
            words=placements[name].words + slack.get(name, 0),
            first=first_use[name],
            last=last_use[name],
        )
        for name in first_use
    }


def _allocate(lifetimes: dict[str, Lifetime], *, graph: IntegerGraph, depth: int) -> dict[str, int]:
    """First fit, largest tensors first and in order of the program; the lower peak of the two."""
    in_order = list(lifetimes)
    by_size = sorted(lifetimes, key=lambda name: -lifetimes[name].words)
    peak, bases = min(
        (_first_fit(lifetimes, order=order) for order in (in_order, by_size)),
        key=lambda result: result[0],
    )
    if peak > depth:
        needed = [
            sum(life.words for life in lifetimes.values() if life.first <= index <= life.last)
            for index in range(len(graph.layers))
        ]
        worst = int(np.argmax(needed))
        raise ValueError(
            f"layer {graph.layers[worst].name!r} needs {needed[worst]} words of every activation "
            f"bank for the tensors that live during it, and all layers together {peak}, but "
            f"activation_depth is {depth}"
        )
    return bases


def _first_fit(lifetimes: dict[str, Lifetime], *, order: list[str]) -> tuple[int, dict[str, int]]:
    """Lowest free address for one tensor after the other. Returns the peak and the addresses."""
    bases: dict[str, int] = {}
    for name in order:
        life, base = lifetimes[name], 0
        for other in sorted(bases, key=bases.__getitem__):
            overlap = lifetimes[other].overlaps(life)
            if overlap and base + life.words > bases[other]:
                base = max(base, bases[other] + lifetimes[other].words)
        bases[name] = base
    return max(bases[name] + lifetimes[name].words for name in bases), bases
