"""Pruning: patterns, how masks are chosen, and when while a network trains."""

from coprune.prune.block_pattern import BlockPattern
from coprune.prune.budget import BudgetResult
from coprune.prune.hardware_pruner import HardwarePruner
from coprune.prune.importance import IMPORTANCES, score_weights
from coprune.prune.pattern import (
    apply_masks,
    nm_mask,
    prunable_layers,
    prune_nm,
    prune_unstructured,
)
from coprune.prune.schedule import (
    Choose,
    Gradual,
    OneShot,
    Schedule,
    Steps,
    StraightThrough,
    fixed_choice,
    pattern_choice,
)
from coprune.prune.sensitivity import Sensitivity
from coprune.prune.sparse_training import SparseTraining

__all__ = [
    "IMPORTANCES",
    "BlockPattern",
    "BudgetResult",
    "Choose",
    "Gradual",
    "HardwarePruner",
    "OneShot",
    "Schedule",
    "Sensitivity",
    "SparseTraining",
    "Steps",
    "StraightThrough",
    "apply_masks",
    "fixed_choice",
    "nm_mask",
    "pattern_choice",
    "prunable_layers",
    "prune_nm",
    "prune_unstructured",
    "score_weights",
]
