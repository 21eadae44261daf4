"""Resize and DepthToSpace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from coprune.compiler.expressions import Expression, UnsupportedError
from coprune.compiler.operators import ADVICE

from .call import OnnxCall

_PLACES: dict[str, Callable[[np.ndarray, float, int, int], np.ndarray]] = {
    "half_pixel": lambda place, scale, pixels, outputs: (place + 0.5) / scale - 0.5,
    "half_pixel_symmetric": lambda place, scale, pixels, outputs: (
        pixels / 2 * (1 - outputs / (scale * pixels)) + (place + 0.5) / scale - 0.5
    ),
    "pytorch_half_pixel": lambda place, scale, pixels, outputs: (
        (place + 0.5) / scale - 0.5 if outputs > 1 else 0.0 * place
    ),
    "align_corners": lambda place, scale, pixels, outputs: (
        place * (pixels - 1) / max(outputs - 1, 1)
    ),
    "asymmetric": lambda place, scale, pixels, outputs: place / scale,
}
"""Which place of the operand a place of the result is, by coordinate_transformation_mode."""
_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
"""By nearest_mode."""


def map_resize(call: OnnxCall) -> Expression:
    """Resize that repeats every pixel, whichever of its modes says so."""
    mode = call.attribute("mode", "nearest")
    if mode != "nearest":
        raise UnsupportedError(f"its mode must be nearest, not {mode}: {ADVICE['interpolate']}")
    sizes = list(zip(call.operand_shape, call.shape, strict=True))
    scales = _scales(call)
    for pixels, outputs in sizes:
        scale = scales.pop(0) if scales else outputs / pixels
        taken = _taken_pixels(call, pixels=pixels, outputs=outputs, scale=scale)
        repeated = np.arange(outputs) * pixels // outputs
        if outputs % pixels or not np.array_equal(taken, repeated):
            modes = " with ".join(_modes(call))
            raise UnsupportedError(
                f"{outputs} of {pixels} pixels by {modes} must repeat each of them as often: use "
                "asymmetric with floor, and a scale of 2, 4, 8 or 16"
            )
    if call.shape[0] != call.operand_shape[0]:
        raise UnsupportedError("it must leave the channels as they are")
    return call.lower(f"upsample_nearest{len(sizes) - 1}d", input=call.expression(0))


def map_depth_to_space(call: OnnxCall) -> Expression:
    """DepthToSpace: pixel_shuffle (CRD), or that of channels in another order (DCR)."""
    factor, value = call.attribute("blocksize"), call.expression(0)
    channels = call.operand_shape[0]
    if call.attribute("mode", "DCR") == "DCR":
        order = np.arange(channels).reshape(factor**2, -1).T.reshape(-1)
        value = call.lower(
            "index_select",
            shape=call.operand_shape,
            self=value,
            dim=1,
            index=torch.from_numpy(order),
        )
    return call.lower("pixel_shuffle", self=value, upscale_factor=factor)


def _modes(call: OnnxCall) -> tuple[str, str]:
    return (
        call.attribute("coordinate_transformation_mode", "half_pixel"),
        call.attribute("nearest_mode", "round_prefer_floor"),
    )


def _scales(call: OnnxCall) -> list[float]:
    """The scales of all axes but the batch where the node has those of all axes, else none."""
    scales = call.constant(2)
    is_whole = scales is not None and scales.size == 1 + len(call.operand_shape)
    return [float(scale) for scale in scales[1:]] if is_whole else []


def _taken_pixels(call: OnnxCall, *, pixels: int, outputs: int, scale: float) -> np.ndarray:
    """The pixel along one axis that each pixel of the result is."""
    place, rounding = _modes(call)
    if place not in _PLACES:
        raise UnsupportedError(
            f"its coordinate_transformation_mode must be one of {', '.join(_PLACES)}, not {place}"
        )
    numbers = _PLACES[place](np.arange(outputs, dtype=np.float64), scale, pixels, outputs)
    return _ROUNDINGS[rounding](numbers).clip(0, pixels - 1).astype(np.int64)
