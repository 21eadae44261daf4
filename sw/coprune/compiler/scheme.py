"""The numbers that a quantized network brings along."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Scheme:
    """Scales and zero points of a quantized network; empty for a float one.

    Parameters
    ----------
    grids : dict
        Name of a tensor of the float graph to scale and int8 zero point.
    source_grids : dict
        The same for convolutions that the network rounds before it adds them to something, by the
        name of the `FloatSource`. They count only where the quantizer gives the convolution a layer
        of its own.
    weight_scales : dict
        Name of a `FloatSource` to float64 array [outputs]: what one step of its weights stands for.
    """

    grids: dict[str, tuple[float, int]] = field(default_factory=dict)
    source_grids: dict[str, tuple[float, int]] = field(default_factory=dict)
    weight_scales: dict[str, np.ndarray] = field(default_factory=dict)


NOTHING_GIVEN = Scheme()
"""All grids and weight scales are to be chosen."""
