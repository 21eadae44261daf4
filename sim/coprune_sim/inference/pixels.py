"""Activations as the fast simulator keeps them: uint8, channels last.

An int8 value `q` is stored as ``q + 128``, which is what int8 matrix instructions take. Behind a
ReLU the zero point is then 0, as padding wants it.
"""

from __future__ import annotations

import torch

PIXEL_OFFSET = 128
PIXEL_MAX = 255


def from_int8(images: torch.Tensor) -> torch.Tensor:
    """Store int8 values [N, C, H, W] of any strides as uint8, channels last in memory."""
    stored = images.contiguous(memory_format=torch.channels_last).view(torch.uint8)
    return stored.bitwise_xor(PIXEL_OFFSET)


def to_int8(stored: torch.Tensor) -> torch.Tensor:
    """The int8 values that `stored` stands for."""
    return stored.bitwise_xor(PIXEL_OFFSET).view(torch.int8)
