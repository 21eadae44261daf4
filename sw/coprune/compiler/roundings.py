"""Where a quantized network rounds its activations, and what the hardware makes of it."""

from __future__ import annotations

from enum import Enum

from coprune.compiler.expressions import Expression, GraphBuilder, Sum, UnsupportedError
from coprune.compiler.float_graph import FloatGraph, FloatSource, Function
from coprune.compiler.scheme import Scheme

ACTIVATIONS = {"int8": 0, "uint8": 128}
"""Integer types of activations, and what their zero points exceed those of int8 by."""


class Joining(Enum):
    """What the one reader of a rounded value does, where it joins the layer before it."""

    ADDS = "adds it to another activation"
    CLAMPS = "clamps it, or adds a constant"
    TABULATES = "takes a function of it, for whose table the hardware rounds it as well"
    MULTIPLIES = "multiplies it with what it may be a function of, which makes one function of both"


class Roundings:
    """Collects the grids that a quantized network gives its activations.

    Where a network rounds the result of a convolution only to add it to something or to clamp it,
    that rounding is left out, because the hardware rounds once; a range with 0 at its end is an
    activation function and stays.

    Parameters
    ----------
    builder : GraphBuilder
        Of the float graph whose tensors they are.
    """

    def __init__(self, builder: GraphBuilder):
        self._builder = builder
        self._clamped: dict[tuple[FloatSource, ...], tuple[float, int]] = {}
        self._arguments: dict[tuple[FloatSource, ...], tuple[float, int]] = {}
        """Grids of sums that a clamp or a function follows, by the sources of the sum."""
        self.scheme = Scheme()

    def round(
        self,
        value: Expression,
        grid: tuple[float, int],
        *,
        name: str,
        tensor: str,
        joining: Joining | None,
        again: bool,
    ) -> Expression:
        """Return a value after it was rounded to a grid, stored if it takes a layer for that.

        Parameters
        ----------
        value : Expression
        grid : tuple of float, int
            Scale and int8 zero point.
        name, tensor : str
            Of the rounding and of what it rounds, in the network.
        joining : Joining or None
        again : bool
            The value was rounded before, so that another grid may follow.

        Raises
        ------
        UnsupportedError
            Real numbers are rounded in two ways.
        """
        if isinstance(value, Sum):
            if joining is Joining.TABULATES and value.function is None:
                self._arguments[value.sources] = grid
                return value
            if joining is Joining.MULTIPLIES:
                return value.tabulated(_rounding(grid))
            one_sided = grid[1] in (-128, 127)
            if joining in (Joining.ADDS, Joining.CLAMPS) and value.linear and not one_sided:
                if joining is Joining.CLAMPS:
                    self._clamped[value.sources] = grid
                elif len(value.sources) == 1:
                    self.scheme.source_grids[value.sources[0].name] = grid
                return value
            value = self._builder.store(value, name=name)
        known = self.scheme.grids.get(value.tensor.name)
        if known not in (None, grid):
            if not again:
                raise UnsupportedError(
                    f"tensor {tensor!r} is quantized in two ways, {text(known)} and {text(grid)}"
                )
            value = self._builder.store(self._builder.copy(value, name=name), name=name)
        self.scheme.grids[value.tensor.name] = grid
        return value

    def settle(self, graph: FloatGraph) -> None:
        """Give arguments of functions their grids, and use roundings that were left out.

        Where nothing else says how to round: convolutions may share no layer after all, and what is
        clamped may not be rounded again.
        """
        grids, left_out = self.scheme.grids, self.scheme.source_grids
        for layer in graph.layers:
            if layer.function is not None and layer.sources in self._arguments:
                grids[layer.requantized] = self._arguments[layer.sources]
            if layer.sources in self._clamped:
                grids.setdefault(layer.requantized, self._clamped[layer.sources])
            if len(layer.sources) == 1 and layer.name in left_out:
                grids.setdefault(layer.requantized, left_out[layer.name])


def check_grid(
    scale: float, zero: int, *, kind: str, scales: int, tensor: str
) -> tuple[float, int]:
    """Return scale and int8 zero point of an activation.

    Parameters
    ----------
    scale : float
    zero : int
        In the type `kind`.
    kind : str
        Name of the integer type that it is quantized to.
    scales : int
        How many the tensor has.
    tensor : str
        Its name.

    Raises
    ------
    UnsupportedError
        The hardware has no such scheme.
    """
    if scales != 1:
        raise UnsupportedError(
            f"tensor {tensor!r} has {scales} scales, but activations must have one"
        )
    if kind not in ACTIVATIONS:
        raise UnsupportedError(
            f"tensor {tensor!r} is quantized to {kind}, but must be int8 or uint8"
        )
    if not 0 < scale < float("inf"):
        raise UnsupportedError(
            f"the scale of tensor {tensor!r} must be positive and finite, not {scale}"
        )
    return scale, zero - ACTIVATIONS[kind]


def _rounding(grid: tuple[float, int]) -> Function:
    """What rounding to a grid does to a number."""
    scale, zero = grid
    return Function(
        "rounding",
        lambda values: scale * (((values / scale).round() + zero).clamp(-128, 127) - zero),
    )


def text(grid: tuple[float, int]) -> str:
    """Say what a grid is."""
    scale, zero = grid
    return f"scale {scale:g} and int8 zero point {zero}"
