"""Slots of layers, how exchanges change them, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coprune.compiler.streams import build_streams
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.arithmetic import WEIGHT_MAX
from coprune_hw.contract.instructions import RAW_WORDS
from coprune_hw.contract.slots import slot_bytes
from coprune_sim.graph import IntegerGraph, Layer, Source

from .orders import is_selection


@dataclass(frozen=True)
class Price:
    """Cycles that a channel tile takes for its slots: to compute or to load, whichever is more."""

    pixel_tiles: int
    drain_cycles: int
    load_cycles: float

    @classmethod
    def of(cls, layer: Layer, *, config: AcceleratorConfig) -> Price:
        """Price the tiles of a layer."""
        height, width = layer.output.height, layer.output.width
        shapes = (1 << log2 for log2 in range(config.log2_columns + 1))
        return cls(
            pixel_tiles=min(
                -(-height // rows) * -(-width // (config.columns // rows)) for rows in shapes
            ),
            drain_cycles=config.columns * (RAW_WORDS if layer.output.raw else 1),
            load_cycles=slot_bytes(config.lanes) / config.bus_bytes,
        )

    @property
    def slot_cycles(self) -> float:
        """Of one more slot of a tile that has enough of them."""
        return max(self.pixel_tiles, self.load_cycles)

    def __call__(self, slots: np.ndarray) -> np.ndarray:
        computing = self.pixel_tiles * np.maximum(slots, self.drain_cycles)
        return np.maximum(computing, self.load_cycles * slots)


def estimate_cycles(
    graph: IntegerGraph, *, config: AcceleratorConfig, skip_zeros: bool = True
) -> float:
    """Estimate a graph's cycles from its slots alone, layer by layer, without placing anything."""
    total = 0.0
    for layer in graph.layers:
        counts = build_streams(layer, lanes=config.lanes, skip_zeros=skip_zeros).counts
        total += float(Price.of(layer, config=config)(counts).sum())
    return total


class ReadCounts:
    """Weights of one source of a layer, counted for every lane of every block.

    Parameters
    ----------
    source : Source
        Ungrouped, of the reordered graph.
    lanes : int

    Attributes
    ----------
    weights : unsigned array [channels, lanes, tiles, taps]
        Slots that a lane needs for a channel; channels and lanes in their current places.
    blocks : unsigned array [groups, lanes, tiles, taps]
        The same for every group of channels.
    """

    def __init__(self, source: Source, *, lanes: int) -> None:
        self.tensor = source.tensor
        outputs, channels, rows, columns = source.weight.shape
        slots = -(-np.abs(source.weight.astype(np.int32)) // WEIGHT_MAX)
        padded = np.zeros((-(-outputs // lanes) * lanes, channels, rows * columns), np.int32)
        padded[:outputs] = slots.reshape(outputs, channels, -1)
        kind = np.uint8 if lanes * slots.max() < 256 else np.uint16
        weights = padded.reshape(-1, lanes, channels, rows * columns).transpose(2, 1, 0, 3)
        self.weights = np.ascontiguousarray(weights, kind)
        self.blocks = np.add.reduceat(self.weights, np.arange(0, channels, lanes), dtype=kind)

    def slots(self) -> np.ndarray:
        """Slots of each tile."""
        return self.blocks.max(axis=1).sum(axis=(0, 2), dtype=np.int64)

    def word_changes(self, group: int, channels, other: int, others) -> np.ndarray:
        """By how much exchanging channels of two groups changes each tile's slots.

        Returns
        -------
        int array [len(channels), len(others), tiles]
        """
        change = self.weights[others][None] - self.weights[channels][:, None]
        before = self.blocks[[group, other]].max(axis=1).sum(axis=(0, 2), dtype=np.int64)
        after = (self.blocks[group] + change).max(axis=2).sum(axis=-1, dtype=np.int64)
        after += (self.blocks[other] - change).max(axis=2).sum(axis=-1, dtype=np.int64)
        return after - before

    def lane_changes(self, tile: int, lanes, other: int, others) -> tuple[np.ndarray, np.ndarray]:
        """By how much exchanging lanes of two tiles changes the slots of the one and of the other.

        Returns
        -------
        two int arrays [len(lanes), len(others)]
        """
        first, first_rest, first_slots = self._lanes_and_rest(tile, lanes)
        second, second_rest, second_slots = self._lanes_and_rest(other, others)
        after = np.maximum(first_rest[:, None], second[None]).sum(axis=-1, dtype=np.int64)
        other_after = np.maximum(second_rest[None], first[:, None]).sum(axis=-1, dtype=np.int64)
        return after - first_slots, other_after - second_slots

    def _lanes_and_rest(self, tile: int, lanes) -> tuple[np.ndarray, np.ndarray, int]:
        """Counts of some lanes, the largest ones of all other lanes, and the tile's slots."""
        counts = self.blocks[:, :, tile].transpose(1, 0, 2).reshape(self.blocks.shape[1], -1)
        second, largest = np.sort(counts, axis=0)[-2:]
        chosen = counts[lanes]
        return chosen, np.where(chosen == largest, second, largest), int(largest.sum())

    def exchange_words(self, position: int, other: int, *, lanes: int) -> None:
        """Exchange two channels."""
        change = self.weights[other] - self.weights[position]
        self.blocks[position // lanes] += change
        self.blocks[other // lanes] -= change
        self.weights[[position, other]] = self.weights[[other, position]]

    def exchange_lanes(self, position: int, other: int, *, lanes: int) -> None:
        """Exchange two output channels."""
        for counts in (self.weights, self.blocks):
            row = counts[:, position % lanes, position // lanes].copy()
            counts[:, position % lanes, position // lanes] = counts[
                :, other % lanes, other // lanes
            ]
            counts[:, other % lanes, other // lanes] = row


class LayerCounts:
    """A layer's slots, and how they change.

    Slots of grouped sources and of copies do not change as long as atoms only take each other's
    places.
    """

    def __init__(self, layer: Layer, *, config: AcceleratorConfig) -> None:
        self.output = layer.output.name
        self.price = Price.of(layer, config=config)
        self.reads = [
            ReadCounts(source, lanes=config.lanes)
            for source in layer.sources
            if source.groups == 1 and not is_selection(source)
        ]
        streams = build_streams(layer, lanes=config.lanes)
        self._constant = streams.counts - sum(read.slots() for read in self.reads)
        self.update()

    def update(self) -> None:
        """Count the slots of all tiles."""
        self.slots = self._constant + sum(read.slots() for read in self.reads)
        self.cycles = self.price(self.slots)
