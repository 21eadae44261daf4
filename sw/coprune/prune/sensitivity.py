"""What accuracy a layer costs when it is pruned alone, and what cycles that saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coprune.prune.block_pattern import BlockPattern
from coprune.prune.cycle_counter import CycleCounter
from coprune.prune.importance import Loss
from coprune.prune.pattern import apply_masks

BATCH = 250
"""Images that are run at once."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Accuracy, loss and cycles of a network of which one layer is pruned to N:lanes.

    Parameters
    ----------
    layers : tuple of str
        Module names.
    ns : tuple of int
        N of N:lanes, rising.
    lanes : int
    accuracy, loss : float arrays [layers, ns]
        Share of the images whose label has the largest output, and mean loss.
    cycles : int array [layers, ns]
        From start to interrupt.
    dense_accuracy, dense_loss : float
    dense_cycles : int
    images : int
        That were measured.
    """

    layers: tuple[str, ...]
    ns: tuple[int, ...]
    lanes: int
    accuracy: np.ndarray
    loss: np.ndarray
    cycles: np.ndarray
    dense_accuracy: float
    dense_loss: float
    dense_cycles: int
    images: int

    @property
    def loss_per_kilocycle(self) -> np.ndarray:
        """Rise of the loss per 1,000 cycles saved [layers, ns]; NaN where none are saved."""
        saved = (self.dense_cycles - self.cycles) / 1000
        rise = self.loss - self.dense_loss
        return np.divide(rise, saved, out=np.full(rise.shape, np.nan), where=saved > 0)


def measure_sensitivity(
    model: nn.Module,
    scores: Mapping[str, torch.Tensor],
    *,
    counter: CycleCounter,
    lanes: int,
    ns: Sequence[int],
    images: torch.Tensor,
    labels: torch.Tensor,
    loss: Loss | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Measure a network with one layer at a time pruned to each N:lanes; it is left as it was.

    Parameters
    ----------
    scores
        By the names of the layers to prune.
    ns
        Rising, from 0 to `lanes`.
    images, labels
        Float32 [N, C, H, W] and int64 [N].
    loss
        Cross entropy by default.
    progress
        Called with the number of measurements done and of all.

    Raises
    ------
    ValueError
        There are no layers or images, labels of another number, or an N out of its range.
    """
    if not scores:
        raise ValueError(f"the network must have layers with at least {lanes} input channels")
    if not len(images) or len(images) != len(labels):
        raise ValueError(f"there must be a label for each of at least one image, not {len(labels)}")
    if not ns or min(ns) < 0 or max(ns) > lanes:
        raise ValueError(f"ns must be in 0..{lanes} (lanes), not {list(ns)}")
    loss = F.cross_entropy if loss is None else loss
    shape = (len(scores), len(ns))
    accuracy, losses, cycles = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    dense_accuracy, dense_loss = _evaluate(model, images, labels, loss)
    for row, (name, layer_scores) in enumerate(scores.items()):
        weight = model.get_submodule(name).weight
        dense = weight.detach().clone()
        for column, n in enumerate(ns):
            pattern = BlockPattern.uniform(tuple(weight.shape), n=n, lanes=lanes)
            masks = {name: pattern.mask(layer_scores)}
            try:
                apply_masks(model, masks=masks)
                accuracy[row, column], losses[row, column] = _evaluate(model, images, labels, loss)
            finally:
                with torch.no_grad():
                    weight.copy_(dense)
            cycles[row, column] = counter.count(masks).total.cycles
            if progress is not None:
                progress(row * len(ns) + column + 1, len(scores) * len(ns))
    return Sensitivity(
        layers=tuple(scores),
        ns=tuple(ns),
        lanes=lanes,
        accuracy=accuracy,
        loss=losses,
        cycles=cycles,
        dense_accuracy=dense_accuracy,
        dense_loss=dense_loss,
        dense_cycles=counter.count({}).total.cycles,
        images=len(images),
    )


@torch.inference_mode()
def _evaluate(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, loss: Loss
) -> tuple[float, float]:
    """Accuracy and mean loss."""
    logits = torch.cat([model(batch) for batch in images.split(BATCH)])
    correct = float((logits.argmax(dim=1) == labels).double().mean())
    return correct, float(loss(logits, labels))
