"""Exchanges of channels by simulated annealing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_sim.graph import IntegerGraph

from .atoms import Atom, movable_atoms
from .counts import LayerCounts
from .orders import Orders, list_tensors, order_of, reorder

MOST_SWEEPS, FEWEST_SWEEPS = 200, 10
"""How often every channel group is paired with another one to exchange channels."""
IDLE_SWEEPS = 5
"""The search ends after so many sweeps in a row that change no cycles."""
WORK = 4 * 10**9
"""Counts that may be looked at in all sweeps together: large networks get fewer sweeps."""
GREEDY_SHARE = 0.2
"""The last part of the sweeps, in which only exchanges that save cycles are made."""
HOTTEST, COLDEST = 0.3, 0.05
"""Temperature of the first sweep and of the last one before the greedy ones, in standard deviations
of what exchanges change."""


@dataclass(frozen=True)
class Bundle:
    """Atoms whose channels are in the same groups of all tensors."""

    groups: dict[str, int]
    atoms: list[Atom]


class Search:
    """Exchanges atoms until lanes are equally busy.

    Parameters
    ----------
    graph : IntegerGraph
    orders : Orders
        To begin with.
    config : AcceleratorConfig
    """

    def __init__(
        self, graph: IntegerGraph, *, orders: Orders, config: AcceleratorConfig, free_ends: bool
    ) -> None:
        self._lanes = config.lanes
        self._random = np.random.default_rng(0)
        self._positions = {
            tensor.name: np.argsort(order_of(orders, tensor)) for tensor in list_tensors(graph)
        }
        self._layers = [
            layer
            for layer in (
                LayerCounts(layer, config=config) for layer in reorder(graph, orders).layers
            )
            if layer.reads
        ]
        self._kinds = [
            self._bundles(atoms) for atoms in movable_atoms(graph, free_ends=free_ends).values()
        ]

    def run(self, sweeps: int | None) -> Orders:
        """Search, and return the orders found."""
        if sweeps is None:
            work = sum(map(self._work, self._kinds))
            sweeps = min(max(WORK // max(work, 1), FEWEST_SWEEPS), MOST_SWEEPS)
        greedy = int(GREEDY_SHARE * sweeps)
        cooling = np.geomspace(HOTTEST, COLDEST, sweeps - greedy)
        for bundles in self._kinds:
            self._cluster(bundles)
        idle_sweeps = 0
        for temperature in (*cooling.tolist(), *[0.0] * greedy):
            before = self._cycles()
            self._sweep(temperature)
            idle_sweeps = idle_sweeps + 1 if self._cycles() == before else 0
            if idle_sweeps == IDLE_SWEEPS:
                break
        return {name: np.argsort(positions) for name, positions in self._positions.items()}

    def _bundles(self, atoms: list[Atom]) -> list[Bundle]:
        bundles: dict[tuple[int, ...], Bundle] = {}
        for atom in atoms:
            groups = {
                name: int(self._positions[name][channel]) // self._lanes
                for name, channel in atom.channels.items()
            }
            bundle = bundles.setdefault(tuple(groups.values()), Bundle(groups, []))
            bundle.atoms.append(atom)
        return list(bundles.values())

    def _cluster(self, bundles: list[Bundle]) -> None:
        """Fill bundle after bundle with the atoms that leave the fewest lanes idle, if it pays.

        Single exchanges do not find this where all tiles are equally mixed: the busiest lanes of a
        tile must have left before it takes fewer slots.
        """
        atoms = [atom for bundle in bundles for atom in bundle.atoms]
        rows = self._rows(atoms)
        before = self._cycles()
        remaining = np.arange(len(atoms))
        exchanges = []
        for bundle in bundles:
            highest = np.zeros(rows.shape[1])
            for index in range(len(bundle.atoms)):
                total = np.maximum(rows[remaining], highest).sum(axis=1)
                idle = len(bundle.atoms) * total - rows[remaining].sum(axis=1)
                chosen = int(idle.argmin() if index else rows[remaining].sum(axis=1).argmax())
                atom = atoms[remaining[chosen]]
                highest = np.maximum(highest, rows[remaining[chosen]])
                remaining = np.delete(remaining, chosen)
                other = next(each for each in bundles if atom in each.atoms)
                exchanges.append((bundle, other, index, other.atoms.index(atom)))
                self._exchange(*exchanges[-1])
        if self._cycles() >= before:
            for exchange in reversed(exchanges):
                self._exchange(*exchange)

    def _rows(self, atoms: list[Atom]) -> np.ndarray:
        """What atoms need of each block of the layers that write them, in cycles."""
        rows = [np.zeros((len(atoms), 1))]
        for layer in self._layers:
            if layer.output in atoms[0].channels:
                places = self._positions[layer.output][
                    [atom.channels[layer.output] for atom in atoms]
                ]
                for read in layer.reads:
                    counts = read.blocks[:, places % self._lanes, places // self._lanes]
                    counts = counts.transpose(1, 0, 2).reshape(len(atoms), -1)
                    rows.append(counts.astype(float) * layer.price.slot_cycles)
        return np.concatenate(rows, axis=1)

    def _cycles(self) -> float:
        return sum(float(layer.cycles.sum()) for layer in self._layers)

    def _sweep(self, temperature: float) -> None:
        """Pair all bundles of a kind at random, and let each pair exchange atoms."""
        for bundles in self._kinds:
            shuffled = self._random.permutation(len(bundles))
            for first, second in zip(shuffled[::2], shuffled[1::2], strict=False):
                self._step(bundles[first], bundles[second], temperature=temperature)

    def _work(self, bundles: list[Bundle]) -> int:
        """Counts that a sweep over these bundles looks at."""
        counts = sum(
            read.weights[0].size * (read.tensor in bundles[0].groups)
            + read.blocks[:, 0, 0].size * (layer.output in bundles[0].groups)
            for layer in self._layers
            for read in layer.reads
        )
        return counts * self._lanes**2 * (len(bundles) // 2)

    def _step(self, first: Bundle, second: Bundle, *, temperature: float) -> None:
        """Exchange one atom of each bundle, or none."""
        changes = self._changes(first, second)
        noise = self._random.gumbel(size=changes.size + 1)
        heat = temperature * float(changes.std())
        drawn = np.append(changes.ravel(), 0.0) - heat * noise
        best = int(drawn.argmin())
        if best < changes.size:
            self._exchange(first, second, *divmod(best, len(second.atoms)))

    def _changes(self, first: Bundle, second: Bundle) -> np.ndarray:
        """Cycles that exchanging each atom of the one for each of the other would add."""
        total = np.zeros((len(first.atoms), len(second.atoms)))
        moved = {
            name: (
                group,
                self._places(first, name),
                second.groups[name],
                self._places(second, name),
            )
            for name, group in first.groups.items()
            if group != second.groups[name]
        }
        for layer in self._layers:
            reads = [read for read in layer.reads if read.tensor in moved]
            if reads:
                change = 0
                for read in reads:
                    change = change + read.word_changes(*moved[read.tensor])
                total += (layer.price(layer.slots + change) - layer.cycles).sum(axis=-1)
            if layer.output in moved:
                tile, places, other, others = moved[layer.output]
                changes = [
                    read.lane_changes(tile, places % self._lanes, other, others % self._lanes)
                    for read in layer.reads
                ]
                for changed, change in zip(
                    (tile, other), map(sum, zip(*changes, strict=True)), strict=True
                ):
                    total += layer.price(layer.slots[changed] + change) - layer.cycles[changed]
        return total

    def _places(self, bundle: Bundle, tensor: str) -> np.ndarray:
        return self._positions[tensor][[atom.channels[tensor] for atom in bundle.atoms]]

    def _exchange(self, first: Bundle, second: Bundle, index: int, other: int) -> None:
        atom, exchanged = first.atoms[index], second.atoms[other]
        first.atoms[index], second.atoms[other] = exchanged, atom
        for name, channel in atom.channels.items():
            positions, partner = self._positions[name], exchanged.channels[name]
            places = int(positions[channel]), int(positions[partner])
            positions[channel], positions[partner] = places[::-1]
            for layer in self._layers:
                for read in layer.reads:
                    if read.tensor == name:
                        read.exchange_words(*places, lanes=self._lanes)
                    if layer.output == name:
                        read.exchange_lanes(*places, lanes=self._lanes)
        for layer in self._layers:
            if layer.output in atom.channels or any(
                read.tensor in atom.channels for read in layer.reads
            ):
                layer.update()
