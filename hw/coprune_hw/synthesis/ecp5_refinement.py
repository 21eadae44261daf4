"""Moves cells that a placement has left far from what they work with, on an ECP5.

nextpnr's placers make wires short on the whole. A lookup table that drives many cells may end up in
the middle of them, far from its inputs, and a cell that found no place where it belongs goes where
there is one. Here the paths are looked at: what lies on one that is too slow moves to a free place
from which the slowest path through it is shorter.

Delays are estimates: `TILE_NS` and the rest are means over routed designs of an ECP5-6.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter

TILE_NS = 0.085
"""Of a wire, for a tile; the first `NEAR_TILES` in each direction take twice as long."""
NEAR_TILES = 5
WIRE_TILES = 6
"""What every wire takes at least, in tiles."""

LUT_NS = 0.24
CARRY_IN_NS, CARRY_NS, CARRY_OUT_NS = 0.45, 0.07, 0.45
MULTIPLEXER_NS = 0.2
OUTPUT_NS = {"TRELLIS_FF": 0.52, "DP16KD": 5.7, "MULT18X18D": 1.0}
"""From the clock, by the type of cell."""
SETUP_NS = {"DP16KD": 0.3}
CONTROL_SETUP_NS = 0.1

MARGIN_NS = 0.8
"""Cells move whose slowest path is within so much of what is allowed."""
LEAST_GAIN_NS = 0.15
LUT_RADIUS, REGISTER_RADIUS = 4, 8
"""Tiles around the best place in which a free one is looked for."""
MOST_PASSES = 20
MOST_LOADS = 600

_BEL = re.compile(r"X(\d+)/Y(\d+)/(SLICE[ABCD])\.(K|FF|RAMW)([01]?)$")
_TILE = re.compile(r"X(\d+)/Y(\d+)/")
_MEMORY_PORTS = {"WCK", "WRE", "CLK", "WD", "WAD0", "WAD1", "WAD2", "WAD3"}
_MULTIPLEXER_PORTS = {"FXA", "FXB", "F1"}
_CONTROL_PORTS = {"CE", "LSR"}
_CLOCKS = {"DCCA", "EHXPLLL"}

Place = tuple[int, int]
"""x and y of a tile."""


class Placement:
    """The cells of a placed design, where they are, and what connects them.

    Parameters
    ----------
    module : dict
        Of a design as nextpnr writes it.
    """

    def __init__(self, module: dict):
        self.cells = module["cells"]
        self.bels = {
            name: cell["attributes"]["NEXTPNR_BEL"].strip()
            for name, cell in self.cells.items()
            if "NEXTPNR_BEL" in cell["attributes"]
        }
        self.names = {bel: name for name, bel in self.bels.items()}
        self.tiles = {name: _tile(bel) for name, bel in self.bels.items()}
        self.nets = {
            name: {
                port: bits[0]
                for port, bits in cell["connections"].items()
                if len(bits) == 1 and isinstance(bits[0], int)
            }
            for name, cell in self.cells.items()
        }
        self.outputs = {
            name: [port for port in nets if self._is_output(name, port)]
            for name, nets in self.nets.items()
        }
        self.drivers: dict[int, tuple[str, str]] = {}
        self.users = defaultdict(list)
        for name, nets in self.nets.items():
            for port, net in nets.items():
                if self._is_output(name, port):
                    self.drivers[net] = (name, port)
                else:
                    self.users[net].append((name, port))
        # What has no timing: constants and clocks.
        untimed = {
            name for name in self.cells if self.kind(name) in _CLOCKS or name.startswith("$PACKER")
        }
        self.sources = {
            name: [
                (port, *self.drivers[net])
                for port, net in nets.items()
                if net in self.drivers
                and not self._is_output(name, port)
                and not (self.is_logic(name) and port in _MEMORY_PORTS)
                and self.drivers[net][0] not in untimed
            ]
            for name, nets in self.nets.items()
        }
        self.control_sets = defaultdict(set)
        for name in self.cells:
            if self.kind(name) == "TRELLIS_FF":
                self.control_sets[self.tiles[name]].add(self.control_set(name))
        self.write_slices = {
            bel.partition(".")[0]
            for name, bel in self.bels.items()
            if self.kind(name) == "TRELLIS_RAMW"
        }
        self.slices = {
            match[0].rpartition(".")[0] for bel in self.names if (match := _BEL.match(bel))
        }

    def kind(self, name: str) -> str:
        """nextpnr's type of a cell."""
        return self.cells[name]["type"]

    def is_logic(self, name: str) -> bool:
        """It is a lookup table, or half a carry."""
        return self.kind(name) == "TRELLIS_COMB"

    def mode(self, name: str) -> str:
        """Empty for a lookup table that is nothing else."""
        return self.cells[name]["parameters"].get("MODE", "").strip()

    def depends(self, name: str, port: str, output: str) -> bool:
        """Whether an output of a lookup table depends on an input."""
        if output != "OFX":
            return port in "ABCD" or port == "FCI"
        # The multiplexer of its own half and the other, or the one of multiplexers.
        is_own = port in "ABCD" and "F1" in self.nets[name]
        return is_own or port in _MULTIPLEXER_PORTS or port == "M"

    def control_set(self, name: str) -> tuple:
        """What registers of a slice share."""
        nets, parameters = self.nets[name], self.cells[name]["parameters"]
        shared = ("CEMUX", "CLKMUX", "LSRMUX", "SRMODE", "GSR")
        return (
            *(nets.get(port) for port in ("CLK", "CE", "LSR")),
            *(parameters.get(parameter) for parameter in shared),
        )

    def is_movable(self, name: str) -> bool:
        """Nothing but wires holds it where it is."""
        nets = self.nets[name]
        if self.kind(name) == "TRELLIS_FF":
            return "M" in nets and "DI" not in nets
        if not self.is_logic(name) or self.mode(name) or set(nets) - set("ABCDF"):
            return False
        ports = {port for _, port in self.users[nets.get("F", -1)]}
        return "F" in nets and not ports & (_MULTIPLEXER_PORTS | {"DI"})

    def free_bels(self, name: str, center: Place) -> Iterator[tuple[Place, str]]:
        """Where a cell that is movable could go, around a tile."""
        is_logic = self.is_logic(name)
        radius = LUT_RADIUS if is_logic else REGISTER_RADIUS
        for x in range(center[0] - radius, center[0] + radius + 1):
            for y in range(center[1] - radius, center[1] + radius + 1):
                for letter in "ABCD":
                    slice_ = f"X{x}/Y{y}/SLICE{letter}"
                    if slice_ not in self.slices or slice_ in self.write_slices:
                        continue
                    find = self._free_lut if is_logic else self._free_register
                    for bel in find(name, (x, y), slice_):
                        yield (x, y), bel

    def _free_lut(self, name: str, tile: Place, slice_: str) -> Iterator[str]:
        luts = [self.names.get(f"{slice_}.K{half}") for half in "01"]
        if any(lut is not None and self.mode(lut) for lut in luts):
            return
        for half, lut in enumerate(luts):
            register = self.names.get(f"{slice_}.FF{half}")
            if lut is None and (register is None or "DI" not in self.nets[register]):
                yield f"{slice_}.K{half}"

    def _free_register(self, name: str, tile: Place, slice_: str) -> Iterator[str]:
        wanted = self.control_set(name)
        # The tile has wires for this set already.
        if wanted not in self.control_sets[tile]:
            return
        luts = [self.names.get(f"{slice_}.K{half}") for half in "01"]
        registers = [self.names.get(f"{slice_}.FF{half}") for half in "01"]
        if any(lut is not None and self.mode(lut) == "DPRAM" for lut in luts):
            return
        if any(other is not None and self.control_set(other) != wanted for other in registers):
            return
        for half in range(2):
            lut = luts[half]
            # A multiplexer behind the lookup table uses the register's other input.
            if registers[half] is None and (lut is None or "M" not in self.nets[lut]):
                yield f"{slice_}.FF{half}"

    def move(self, name: str, tile: Place, bel: str) -> None:
        """To a free place."""
        del self.names[self.bels[name]]
        self.bels[name], self.names[bel], self.tiles[name] = bel, name, tile
        self.cells[name]["attributes"]["NEXTPNR_BEL"] = bel

    def _is_output(self, name: str, port: str) -> bool:
        return self.cells[name]["port_directions"].get(port) == "output"


