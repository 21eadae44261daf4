"""Pruning: patterns, how masks are chosen, and when while a network trains."""

from coprune.prune.block_pattern import BlockPattern
from coprune.prune.budget import BudgetResult
from coprune.prune.hardware_pruner import HardwarePruner
from coprune.prune.importance import IMPORTANCES, score_weights
from coprune.prune.pattern import (
    PrunedPattern,
    apply_masks,
    prunable_layers,
    prune_pattern,
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
from coprune.prune.structure import Structure, apply_structure, prune_structure
from coprune.prune.threshold import prune_weights

__all__ = [
    "IMPORTANCES",
    "BlockPattern",
    "BudgetResult",
    "Choose",
    "Gradual",
    "HardwarePruner",
    "OneShot",
    "PrunedPattern",
    "Schedule",
    "Sensitivity",
    "SparseTraining",
    "Steps",
    "StraightThrough",
    "Structure",
    "apply_masks",
    "apply_structure",
    "fixed_choice",
    "pattern_choice",
    "prunable_layers",
    "prune_pattern",
    "prune_structure",
    "prune_weights",
    "score_weights",
]
