"""Convolutions of stored pixels whose float32 results are exact sums times powers of two.

That they are exact is `proof`'s business.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F

from coprune_sim.graph import Source, Tensor
from coprune_sim.reference import window_padding

from .pixels import PIXEL_MAX, PIXEL_OFFSET


class Int8Products:
    """A convolution with int8 weights: oneDNN adds up in int32, and converts to float32 once.

    Pixels count from the tensor's zero point on.

    Parameters
    ----------
    source : Source
    tensor, output : Tensor
        What it reads, and whose size the result has.
    scale : float32 tensor [outputs]
        Powers of two that multiply the sums.
    bias : float32 tensor [outputs] or None
        Added behind that.
    """

    def __init__(
        self,
        source: Source,
        *,
        tensor: Tensor,
        output: Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> None:
        self.zero = tensor.zero + PIXEL_OFFSET
        self.scale, self.bias = scale, bias
        self.weight_zero = torch.zeros(len(scale), dtype=torch.int32)
        self.frame, padding = _frame(source, tensor=tensor, output=output)
        stride = (source.stride, source.stride)
        self.window = (stride, padding, source.dilation, source.groups)
        weight = torch.from_numpy(source.weight.astype(np.int8))
        self.weight = torch.ops.onednn.qconv_prepack(weight, scale, 1.0, self.zero, *self.window)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Sums, float32 [N, outputs, rows, columns], of a stored image [N, C, H, W]."""
        if self.frame is not None:
            image = F.pad(image, self.frame, value=self.zero)
            image = image.contiguous(memory_format=torch.channels_last)
        activation = (1.0, self.zero)
        weight = (self.weight, self.scale, self.weight_zero)
        output = (1.0, 0, torch.float32)
        no_function = ("none", [], "none")
        return torch.ops.onednn.qconv2d_pointwise(
            image, *activation, *weight, self.bias, *self.window, *output, *no_function
        )


class FloatProducts:
    """A float32 convolution, with any weights; parameters as those of `Int8Products`.

    Pixels count from 0 on. The scale is in the weights, which a power of two does not round.
    """

    def __init__(
        self,
        source: Source,
        *,
        tensor: Tensor,
        output: Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> None:
        self.zero = tensor.zero + PIXEL_OFFSET
        self.frame, padding = _frame(source, tensor=tensor, output=output, value=self.zero)
        weight = torch.from_numpy(source.weight).to(torch.float32) * scale.view(-1, 1, 1, 1)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias
        self.window = (source.stride, padding, source.dilation, source.groups)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Sums, float32 [N, outputs, rows, columns], of a stored image [N, C, H, W]."""
        values = image.to(torch.float32)
        if self.frame is not None:
            values = F.pad(values, self.frame, value=self.zero)
        return F.conv2d(values, self.weight, self.bias, *self.window)


@functools.cache
def int8_products_are_exact() -> bool:
    """Whether PyTorch on this machine has int8 convolutions that never saturate.

    Processors without instructions for them add up pairs of products in 16 bits. Pairs of the
    largest products show it, in the kernels for plain, pointwise and depthwise convolutions.
    """
    if not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        return False
    cases = ((64, 1, 3), (64, 1, 1), (3, 1, 3), (16, 16, 3))
    return all(
        _is_exact(np.full((channels, channels // groups, kernel, kernel), value), groups=groups)
        for channels, groups, kernel in cases
        for value in (-128, 127)
    )


def _is_exact(weight: np.ndarray, *, groups: int) -> bool:
    """A convolution of white images with constant weights is exact."""
    channels, kernel = len(weight), weight.shape[2]
    size = 8 - (kernel - 1)
    products = Int8Products(
        Source("image", weight, groups=groups),
        tensor=Tensor("image", channels, 8, 8, scale=1.0, zero=-PIXEL_OFFSET),
        output=Tensor("sums", channels, size, size, scale=1.0, zero=0),
        scale=torch.ones(channels),
        bias=None,
    )
    white = torch.full((2, 8, 8, channels), PIXEL_MAX, dtype=torch.uint8).permute(0, 3, 1, 2)
    return bool((products(white) == PIXEL_MAX * int(weight[0].sum())).all())


def _frame(
    source: Source, *, tensor: Tensor, output: Tensor, value: int = 0
) -> tuple[tuple[int, int, int, int] | None, tuple[int, int]]:
    """Padding ahead of the convolution as `F.pad` takes it, and padding that it does itself.

    A convolution pads all sides alike, with a `value` of 0 only.
    """
    kernel, image = source.weight.shape[2:], (tensor.height, tensor.width)
    size = (output.height, output.width)
    padded_alike = tuple(
        (image[axis] + 2 * source.padding[axis] - source.dilation[axis] * (kernel[axis] - 1) - 1)
        // source.stride
        + 1
        for axis in range(2)
    )
    if padded_alike == size and (value == 0 or source.padding == (0, 0)):
        return None, source.padding
    frame = window_padding(
        kernel=kernel,
        stride=source.stride,
        padding=source.padding,
        dilation=source.dilation,
        image=image,
        output=size,
    )
    return frame, (0, 0)
