"""How a kernel moves over an image, automatic and uneven padding worked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        window = cls._given(call, kernel=kernel)
        mode = call.attribute("auto_pad", "NOTSET")
        if mode == "VALID":
            return window._padded((0,) * len(kernel), (0,) * len(kernel))
        if mode == "NOTSET":
            return window
        missing = [
            max(0, (output - 1) * step + (size - 1) * apart + 1 - image)
            for output, step, size, apart, image in zip(
                call.shape[1:],
                window.stride,
                kernel,
                window.dilation,
                call.operand_shape[1:],
                strict=True,
            )
        ]
        less, more = _halves(missing)
        return window._padded(less, more) if mode == "SAME_UPPER" else window._padded(more, less)

    @classmethod
    def of_transposed(cls, call: OnnxCall, *, kernel: Sequence[int]) -> Window:
        """The window of a transposed convolution: its zeros cut rows and columns off.

        Where they are automatic, or the result's size is given, both sides lose what is too much.
        """
        window = cls._given(call, kernel=kernel)
        mode = call.attribute("auto_pad", "NOTSET")
        if mode == "VALID":
            return window._padded((0,) * len(kernel), (0,) * len(kernel))
        if mode == "NOTSET" and call.attribute("output_shape") is None:
            return window
        further = call.attribute("output_padding", (0,) * len(kernel))
        excess = [
            max(0, step * (image - 1) + more + (size - 1) * apart + 1 - output)
            for step, image, more, size, apart, output in zip(
                window.stride,
                call.operand_shape[1:],
                further,
                kernel,
                window.dilation,
                call.shape[1:],
                strict=True,
            )
        ]
        less, more = _halves(excess)
        return window._padded(less, more) if mode == "SAME_UPPER" else window._padded(more, less)

    @classmethod
    def _given(cls, call: OnnxCall, *, kernel: Sequence[int]) -> Window:
        """What the node says, without its automatic padding."""
        axes = len(kernel)
        if axes not in (1, 2) or len(call.operand_shape) != 1 + axes:
            raise UnsupportedError(
                f"its window must have 1 or 2 axes, as its image, not {axes} over an image of "
                f"{list(call.operand_shape)}"
            )
        stride = tuple(call.attribute("strides", (1,) * axes))
        dilation = tuple(call.attribute("dilations", (1,) * axes))
        padding = tuple(call.attribute("pads", (0,) * 2 * axes))
        return cls(tuple(kernel), stride, dilation, padding[:axes], padding[axes:])

    def _padded(self, before: tuple[int, ...], after: tuple[int, ...]) -> Window:
        return replace(self, before=before, after=after)

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


def _halves(sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The lesser and the greater half of each."""
    return tuple(size // 2 for size in sizes), tuple(-(-size // 2) for size in sizes)


def from_last_axis(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Pads in PyTorch's order."""
    pairs = list(zip(before, after, strict=True))
    return [size for pair in reversed(pairs) for size in pair]
