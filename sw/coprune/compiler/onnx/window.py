"""How a kernel moves over an image, automatic and uneven padding worked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coprune.compiler.expressions import Expression, UnsupportedError

from .call import OnnxCall


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image of one or two axes; `before` and `after` are zeros."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, call: OnnxCall, *, kernel: Sequence[int]) -> Window:
        """The window of a convolution or pooling, with its automatic padding worked out."""
        axes = len(kernel)
        if axes not in (1, 2) or len(call.operand_shape) != 1 + axes:
            raise UnsupportedError(
                f"its window must have 1 or 2 axes, as its image, not {axes} over an image of "
                f"{list(call.operand_shape)}"
            )
        stride = tuple(call.attribute("strides", (1,) * axes))
        dilation = tuple(call.attribute("dilations", (1,) * axes))
        padding = tuple(call.attribute("pads", (0,) * 2 * axes))
        mode = call.attribute("auto_pad", "NOTSET")
        if mode == "VALID":
            padding = (0,) * 2 * axes
        elif mode != "NOTSET":
            missing = [
                max(0, (output - 1) * step + (size - 1) * apart + 1 - image)
                for output, step, size, apart, image in zip(
                    call.shape[1:], stride, kernel, dilation, call.operand_shape[1:], strict=True
                )
            ]
            less, more = [size // 2 for size in missing], [-(-size // 2) for size in missing]
            padding = (*less, *more) if mode == "SAME_UPPER" else (*more, *less)
        return cls(tuple(kernel), stride, dilation, padding[:axes], padding[axes:])

    @property
    def even(self) -> bool:
        """As many zeros on either side."""
        return self.before == self.after


def pad_unevenly(
    call: OnnxCall, window: Window
) -> tuple[Expression, tuple[int, ...], tuple[int, ...]]:
    """The operand, its shape, and the padding that is left to do, the same on either side."""
    value = call.expression(0)
    if window.even:
        return value, call.operand_shape, window.before
    channels, *image = call.operand_shape
    sizes = zip(image, window.before, window.after, strict=True)
    shape = (channels, *(sum(each) for each in sizes))
    pad = from_last_axis(window.before, window.after)
    value = call.lower("pad", shape=shape, self=value, pad=pad, mode="constant", value=0.0)
    return value, shape, (0,) * len(image)


def from_last_axis(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Pads in PyTorch's order."""
    pairs = list(zip(before, after, strict=True))
    return [size for pair in reversed(pairs) for size in pair]
