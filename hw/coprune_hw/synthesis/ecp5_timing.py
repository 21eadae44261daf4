"""Estimated timing of a placed design for an ECP5.

A wire takes `TILE_NS` a tile, chosen by hand: routed ones took 0.065 to 0.09, where nextpnr's own
estimate is 0.12. Delays of lookup tables, registers and block RAM are those of nextpnr's reports
for speed grade 6, the others are assumed. That ranks paths; nextpnr says how long they are.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

from .ecp5_placement import MEMORY_PORTS, MULTIPLEXER_PORTS, Place, Placement

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
CONTROL_PORTS = {"CE", "LSR"}


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
        if port in MULTIPLEXER_PORTS:
            return MULTIPLEXER_NS
        return wire_ns(tiles[driver], tiles[user])

    def tail(self, name: str, port: str) -> float:
        """From an input to the end of the slowest path behind it."""
        placement = self._placement
        if not placement.is_logic(name):
            if port in CONTROL_PORTS:
                return CONTROL_SETUP_NS
            return SETUP_NS.get(placement.kind(name), 0.0)
        if port in MEMORY_PORTS:
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
    if output == "OFX" and port in MULTIPLEXER_PORTS | {"M"}:
        return MULTIPLEXER_NS
    return LUT_NS
