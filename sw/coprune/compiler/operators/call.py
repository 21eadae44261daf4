"""One use of an operator, and what its operands look like."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from coprune.compiler.expressions import Expression, GraphBuilder, Sum, UnsupportedError, View


@dataclass(frozen=True)
class Call:
    """One use of an operator.

    Parameters
    ----------
    operation, name : str
        The operator without namespace and overload, and the name of this use of it.
    arguments : dict of str
        By the operator's own parameter names, defaults included. Activations are expressions,
        parameters float64 tensors.
    shape, operand_shape : tuple of int
        Of the result and of the first activation, without the batch axis.
    builder : GraphBuilder
    """

    operation: str
    name: str
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    operand_shape: tuple[int, ...]
    builder: GraphBuilder

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def operand(self) -> str:
        """The name of the first parameter, which most operators call self and some input."""
        return "self" if "self" in self.arguments else "input"

    def expression(self, argument: str) -> Expression:
        """Return an operand that must be an activation."""
        value = self.arguments[argument]
        if not isinstance(value, View | Sum):
            raise UnsupportedError(f"operand {argument!r} must be computed from the input")
        return value

    def stored(self, argument: str) -> View:
        """Return an operand as a view, stored if it was an open sum."""
        value = self.expression(argument)
        return value if isinstance(value, View) else self.builder.store(value, name=self.name)

    def image(self, argument: str) -> tuple[Expression, Layout]:
        """Return the first activation and its axes; where it is a flattened image, as channels."""
        value = self.expression(argument)
        layout = Layout.of(self.operand_shape, image=value.shape)
        if layout is None:
            value = self.builder.flatten(value, name=f"{self.name}.input")
            layout = Layout(self.operand_shape)
        return value, layout

    def parameter(self, argument: str) -> torch.Tensor:
        """Return an operand that must be a parameter."""
        value = self.arguments[argument]
        if not isinstance(value, torch.Tensor):
            raise UnsupportedError(f"{argument} must be a parameter of the network")
        return value

    def optional_parameter(self, argument: str, *, outputs: int) -> torch.Tensor:
        """Return an operand that is a parameter, or zeros where there is none."""
        if self.arguments[argument] is None:
            return torch.zeros(outputs, dtype=torch.float64)
        return self.parameter(argument)


Lowering = Callable[[Call], Expression | list[Expression]]


@dataclass(frozen=True)
class Layout:
    """Which axes of an activation, batch not counted, are its channels, rows and columns.

    Parameters
    ----------
    channels : tuple of int
        Sizes of the first axes, which together are the channels.
    rows, columns : int or None
        Axis; None where an axis of size 1 is left out.
    """

    channels: tuple[int, ...]
    rows: int | None = None
    columns: int | None = None

    @classmethod
    def of(cls, shape: Sequence[int], *, image: tuple[int, int, int]) -> Layout | None:
        """Find the axes of an image of channels, rows and columns, or None if it is flattened.

        Raises
        ------
        UnsupportedError
            The axes are in another order.
        """
        shape, rank = tuple(shape), len(shape)
        channels, height, width = image
        if rank == 1:
            return cls(shape) if image == (*shape, 1, 1) else None
        two_left, one_left = math.prod(shape[:-2]), math.prod(shape[:-1])
        # Better an axis of one channel than none.
        for fewest in (1, 0):
            leading = rank - 2 >= fewest and two_left == channels
            if leading and shape[-2:] == (height, width):
                return cls(shape[:-2], rows=rank - 2, columns=rank - 1)
            if one_left == channels and (height, width) == (1, shape[-1]):
                return cls(shape[:-1], columns=rank - 1)
            if one_left == channels and (height, width) == (shape[-1], 1):
                return cls(shape[:-1], rows=rank - 1)
        if image == (math.prod(shape), 1, 1):
            return cls(shape)
        raise UnsupportedError(
            f"an image of (channels, rows, columns) {image} is viewed as {shape} here: axes must "
            "be channels, rows and columns, or be flattened to one"
        )

    def axis(self, dim: int) -> str:
        """Name the axis of a dimension, counted with the batch: batch, channels, rows, columns."""
        rank = len(self.channels) + (self.rows is not None) + (self.columns is not None)
        index = dim % (rank + 1) - 1
        if index < 0:
            return "batch"
        return {self.rows: "rows", self.columns: "columns"}.get(index, "channels")

    def pair(self, value: int | Sequence[int], *, single: int) -> tuple[int, int]:
        """Give a setting of a window to rows and columns; a missing axis has `single`."""
        values = (value,) if isinstance(value, int) else tuple(value)
        if self.rows is not None and self.columns is not None:
            return values * 2 if len(values) == 1 else values
        return (values[0], single) if self.rows is not None else (single, values[0])
