"""Modules that PT2E puts into a network to choose the grids of activations and of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torchao.quantization.pt2e.observer import ObserverBase

from coprune.compiler.float_graph import Function
from coprune.quantize.accumulator import FINEST_STEP, common_step
from coprune.quantize.calibration import OBSERVERS, Grid, summarize
from coprune.quantize.running_statistics import RunningStatistics

AVERAGING = 0.01
"""Weight of a new batch in the moving average of a range that training changes."""
SMALLEST_STEP = 2.0**-126
"""Smallest step of weights: the smallest normal float32, as quantized networks store them."""


class _Observer(ObserverBase):
    """What PT2E asks of every observer.

    Parameters
    ----------
    dtype : torch.dtype
    quant_min, quant_max : int
    qscheme : torch.qscheme
    is_dynamic : bool
    """

    def __init__(
        self,
        *,
        dtype: torch.dtype,
        quant_min: int,
        quant_max: int,
        qscheme: torch.qscheme,
        is_dynamic: bool = False,
    ):
        super().__init__(dtype, is_dynamic)
        self.quant_min, self.quant_max = quant_min, quant_max
        self.qscheme = qscheme


class ActivationObserver(_Observer):
    """Collects the values of a tensor, and chooses its grid as `coprune.quantize.quantize` does.

    Parameters
    ----------
    tensor : str
        Name of the float graph's tensor or argument.
    choice : str
        ``"minmax"``, ``"percentile"`` or ``"mse"``.
    function : Function, optional
        Whose argument the tensor is.
    **spec
        As `QuantizationSpec` has it.
    """

    def __init__(self, *, tensor: str, choice: str, function: Function | None = None, **spec):
        super().__init__(**spec)
        self.tensor = tensor
        self._choose = partial(OBSERVERS[choice], function=function)
        self._statistics: RunningStatistics | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the values of a batch."""
        if self._statistics is None:
            self._statistics = RunningStatistics()
        self._statistics.add(x)
        return x

    def grid(self) -> Grid | None:
        """The grid so far; None before the first batch."""
        return None if self._statistics is None else self._choose(self._statistics.summary())

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and zero point, a value each.

        Raises
        ------
        ValueError
            The network has not run.
        """
        grid = self.grid()
        if grid is None:
            raise _unseen(f"tensor {self.tensor!r}")
        return torch.tensor([grid.scale]), torch.tensor([grid.zero])


class MovingActivationObserver(ActivationObserver):
    """The same while weights change: the ends of the grid follow those that each batch asks for."""

    def __init__(self, **spec):
        super().__init__(**spec)
        self._ends: tuple[float, float] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Move the ends of the grid towards those of a batch."""
        grid = self._choose(summarize(x.detach()))
        ends = tuple(grid.scale * (end - grid.zero) for end in (self.quant_min, self.quant_max))
        if self._ends is not None:
            ends = tuple(
                old + AVERAGING * (new - old) for old, new in zip(self._ends, ends, strict=True)
            )
        self._ends = ends
        return x

    def grid(self) -> Grid | None:
        """The grid so far; None before the first batch."""
        return None if self._ends is None else Grid.spanning(*self._ends)

    def get_extra_state(self) -> torch.Tensor:
        """What a state dict holds of it: the ends, or nothing before the first batch."""
        return torch.tensor(self._ends or (), dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Go on from where another observer was."""
        self._ends = tuple(state.tolist()) or None


class WeightObserver(_Observer):
    """Chooses the step of weights, one for each output channel.

    Where a layer sums several sources, they share an accumulator, so that the step depends on all
    of them: `layer` knows them.

    Parameters
    ----------
    source : str
        Name of the float graph's source.
    ch_axis : int
        Axis of the output channels.
    **spec
        As `QuantizationSpec` has it.
    """

    def __init__(self, *, source: str, ch_axis: int, **spec):
        super().__init__(**spec)
        self.source = source
        self.ch_axis = ch_axis
        self.largest: np.ndarray | None = None
        self.layer: SharedStep | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Note the largest weight of each channel."""
        others = [axis for axis in range(x.dim()) if axis != self.ch_axis]
        self.largest = x.detach().abs().amax(dim=others).double().cpu().numpy()
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales and zero points of all output channels.

        Raises
        ------
        ValueError
            The network has not run.
        """
        if self.largest is None:
            raise _unseen(f"the weights of {self.source!r}")
        scale = self.largest / self.quant_max
        if self.layer is not None:
            scale = self.layer.scale_of(self, otherwise=scale)
        scale = torch.from_numpy(np.maximum(scale, SMALLEST_STEP)).float()
        return scale, torch.zeros(len(scale), dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """One source of a layer.

    Parameters
    ----------
    weight : WeightObserver or float64 array [outputs]
        What knows its largest weights, or these, where they are exact.
    activation : ActivationObserver
        Of the tensor that it reads.
    """

    weight: WeightObserver | np.ndarray
    activation: ActivationObserver

    @property
    def exact(self) -> bool:
        """The weights must be integers: a copy, an average."""
        return not isinstance(self.weight, WeightObserver)

    @property
    def limit(self) -> int | None:
        """Largest integer weight; None where weights must be exact."""
        return None if self.exact else self.weight.quant_max


@dataclass(frozen=True, eq=False)
class SharedStep:
    """The accumulator step that the sources of a layer share, in every output channel.

    Parameters
    ----------
    parts : sequence of Part
    output : ActivationObserver or None
        Of what the layer writes.
    """

    parts: Sequence[Part]
    output: ActivationObserver | None

    def scale_of(self, weight: WeightObserver, *, otherwise: np.ndarray) -> np.ndarray:
        """Return the step of weights; `otherwise` before the tensor that they read was seen."""
        scales, reaches, limits = {}, [], []
        for part in self.parts:
            grid = part.activation.grid()
            largest = part.weight if part.exact else part.weight.largest
            # In the first batch of training later sources have not been seen yet.
            if grid is not None and largest is not None:
                scales[part.weight if not part.exact else None] = grid.scale
                reaches.append(largest * grid.scale)
                limits.append(part.limit)
        if weight not in scales:
            return otherwise
        grid = None if self.output is None else self.output.grid()
        floor = np.full(len(otherwise), FINEST_STEP * grid.scale if grid else SMALLEST_STEP)
        return common_step(reaches, limits=limits, floor=floor) / scales[weight]


def _unseen(what: str) -> ValueError:
    return ValueError(
        f"no values of {what} were seen: run the prepared network on calibration images before "
        "convert_pt2e"
    )
