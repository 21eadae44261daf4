"""One use of an ONNX operator, with what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from coprune.compiler.expressions import Expression, GraphBuilder, Sum, UnsupportedError, View
from coprune.compiler.operators import LOWERINGS, Call
from coprune.compiler.scheme import Scheme

from .constants import Constant
from .nodes import OnnxNode


@dataclass(frozen=True, eq=False)
class OnnxCall:
    """One use of an ONNX operator.

    Parameters
    ----------
    node : OnnxNode
    operands : tuple of Expression, Constant or None
        None where the file leaves one out.
    operand_shape : tuple of int
        Of the first operand that is an activation, without the batch axis.
    shapes : tuple of tuple of int
        Of the results, without the batch axis.
    builder : GraphBuilder
    scheme : Scheme
        Takes the scales of weights.
    """

    node: OnnxNode
    operands: tuple[Expression | Constant | None, ...]
    operand_shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    builder: GraphBuilder
    scheme: Scheme

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first result."""
        return self.shapes[0]

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value."""
        return self.node.attributes.get(name, default)

    def expression(self, index: int) -> Expression:
        """Return an operand that must be an activation."""
        value = self._operand(index)
        if not isinstance(value, View | Sum):
            raise UnsupportedError(f"operand {index} must be computed from the input")
        return value

    def constant(self, index: int) -> np.ndarray | None:
        """Return an operand that must be a constant, or None where there is none."""
        value = self._operand(index)
        if value is None:
            return None
        if not isinstance(value, Constant):
            raise UnsupportedError(f"operand {index} must be a constant")
        return value.value

    def parameter(self, index: int) -> torch.Tensor:
        """Return a constant of real numbers.

        Raises
        ------
        ValueError
            It holds NaN or infinity.
        """
        value = self.constant(index)
        if value is None:
            raise UnsupportedError(f"operand {index} must be there")
        real = torch.from_numpy(np.array(value, np.float64))
        if not real.isfinite().all():
            raise ValueError(f"constant {self._operand(index).name!r} holds NaN or infinity")
        return real

    def optional_parameter(self, index: int) -> torch.Tensor | None:
        """Return a constant of real numbers, or None where there is none."""
        return None if self._operand(index) is None else self.parameter(index)

    def value(self, index: int) -> Expression | torch.Tensor:
        """Return an operand of either kind."""
        if isinstance(self._operand(index), Constant):
            return self.parameter(index)
        return self.expression(index)

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """Return what newer opsets have as an operand, and older ones as an attribute."""
        value = self.constant(index)
        if value is None:
            value = self.attribute(attribute)
        return None if value is None else [int(each) for each in np.reshape(value, -1)]

    def weight(self, index: int, *, outputs_axis: int, groups: int = 1) -> torch.Tensor:
        """Return weights, and note what one of their steps stands for if the file quantizes them.

        Parameters
        ----------
        index : int
        outputs_axis : int
            The axis of output channels.
        groups : int
            Groups of output channels that have the indices of this axis in common.
        """
        weight = self.parameter(index)
        operand = self._operand(index)
        if operand.scale is not None:
            outputs = weight.shape[outputs_axis]
            if len(operand.scale) > 1 and operand.axis != outputs_axis:
                raise UnsupportedError(
                    f"weights {operand.name!r} have a scale for each index of axis "
                    f"{operand.axis}, but it must be the output channels' axis {outputs_axis}"
                )
            scales = np.tile(np.broadcast_to(operand.scale, (outputs,)), groups)
            self.scheme.weight_scales[self.name] = scales
        return weight

    def lower(
        self,
        operation: str,
        /,
        *,
        shape: tuple[int, ...] | None = None,
        operand_shape: tuple[int, ...] | None = None,
        **arguments: Any,
    ) -> Expression | list[Expression]:
        """Lower as a PyTorch operator, from the node's operand to its result if not said."""
        call = Call(
            operation=operation,
            name=self.name,
            arguments=arguments,
            shape=self.shape if shape is None else shape,
            operand_shape=self.operand_shape if operand_shape is None else operand_shape,
            builder=self.builder,
        )
        return LOWERINGS[operation](call)

    def _operand(self, index: int) -> Expression | Constant | None:
        return self.operands[index] if index < len(self.operands) else None
