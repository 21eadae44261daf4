"""PyTorch's operators that quantize and dequantize: what they say about activations and weights.

`torch.ao.quantization` and torchao write them, ExecuTorch reads them. Importing this module
registers them, so that archives that hold them can be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed
from torch.fx import Node

from coprune.compiler.expressions import UnsupportedError
from coprune.compiler.float_graph import FloatGraph, FloatSource
from coprune.compiler.roundings import check_grid
from coprune_hw.contract.arithmetic import DIAGONAL_WEIGHT_MAX

QUANTIZE = frozenset({"quantize_per_tensor", "quantize_per_channel"})
DEQUANTIZE = frozenset({"dequantize_per_tensor", "dequantize_per_channel"})
_NAMESPACES = ("quantized_decomposed", "torchao")
_SYMMETRIC = {torch.int8: 0, torch.uint8: 128, torch.int16: 0}
"""Types of weights, and the zero points that they must have."""
_SCHEMES = (
    "the accelerator has int8 activations of one scale and zero point for each tensor, known "
    "beforehand, and symmetric int8 weights of one scale for each output channel"
)

WEIGHTS = {
    "conv1d": ("weight", 0),
    "conv2d": ("weight", 0),
    "conv_transpose1d": ("weight", 1),
    "conv_transpose2d": ("weight", 1),
    "linear": ("weight", 0),
    "matmul": ("other", 1),
    "mm": ("mat2", 1),
    "addmm": ("mat2", 1),
}
"""Operators that have weights: the argument that these are, and its axis of output channels."""


@dataclass(frozen=True, eq=False)
class Steps:
    """What one step of dequantized weights stands for.

    Parameters
    ----------
    name : str
        Of the weights.
    scale : float64 array [1] or [size of `axis`]
    axis : int
        Along which the scale varies.
    kind : torch.dtype
        Type of the integers.
    """

    name: str
    scale: np.ndarray
    axis: int
    kind: torch.dtype

    def of_outputs(self, outputs: int, *, axis: int, diagonal: bool) -> np.ndarray:
        """Return the step of every output channel.

        Parameters
        ----------
        outputs : int
        axis : int
            The weights' axis of output channels.
        diagonal : bool
            Their layer is depthwise, and so takes weights of 12 bits.

        Raises
        ------
        UnsupportedError
            Scales vary along another axis, or the integers are too wide.
        """
        if self.kind == torch.int16 and not diagonal:
            raise UnsupportedError(
                f"weights {self.name!r} are int16, but must be int8: only depthwise layers have "
                f"more, -{DIAGONAL_WEIGHT_MAX} to {DIAGONAL_WEIGHT_MAX}"
            )
        if len(self.scale) > 1 and self.axis != axis:
            raise UnsupportedError(
                f"weights {self.name!r} have a scale for each index of axis {self.axis}, but it "
                f"must be the output channels' axis {axis}"
            )
        # The channels of a grouped transposed convolution repeat for every group.
        return np.tile(self.scale, outputs // len(self.scale))


class GivenSteps:
    """The steps of weights that a network gives, also where a factor is folded into the weights."""

    def __init__(self):
        self._scales: dict[str, np.ndarray] = {}
        self._weights: dict[str, torch.Tensor] = {}

    def add(self, source: FloatSource, steps: Steps, *, axis: int) -> None:
        """Note the steps of a source's weights, whose output channels were along `axis`.

        Raises
        ------
        UnsupportedError
            As `Steps.of_outputs`.
        """
        outputs = len(source.weight)
        self._scales[source.name] = steps.of_outputs(outputs, axis=axis, diagonal=source.diagonal)
        self._weights[source.name] = source.weight

    def of(self, graph: FloatGraph) -> dict[str, np.ndarray]:
        """Return what a step of the weights in a graph stands for, by the name of their source."""
        scales = {}
        for layer in graph.layers:
            for source in layer.sources:
                if source.name in self._scales:
                    given = self._weights[source.name].abs().amax(dim=(1, 2, 3))
                    now = source.weight.abs().amax(dim=(1, 2, 3))
                    factor = torch.where((now > 0) & (given > 0), now / given, 1.0)
                    scales[source.name] = self._scales[source.name] * factor.numpy()
        return scales


def refuse_other_schemes(node: Node, operation: str) -> None:
    """Raise `UnsupportedError` for operators of quantization that no layer is."""
    schema = getattr(node.target, "_schema", None)
    namespace = "" if schema is None else schema.name.split("::")[0]
    if namespace in _NAMESPACES and operation not in QUANTIZE | DEQUANTIZE:
        raise UnsupportedError(_SCHEMES)


def grid(arguments: Mapping[str, Any], *, name: str) -> tuple[float, int]:
    """Return scale and int8 zero point of an activation that is quantized or dequantized.

    Parameters
    ----------
    arguments : dict of str
        Of the operator, parameters as tensors.
    name : str
        The activation's.

    Raises
    ------
    UnsupportedError
        The hardware has no such scheme.
    """
    if "scales" in arguments:
        raise UnsupportedError(
            f"tensor {name!r} has {len(arguments['scales'])} scales, but activations must have one"
        )
    scale, zero = arguments["scale"], arguments["zero_point"]
    if not all(isinstance(each, float | int | torch.Tensor) for each in (scale, zero)):
        raise UnsupportedError(
            f"the scale of tensor {name!r} must be a constant, not computed from the input: use "
            "static quantization"
        )
    kind = arguments["dtype"]
    found = check_grid(
        float(scale),
        int(zero),
        kind=str(kind).removeprefix("torch."),
        scales=torch.as_tensor(scale).numel(),
        tensor=name,
    )
    limits = torch.iinfo(kind)
    used = (arguments["quant_min"], arguments["quant_max"])
    if used != (limits.min, limits.max):
        raise UnsupportedError(
            f"tensor {name!r} is quantized to {used[0]}..{used[1]}, but must use all values of "
            f"{limits.dtype}, {limits.min}..{limits.max}"
        )
    return found


def dequantize(arguments: Mapping[str, Any], *, name: str) -> tuple[torch.Tensor, Steps]:
    """Dequantize weights or a bias exactly.

    Parameters
    ----------
    arguments : dict of str
        Of the operator, parameters as tensors.
    name : str
        Of the parameter.

    Returns
    -------
    float64 tensor
    Steps

    Raises
    ------
    UnsupportedError
        The hardware has no such scheme.
    """
    integers, axis = arguments["input"], arguments.get("axis", 0)
    scale = torch.as_tensor(arguments.get("scales", arguments.get("scale")), dtype=torch.float64)
    zero = torch.as_tensor(arguments.get("zero_points", arguments.get("zero_point")))
    scale, zero = scale.reshape(-1), zero.reshape(-1).to(torch.int64)
    if not (scale.isfinite().all() and (scale > 0).all()):
        raise UnsupportedError(f"weights {name!r} have a scale that is not positive and finite")
    kind = integers.dtype
    if integers.dim() > 1:
        text = str(kind).removeprefix("torch.")
        if kind not in _SYMMETRIC:
            raise UnsupportedError(f"weights {name!r} are {text}, but must be int8")
        if (zero != _SYMMETRIC[kind]).any():
            raise UnsupportedError(
                f"weights {name!r} are asymmetric, but their {text} zero points must be "
                f"{_SYMMETRIC[kind]}"
            )
    spread = [-1 if index == axis else 1 for index in range(integers.dim())]
    real = (integers.to(torch.int64) - zero.view(spread)) * scale.view(spread)
    return real, Steps(name, scale.numpy(), axis, kind)
