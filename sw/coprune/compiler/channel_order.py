"""The order of channels: which output channels share a tile, and which input channels a word.

A block takes as many slots as its busiest lane has weights in it. Permuting the channels of a
tensor costs nothing: its producer's rows and its readers' columns of weights move with them. So
channels are put together that keep the lanes of all those blocks equally busy, and shortcuts that
move channels are given the lanes that they read from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.arithmetic import WEIGHT_MAX
from coprune_hw.contract.instructions import RAW_WORDS
from coprune_hw.contract.slots import slot_bytes
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

from .streams import build_streams

Orders = Mapping[str, np.ndarray]
"""Tensor name to the given channel at each position. Tensors whose order stays may be absent."""

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


def order_channels(
    graph: IntegerGraph,
    *,
    config: AcceleratorConfig,
    skip_zeros: bool = True,
    sweeps: int | None = None,
) -> IntegerGraph:
    """Permute channels so that the graph takes fewer cycles.

    Parameters
    ----------
    graph : IntegerGraph
        As `coprune.compiler.lowering.transform` makes it.
    config : AcceleratorConfig
    skip_zeros : bool
        Whether the program is going to skip zero weights. Where it does not, only shortcuts gain.
    sweeps : int
        How long to search: with 0, output channels are only put together greedily; with None, as
        long as is worth it, up to some 20 seconds for large networks.

    Returns
    -------
    IntegerGraph
        The same layers with other orders of channels; `graph` itself if no other one is found to
        be better. Input and output keep their order.
    """
    orders = find_orders(graph, config=config, skip_zeros=skip_zeros, sweeps=sweeps)
    return reorder(graph, orders)


def find_orders(
    graph: IntegerGraph,
    *,
    config: AcceleratorConfig,
    skip_zeros: bool = True,
    sweeps: int | None = None,
    free_ends: bool = False,
) -> Orders:
    """Find the orders that `order_channels` uses; empty if none is better than the given ones.

    With `free_ends` the input's and the output's channels are ordered as well.

    First output channels that need slots in the same blocks are put together, tensor by tensor.
    What follows is simulated annealing with heat-bath steps (Geman and Geman, 1984): two groups of
    channels are drawn, all exchanges of one channel each are priced at once, and one is drawn by
    its price. Random numbers have a fixed seed.
    """
    cheapest = estimate_cycles(graph, config=config, skip_zeros=skip_zeros)
    best: Orders = {}
    aligned = _align(graph, lanes=config.lanes)
    cycles = estimate_cycles(reorder(graph, aligned), config=config, skip_zeros=skip_zeros)
    if cycles < cheapest:
        cheapest, best = cycles, aligned
    if skip_zeros:
        balanced = _Search(graph, orders=best, config=config, free_ends=free_ends).run(sweeps)
        cycles = estimate_cycles(reorder(graph, balanced), config=config, skip_zeros=True)
        if cycles < cheapest:
            best = balanced
    return best


def reorder(graph: IntegerGraph, orders: Orders) -> IntegerGraph:
    """Permute the channels of tensors, and with them the layers that write and read them.

    Parameters
    ----------
    graph : IntegerGraph
    orders : Orders

    Raises
    ------
    ValueError
        A layer with groups would have its output in another order than its source.
    """
    if not orders:
        return graph
    return replace(
        graph, layers=tuple(_reorder_layer(layer, graph, orders) for layer in graph.layers)
    )


def estimate_cycles(
    graph: IntegerGraph, *, config: AcceleratorConfig, skip_zeros: bool = True
) -> float:
    """Estimate a graph's cycles from its slots alone, layer by layer, without placing anything."""
    total = 0.0
    for layer in graph.layers:
        counts = build_streams(layer, lanes=config.lanes, skip_zeros=skip_zeros).counts
        total += float(_Price.of(layer, config=config)(counts).sum())
    return total


def _reorder_layer(layer: Layer, graph: IntegerGraph, orders: Orders) -> Layer:
    rows = _order(orders, layer.output)
    sources = []
    for source in layer.sources:
        tensor = graph.tensor(source.tensor)
        columns = _order(orders, tensor)
        weight = source.weight[rows]
        stays = _is_identity(rows) and _is_identity(columns)
        together = _is_depthwise(source, tensor) and np.array_equal(rows, columns)
        if source.groups == 1:
            weight = weight[:, columns]
        elif not (stays or together):
            raise ValueError(
                f"layer {layer.name!r}: its output and {source.tensor!r} must keep their channels' "
                f"order, or have the same one, as the source has {source.groups} groups"
            )
        sources.append(replace(source, weight=np.ascontiguousarray(weight)))
    parameters = {
        name: getattr(layer, name)[rows]
        for name in ("bias", "multiplier", "pre_shift", "post_shift")
    }
    return replace(layer, sources=tuple(sources), **parameters)


