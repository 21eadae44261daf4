"""Exploration: accelerator and pruning searched together, for several objectives at once."""

from coprune.explore.evaluation import Evaluation, Evaluator
from coprune.explore.exploration import Exploration, Setup, explore
from coprune.explore.front import pareto_front
from coprune.explore.objectives import OBJECTIVES, Objective
from coprune.explore.pruning import PrunedGraph, prune_graph
from coprune.explore.space import Candidate, SearchSpace
from coprune.explore.trials import Trial, TrialState

__all__ = [
    "OBJECTIVES",
    "Candidate",
    "Evaluation",
    "Evaluator",
    "Exploration",
    "Objective",
    "PrunedGraph",
    "SearchSpace",
    "Setup",
    "Trial",
    "TrialState",
    "explore",
    "pareto_front",
    "prune_graph",
]
