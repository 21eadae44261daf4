"""Values of an ONNX file that do not depend on its input, and how they are dequantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coprune.compiler.expressions import UnsupportedError

from .nodes import OnnxNode


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that does not depend on the network's input.

    Parameters
    ----------
    name : str
    value : array
    scale : float64 array [1] or [size of `axis`], or None
        What one step stands for, if the value was dequantized.
    axis : int
        Along which the scale varies.
    """

    name: str
    value: np.ndarray
    scale: np.ndarray | None = None
    axis: int = 0


def quantize(node: OnnxNode, operands: Sequence[Constant | None]) -> Constant:
    """Quantize a constant, as exporters do that keep weights in float."""
    real, scale, zero = (*operands, None)[:3]
    kind = np.dtype(np.uint8) if zero is None else zero.value.dtype
    _check_steps(node, real, kind)
    _, spread = _along(node, real.value)
    offset = 0 if zero is None else _spread(zero.value.astype(np.int64), spread)
    steps = np.rint(real.value.astype(np.float32) / _spread(scale.value, spread)) + offset
    limits = np.iinfo(kind)
    return Constant(real.name, steps.clip(limits.min, limits.max).astype(kind))


def dequantize(node: OnnxNode, operands: Sequence[Constant | None]) -> Constant:
    """Dequantize a constant exactly: weights, or a bias.

    Raises
    ------
    UnsupportedError
        The scheme of weights is not one that the hardware has.
    """
    steps, scale, zero = (*operands, None)[:3]
    value, name = steps.value, steps.name
    _check_steps(node, steps, value.dtype)
    scales = np.asarray(scale.value, np.float64)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise UnsupportedError(f"weights {name!r} have a scale that is not positive and finite")
    offset = np.zeros(1, np.int64) if zero is None else zero.value.astype(np.int64)
    symmetric = 128 if value.dtype == np.uint8 else 0
    if value.ndim > 1 and (offset != symmetric).any():
        raise UnsupportedError(
            f"weights {name!r} are asymmetric, but their {value.dtype} zero points must be "
            f"{symmetric}"
        )
    axis, spread = _along(node, value)
    real = (value.astype(np.int64) - _spread(offset, spread)) * _spread(scales, spread)
    return Constant(node.outputs[0], real, scales.reshape(-1), axis)


ROUNDINGS = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}


def _check_steps(node: OnnxNode, constant: Constant, kind: np.dtype) -> None:
    if node.attributes.get("block_size", 0):
        raise UnsupportedError(
            f"weights {constant.name!r} have a scale for each block, not each channel"
        )
    if kind not in (np.int8, np.uint8, np.int32):
        raise UnsupportedError(f"weights {constant.name!r} are {kind}, but must be int8")


def _along(node: OnnxNode, value: np.ndarray) -> tuple[int, list[int]]:
    """The axis of scales, and the shape that spreads them along it."""
    axis = node.attributes.get("axis", 1) % max(value.ndim, 1)
    return axis, [-1 if index == axis else 1 for index in range(value.ndim)]


def _spread(numbers: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.reshape(numbers, shape if np.size(numbers) > 1 else [1] * len(shape))
