"""Moves cells that a placement has left far from what they work with, on an ECP5.

nextpnr's placers make wires short on the whole. A lookup table that drives many cells may end up in
the middle of them, far from its inputs, and a cell that found no place where it belongs goes where
there is one. Here the paths are looked at: what lies on one that is too slow moves to a free place
from which the slowest path through it is shorter.
"""

from __future__ import annotations

from .ecp5_placement import Place, Placement
from .ecp5_timing import (
    CONTROL_PORTS,
    CONTROL_SETUP_NS,
    LUT_NS,
    OUTPUT_NS,
    Timing,
    wire_ns,
)

MARGIN_NS = 0.8
"""Cells move whose slowest path is within so much of what is allowed."""
LEAST_GAIN_NS = 0.15
MOST_PASSES = 20
MOST_LOADS = 600


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
            (time + wire_ns(other, tile), port in CONTROL_PORTS) for time, other, port in inputs
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
