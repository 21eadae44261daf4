"""The order of channels: which output channels share a tile, and which input channels a word.

A block takes as many slots as its busiest lane has weights in it. Permuting the channels of a
tensor costs nothing: its producer's rows and its readers' columns of weights move with them. So
channels are put together that keep the lanes of all those blocks equally busy, and shortcuts that
move channels are given the lanes that they read from.
"""

from __future__ import annotations

from coprune_hw.contract import AcceleratorConfig
from coprune_sim.graph import IntegerGraph

from .alignment import align
from .counts import estimate_cycles
from .orders import Orders, reorder
from .search import Search

__all__ = ["Orders", "estimate_cycles", "find_orders", "order_channels", "reorder"]


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
    aligned = align(graph, lanes=config.lanes)
    cycles = estimate_cycles(reorder(graph, aligned), config=config, skip_zeros=skip_zeros)
    if cycles < cheapest:
        cheapest, best = cycles, aligned
    if skip_zeros:
        balanced = Search(graph, orders=best, config=config, free_ends=free_ends).run(sweeps)
        cycles = estimate_cycles(reorder(graph, balanced), config=config, skip_zeros=True)
        if cycles < cheapest:
            best = balanced
    return best