def _order(orders: Orders, tensor: Tensor) -> np.ndarray:
    return orders.get(tensor.name, np.arange(tensor.channels))


def _is_identity(order: np.ndarray) -> bool:
    return bool((order == np.arange(len(order))).all())


def _is_depthwise(source: Source, tensor: Tensor) -> bool:
    return source.groups == len(source.weight) == tensor.channels


def _is_selection(source: Source) -> bool:
    """Outputs take one channel each, and no two the same: as shortcuts and concatenations do."""
    if source.groups > 1 or not source.selects:
        return False
    return bool((np.count_nonzero(source.weight, axis=0) <= 1).all())


@dataclass(frozen=True)
class _Price:
    """Cycles that a channel tile takes for its slots: to compute or to load, whichever is more."""

    pixel_tiles: int
    drain_cycles: int
    load_cycles: float

    @classmethod
    def of(cls, layer: Layer, *, config: AcceleratorConfig) -> _Price:
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


def _align(graph: IntegerGraph, *, lanes: int) -> Orders:
    """Give channels that are copied into another tensor the same lane there, within their tile.

    Layer by layer, the output follows the source; where its order is settled, the source follows.
    """
    owner = {tensor.name: tensor.name for tensor in _tensors(graph)}
    settled = {graph.input.name, graph.output.name}
    for layer in graph.layers:
        for source in layer.sources:
            if _is_depthwise(source, graph.tensor(source.tensor)):
                joined = owner[layer.output.name], owner[source.tensor]
                owner = {
                    name: joined[1] if own == joined[0] else own for name, own in owner.items()
                }
            elif source.groups > 1:
                settled |= {layer.output.name, source.tensor}
    settled = {owner[name] for name in settled}
    positions = {
        own: np.arange(graph.tensor(own).channels) for own in dict.fromkeys(owner.values())
    }
    for layer in graph.layers:
        for source in filter(_is_selection, layer.sources):
            output, read = owner[layer.output.name], owner[source.tensor]
            outputs, inputs = np.nonzero(source.weight[:, :, 0, 0])
            if output not in settled and output != read:
                wanted = positions[read][inputs] % lanes
                positions[output] = _to_lanes(positions[output], outputs, wanted, lanes=lanes)
            elif read not in settled and output != read:
                wanted = positions[output][outputs] % lanes
                positions[read] = _to_lanes(positions[read], inputs, wanted, lanes=lanes)
            settled |= {output, read}
    return {name: np.argsort(positions[own]) for name, own in owner.items()}