class Timing:
    """Estimated arrival at every output, and what is still to come behind every input.

    Parameters
    ----------
    placement : Placement
    """

    def __init__(self, placement: Placement):
        self._placement = placement
        # By output, since two lookup tables can drive each other's multiplexers.
        graph = {
            (name, output): {
                (driver, driver_port)
                for port, driver, driver_port in placement.sources[name]
                if placement.is_logic(driver) and placement.depends(name, port, output)
            }
            for name in placement.cells
            if placement.is_logic(name)
            for output in placement.outputs[name]
        }
        self._order = list(TopologicalSorter(graph).static_order())
        self.update()

    def update(self) -> None:
        """After cells were moved."""
        placement = self._placement
        self.arrivals: dict[tuple[str, str], float] = {}
        for name in placement.cells:
            if not placement.is_logic(name):
                delay = OUTPUT_NS.get(placement.kind(name), 0.0)
                self.arrivals |= {(name, port): delay for port in placement.outputs[name]}
        for name, output in self._order:
            self.arrivals[name, output] = max(
                (
                    self.arrival(name, port, driver, driver_port) + _through(port, output)
                    for port, driver, driver_port in placement.sources[name]
                    if placement.depends(name, port, output)
                ),
                default=0.0,
            )
        self._tails: dict[tuple[str, str], float] = {}
        for name, output in reversed(self._order):
            self._tails[name, output] = max(
                (
                    self.wire(name, output, user, port) + self.tail(user, port)
                    for user, port in placement.users[placement.nets[name][output]]
                ),
                default=0.0,
            )

    def arrival(self, name: str, port: str, driver: str, driver_port: str) -> float:
        """At an input."""
        wire = self.wire(driver, driver_port, name, port)
        return self.arrivals.get((driver, driver_port), 0.0) + wire

    def wire(self, driver: str, driver_port: str, user: str, port: str) -> float:
        """From an output to an input."""
        tiles = self._placement.tiles
        if driver_port == "FCO" or port == "FCI":
            return 0.0
        if port == "DI" and tiles[driver] == tiles[user]:
            return 0.0
        if port in _MULTIPLEXER_PORTS:
            return MULTIPLEXER_NS
        return wire_ns(tiles[driver], tiles[user])

    def tail(self, name: str, port: str) -> float:
        """From an input to the end of the slowest path behind it."""
        placement = self._placement
        if not placement.is_logic(name):
            if port in _CONTROL_PORTS:
                return CONTROL_SETUP_NS
            return SETUP_NS.get(placement.kind(name), 0.0)
        if port in _MEMORY_PORTS:
            return CONTROL_SETUP_NS
        return max(
            (
                _through(port, output) + self._tails.get((name, output), 0.0)
                for output in placement.outputs[name]
                if placement.depends(name, port, output)
            ),
            default=0.0,
        )

    def slowest(self, name: str) -> float:
        """Of the paths through a cell, or that end or begin in it."""
        placement = self._placement
        paths = [
            self.arrival(name, *source) + self.tail(name, source[0])
            for source in placement.sources[name]
        ]
        if not placement.is_logic(name):
            paths += [
                self.arrivals[name, output]
                + self.wire(name, output, user, port)
                + self.tail(user, port)
                for output in placement.outputs[name]
                for user, port in placement.users[placement.nets[name][output]]
            ]
        return max(paths, default=0.0)


