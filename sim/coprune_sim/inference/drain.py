"""From sums to outputs, block by block: what `arithmetic.requantize` gives, in floats.

Every step is exact, so neither the order of operations nor a fused multiply-add changes a bit:

* ``t = floor((sum + bias + half) * 2**-pre_shift)``, with a numerator below 2**24, in float32;
* ``t * multiplier * 2**-post_shift + zero + 1/2``, in units of ``2**-post_shift`` or 1/2 an integer
  below 2**43, in float64;
* the clamp, between integers, before the conversion to an integer, which cuts the fraction off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from coprune_hw.contract.arithmetic import SATURATED_BITS
from coprune_sim.graph import Layer

from .pixels import PIXEL_OFFSET

BLOCK_VALUES = 1 << 16
"""Values that drain together: their float64 copies stay in the cache."""


class Drain:
    """Requantizes the sums of a layer, and adds identities to them on the way.

    Parameters
    ----------
    layer : Layer
        Its requantization is within the hardware's widths.
    saturates : bool
        Clip `t` to `SATURATED_BITS` bits.
    factors : sequence of float32 arrays [outputs]
        What the pixels of every identity are multiplied by.
    """

    def __init__(self, layer: Layer, *, saturates: bool, factors: Sequence[np.ndarray]) -> None:
        self.shape = layer.output.shape
        self.saturates = saturates
        self.factors = [self._row(factor) for factor in factors]
        self.multiplier = self._row(np.ldexp(layer.multiplier.astype(float), -layer.post_shift))
        # Without a shift the half is cut off again.
        offset = layer.requantized_zero + PIXEL_OFFSET + 0.5
        self.offset = torch.full_like(self.multiplier, offset)
        self.low, self.high = layer.low + PIXEL_OFFSET, layer.high + PIXEL_OFFSET
        self.table = None
        if layer.table is not None:
            stored = layer.table.astype(np.int16) + PIXEL_OFFSET
            self.table = torch.from_numpy(stored.astype(np.uint8))

    def __call__(self, sums: torch.Tensor, identities: Sequence[torch.Tensor]) -> torch.Tensor:
        """Drain a layer.

        Parameters
        ----------
        sums : float32 tensor [N, C, H, W]
            ``(sum + bias + half) * 2**-pre_shift``, without the identities; overwritten.
        identities : sequence of stored images [N, C, H, W]
            One for each of `factors`.

        Returns
        -------
        stored image [N, C, H, W]
        """
        channels, height, width = self.shape
        rows, row_values = len(sums) * height, width * channels
        sums = _pixel_rows(sums, row_values)
        identities = [_pixel_rows(image, row_values) for image in identities]
        outputs = torch.empty(rows, row_values, dtype=torch.uint8)
        block_rows = min(rows, max(1, BLOCK_VALUES // row_values))
        wide = torch.empty(block_rows, row_values, dtype=torch.float64)
        # PyTorch converts floats to int16 many at a time, but to uint8 one by one.
        narrow = torch.empty(block_rows, row_values, dtype=torch.int16)
        for start in range(0, rows, block_rows):
            block = slice(start, start + block_rows)
            shifted = sums[block]
            for factor, pixels in zip(self.factors, identities, strict=True):
                shifted.addcmul_(pixels[block].to(torch.float32), factor)
            shifted.floor_()
            if self.saturates:
                reach = 1 << (SATURATED_BITS - 1)
                shifted.clamp_(-reach, reach - 1)
            scaled = wide[: len(shifted)].copy_(shifted)
            torch.addcmul(self.offset, scaled, self.multiplier, out=scaled)
            scaled.clamp_(self.low, self.high)
            outputs[block] = narrow[: len(shifted)].copy_(scaled)
            if self.table is not None:
                outputs[block] = self.table[outputs[block].to(torch.int64)]
        return outputs.view(-1, height, width, channels).permute(0, 3, 1, 2)

    def _row(self, values: np.ndarray) -> torch.Tensor:
        """Values per channel, for all pixels of a row: channels alone would make short loops."""
        return torch.from_numpy(np.tile(values, self.shape[2]))


def _pixel_rows(image: torch.Tensor, row_values: int) -> torch.Tensor:
    """An image [N, C, H, W] as [N * H, W * C]: a view where channels are last in memory."""
    return image.permute(0, 2, 3, 1).reshape(-1, row_values)
