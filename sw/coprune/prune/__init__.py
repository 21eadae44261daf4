"""N:M pruning, and the fine-tuning that wins its accuracy back."""

from coprune.prune.distillation import distillation_loss
from coprune.prune.pattern import (
    MaskedTraining,
    apply_masks,
    nm_mask,
    prunable_layers,
    prune_nm,
    prune_unstructured,
)

__all__ = [
    "MaskedTraining",
    "apply_masks",
    "distillation_loss",
    "nm_mask",
    "prunable_layers",
    "prune_nm",
    "prune_unstructured",
]
