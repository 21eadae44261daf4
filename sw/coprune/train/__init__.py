"""Training and fine-tuning: one loop, with pruning and a teacher where they are asked for."""

from coprune.train.checkpoint import save_state_dict
from coprune.train.distillation import Distillation, FeatureMatching, distillation_loss
from coprune.train.evaluation import evaluate
from coprune.train.loop import train
from coprune.train.settings import TrainingSettings

__all__ = [
    "Distillation",
    "FeatureMatching",
    "TrainingSettings",
    "distillation_loss",
    "evaluate",
    "save_state_dict",
    "train",
]
