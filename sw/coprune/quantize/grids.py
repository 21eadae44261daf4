"""The int8 grids of all tensors of a graph."""

from __future__ import annotations

import numpy as np

from coprune.compiler.float_graph import FloatGraph, Function
from coprune.compiler.scheme import NOTHING_GIVEN, Scheme
from coprune.quantize.calibration import BINS, OBSERVERS, Grid, Statistics
from coprune_hw.contract import arithmetic
from coprune_sim.reference import ACTIVATION_REACH


def assume_even_spread(grids: dict[str, Grid]) -> dict[str, Statistics]:
    """Return statistics of tensors in which all values of their grids are equally frequent."""
    statistics = {}
    for name, grid in grids.items():
        steps = np.arange(-ACTIVATION_REACH, ACTIVATION_REACH)
        values = arithmetic.dequantize(steps, scale=grid.scale, zero=grid.zero)
        statistics[name] = Statistics(
            low=float(values[0]),
            high=float(values[-1]),
            mean_square=float(np.mean(values**2)),
            counts=np.ones(BINS, np.int64),
        )
    return statistics


def choose_grids(
    graph: FloatGraph,
    statistics: dict[str, Statistics],
    *,
    observer: str,
    scheme: Scheme = NOTHING_GIVEN,
) -> dict[str, Grid]:
    """Return the int8 grid of every tensor and of every function's argument, by name.

    A given grid holds. Otherwise layers that only pass values on (maximum, copy) have the grid of
    their input, and the argument of a function has the grid that serves the function's values.
    """
    choose = OBSERVERS[observer]

    def find(name: str, *, function: Function | None = None) -> Grid:
        if name in scheme.grids:
            return Grid(*scheme.grids[name])
        return choose(statistics[name], function=function)

    grids = {graph.input.name: find(graph.input.name)}
    for layer in graph.layers:
        name = layer.requantized
        if layer.copies and name not in scheme.grids:
            grids[name] = grids[layer.sources[0].tensor.name]
        else:
            grids[name] = find(name, function=layer.function)
        if layer.function is not None:
            grids[layer.output.name] = find(layer.output.name)
    return grids