def refine_placement(module: dict, *, period_ns: float) -> int:
    """Move cells of a design's slowest paths; returns how many moves that took.

    Parameters
    ----------
    module : dict
        Of a placed design, as nextpnr writes it; its attributes ``NEXTPNR_BEL`` change.
    period_ns : float
        What a path may take.
    """
    placement = Placement(module)
    timing = Timing(placement)
    moves = 0
    for _ in range(MOST_PASSES):
        slow = []
        for name in placement.cells:
            if placement.is_movable(name):
                path = timing.slowest(name)
                if path > period_ns - MARGIN_NS:
                    slow.append((path, name))
        # Neighbours of what moved wait for the next pass, which knows where it is.
        moved, waiting = 0, set()
        for _, name in sorted(slow, reverse=True):
            if name not in waiting and _improve(placement, timing, name):
                moved += 1
                waiting |= {driver for _, driver, _ in placement.sources[name]}
                (output,) = placement.outputs[name]
                waiting |= {user for user, _ in placement.users[placement.nets[name][output]]}
        if not moved:
            break
        moves += moved
        timing.update()
    return moves


def _improve(placement: Placement, timing: Timing, name: str) -> bool:
    """Move a cell to where its slowest path is shorter, if there is such a place."""
    (output,) = placement.outputs[name]
    loads = placement.users[placement.nets[name][output]]
    if not placement.sources[name] or not loads or len(loads) > MOST_LOADS:
        return False
    inputs = [
        (timing.arrivals.get((driver, driver_port), 0.0), placement.tiles[driver], port)
        for port, driver, driver_port in placement.sources[name]
    ]
    # Many loads of one place count once.
    tails: dict[Place, float] = {}
    for user, port in loads:
        tile = placement.tiles[user]
        tails[tile] = max(tails.get(tile, 0.0), timing.tail(user, port))
    is_logic = placement.is_logic(name)

    def slowest(tile: Place) -> float:
        behind = max(tail + wire_ns(tile, other) for other, tail in tails.items())
        before = [
            (time + wire_ns(other, tile), port in _CONTROL_PORTS) for time, other, port in inputs
        ]
        if is_logic:
            return max(time for time, _ in before) + LUT_NS + behind
        ends = [time + (CONTROL_SETUP_NS if control else 0.0) for time, control in before]
        return max(*ends, OUTPUT_NS["TRELLIS_FF"] + behind)

    best = slowest(placement.tiles[name]) - LEAST_GAIN_NS
    found = None
    xs, ys = (
        sorted({tile[axis] for _, tile, _ in inputs} | {tile[axis] for tile in tails})
        for axis in range(2)
    )
    grid = (
        range(places[0], places[-1] + 1, max(1, (places[-1] - places[0]) // 12))
        for places in (xs, ys)
    )
    columns, rows = grid
    spots = sorted((slowest((x, y)), (x, y)) for x in columns for y in rows)
    for reached, spot in spots[:6]:
        if reached >= best:
            break
        for tile, bel in placement.free_bels(name, spot):
            path = slowest(tile)
            if path < best:
                best, found = path, (tile, bel)
    if found is None:
        return False
    placement.move(name, *found)
    return True


def wire_ns(begin: Place, end: Place) -> float:
    """Estimated delay of a wire between two tiles."""
    tiles = WIRE_TILES
    for first, last in zip(begin, end, strict=True):
        distance = abs(first - last)
        tiles += distance + min(distance, NEAR_TILES)
    return TILE_NS * tiles


def _through(port: str, output: str) -> float:
    """From an input of a lookup table to an output."""
    if output == "FCO":
        return CARRY_NS if port == "FCI" else CARRY_IN_NS
    if port == "FCI":
        return CARRY_OUT_NS
    if output == "OFX" and port in _MULTIPLEXER_PORTS | {"M"}:
        return MULTIPLEXER_NS
    return LUT_NS


def _tile(bel: str) -> Place:
    match = _TILE.match(bel)
    return (int(match[1]), int(match[2])) if match else (0, 0)