def _to_lanes(
    positions: np.ndarray, channels: np.ndarray, wanted: np.ndarray, *, lanes: int
) -> np.ndarray:
    """Move channels to wanted lanes of their tiles where these exist and are not taken yet."""
    lane_of = dict(zip(channels.tolist(), wanted.tolist(), strict=True))
    moved = positions.copy()
    for first in range(0, len(positions), lanes):
        members = np.flatnonzero(positions // lanes == first // lanes).tolist()
        members.sort(key=positions.__getitem__)
        free = dict.fromkeys(range(len(members)))
        rest = []
        for channel in members:
            lane = lane_of.get(channel)
            if lane in free:
                moved[channel] = first + lane
                del free[lane]
            else:
                rest.append(channel)
        for channel, lane in zip(rest, free, strict=True):
            moved[channel] = first + lane
    return moved


def _tensors(graph: IntegerGraph) -> list[Tensor]:
    return [graph.input, *(layer.output for layer in graph.layers)]


@dataclass(frozen=True, eq=False)
class _Atom:
    """Channels of several tensors that move together: copies of each other, or the same channel.

    Parameters
    ----------
    channels : dict
        Tensor name to the given channel.
    """

    channels: dict[str, int]


def _movable_atoms(graph: IntegerGraph, *, free_ends: bool) -> dict[tuple[str, ...], list[_Atom]]:
    """Group the channels that may change their order into atoms, by the tensors that these span."""
    first, total = {}, 0
    for tensor in _tensors(graph):
        first[tensor.name] = total
        total += tensor.channels
    owner = np.arange(total)
    fixed = np.zeros(total, bool)

    def find(channel: int) -> int:
        while owner[channel] != channel:
            owner[channel] = channel = owner[owner[channel]]
        return channel

    def fix(tensor: Tensor) -> None:
        fixed[first[tensor.name] : first[tensor.name] + tensor.channels] = True

    if not free_ends:
        fix(graph.input)
        fix(graph.output)
    for layer in graph.layers:
        for source in layer.sources:
            tensor = graph.tensor(source.tensor)
            if _is_depthwise(source, tensor):
                outputs = inputs = np.arange(tensor.channels)
            elif source.groups > 1:
                fix(tensor)
                fix(layer.output)
                continue
            elif _is_selection(source):
                outputs, inputs = np.nonzero(source.weight[:, :, 0, 0])
            else:
                continue
            for output, channel in zip(outputs.tolist(), inputs.tolist(), strict=True):
                owner[find(first[layer.output.name] + output)] = find(
                    first[source.tensor] + channel
                )
    members: dict[int, list[tuple[str, int]]] = {}
    for tensor in _tensors(graph):
        for channel in range(tensor.channels):
            members.setdefault(find(first[tensor.name] + channel), []).append(
                (tensor.name, channel)
            )
    atoms: dict[tuple[str, ...], list[_Atom]] = {}
    for channels in members.values():
        atom = _Atom(dict(channels))
        is_fixed = any(fixed[first[name] + channel] for name, channel in channels)
        if not is_fixed and len(atom.channels) == len(channels):
            atoms.setdefault(tuple(atom.channels), []).append(atom)
    return atoms


class _ReadCounts:
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


class _LayerCounts:
    """A layer's slots, and how they change.

    Slots of grouped sources and of copies do not change as long as atoms only take each other's
    places.
    """

    def __init__(self, layer: Layer, *, config: AcceleratorConfig) -> None:
        self.output = layer.output.name
        self.price = _Price.of(layer, config=config)
        self.reads = [
            _ReadCounts(source, lanes=config.lanes)
            for source in layer.sources
            if source.groups == 1 and not _is_selection(source)
        ]
        streams = build_streams(layer, lanes=config.lanes)
        self._constant = streams.counts - sum(read.slots() for read in self.reads)
        self.update()

    def update(self) -> None:
        """Count the slots of all tiles."""
        self.slots = self._constant + sum(read.slots() for read in self.reads)
        self.cycles = self.price(self.slots)


@dataclass(frozen=True)
class _Bundle:
    """Atoms whose channels are in the same groups of all tensors."""

    groups: dict[str, int]
    atoms: list[_Atom]


class _Search:
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
            tensor.name: np.argsort(_order(orders, tensor)) for tensor in _tensors(graph)
        }
        self._layers = [
            layer
            for layer in (
                _LayerCounts(layer, config=config) for layer in reorder(graph, orders).layers
            )
            if layer.reads
        ]
        self._kinds = [
            self._bundles(atoms) for atoms in _movable_atoms(graph, free_ends=free_ends).values()
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

    def _bundles(self, atoms: list[_Atom]) -> list[_Bundle]:
        bundles: dict[tuple[int, ...], _Bundle] = {}
        for atom in atoms:
            groups = {
                name: int(self._positions[name][channel]) // self._lanes
                for name, channel in atom.channels.items()
            }
            bundle = bundles.setdefault(tuple(groups.values()), _Bundle(groups, []))
            bundle.atoms.append(atom)
        return list(bundles.values())

    def _cluster(self, bundles: list[_Bundle]) -> None:
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

    def _rows(self, atoms: list[_Atom]) -> np.ndarray:
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

    def _work(self, bundles: list[_Bundle]) -> int:
        """Counts that a sweep over these bundles looks at."""
        counts = sum(
            read.weights[0].size * (read.tensor in bundles[0].groups)
            + read.blocks[:, 0, 0].size * (layer.output in bundles[0].groups)
            for layer in self._layers
            for read in layer.reads
        )
        return counts * self._lanes**2 * (len(bundles) // 2)

    def _step(self, first: _Bundle, second: _Bundle, *, temperature: float) -> None:
        """Exchange one atom of each bundle, or none."""
        changes = self._changes(first, second)
        noise = self._random.gumbel(size=changes.size + 1)
        heat = temperature * float(changes.std())
        drawn = np.append(changes.ravel(), 0.0) - heat * noise
        best = int(drawn.argmin())
        if best < changes.size:
            self._exchange(first, second, *divmod(best, len(second.atoms)))

    def _changes(self, first: _Bundle, second: _Bundle) -> np.ndarray:
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

    def _places(self, bundle: _Bundle, tensor: str) -> np.ndarray:
        return self._positions[tensor][[atom.channels[tensor] for atom in bundle.atoms]]

    def _exchange(self, first: _Bundle, second: _Bundle, index: int, other: int) -> None:
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
