"""Statistics of values that come in batches, each of which is seen once."""

from __future__ import annotations

import math

import numpy as np
import torch

from coprune.quantize.calibration import BINS, Statistics

FINE_BINS = 16 * BINS
"""Bins between the negative and the positive end of the histogram. The values reach beyond half of
one end at least, so they span an eighth of the bins or more, two for each bin of the result."""


class RunningStatistics:
    """Collects the statistics that `coprune.quantize.calibration.measure` takes two passes for.

    The histogram spans a power of two to either side of 0. Where values exceed it, pairs of bins
    are merged until it spans them, so the result does not depend on how values come in batches.
    """

    def __init__(self):
        self.low, self.high = math.inf, -math.inf
        self._square_sum, self._size = 0.0, 0
        self._exponent: int | None = None
        self._counts = np.zeros(FINE_BINS, np.int64)

    def add(self, values: torch.Tensor) -> None:
        """Add the values of a float tensor of any shape.

        Raises
        ------
        ValueError
            It holds NaN or infinity.
        """
        low, high = (float(bound) for bound in values.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("an activation holds NaN or infinity")
        self.low, self.high = min(low, self.low), max(high, self.high)
        exact = values.detach().double().flatten()
        self._square_sum += float(exact.square().sum())
        self._size += exact.numel()
        if reach := max(-low, high):
            self._span(math.frexp(reach)[1])
            end = 2.0**self._exponent
            counts = torch.histc(exact[exact != 0], FINE_BINS, min=-end, max=end)
            self._counts += counts.numpy().astype(np.int64)

    def summary(self) -> Statistics:
        """Return the statistics of all values so far; there must be some."""
        counts = np.zeros(BINS, np.int64)
        if self.low < self.high:
            end = 2.0**self._exponent
            used = np.flatnonzero(self._counts)
            centres = (used + 0.5) * (2 * end / FINE_BINS) - end
            bins = np.floor((centres - self.low) / (self.high - self.low) * BINS)
            np.add.at(counts, bins.clip(0, BINS - 1).astype(np.int64), self._counts[used])
        return Statistics(self.low, self.high, self._square_sum / self._size, counts)

    def _span(self, exponent: int) -> None:
        """Let the histogram reach from ``-2**exponent`` to ``2**exponent`` at least."""
        if self._exponent is None:
            self._exponent = exponent
        while self._exponent < exponent:
            merged = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.pad(merged, FINE_BINS // 4)
            self._exponent += 1
