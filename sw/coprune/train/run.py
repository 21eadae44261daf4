"""The state of a training run from one step to the next, and how it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from coprune.prune.schedule import Choose, Schedule
from coprune.prune.sparse_training import SparseTraining
from coprune.train.augmentation import EPOCH_SEEDS
from coprune.train.checkpoint import load_checkpoint, save_checkpoint
from coprune.train.distillation import Distillation, FeatureMatching, distillation_loss
from coprune.train.images import TrainingImages
from coprune.train.mode import set_training
from coprune.train.precision import choose_precision
from coprune.train.settings import PRECISIONS, TrainingSettings
from coprune.train.teacher import Teacher
from coprune.train.workers import Workers

STEP_SEEDS = 100_003
"""More than an epoch has steps."""
WORKER_SEEDS = 1009
"""More than there are processes."""


class Run:
    """The state of a run from one step to the next, and how it is kept."""

    def __init__(
        self,
        model: nn.Module,
        *,
        images: TrainingImages,
        settings: TrainingSettings,
        folder: Path,
        workers: Workers,
        choose: Choose | None,
        schedule: Schedule,
        teacher: nn.Module | None,
        distillation: Distillation,
        origin: Mapping[str, Any] | None,
    ):
        self.model, self.images, self.settings = model, images, settings
        self.folder, self.workers, self.distillation = folder, workers, distillation
        self.device = next(model.parameters()).device
        self.steps_per_epoch = -(-len(images) // settings.batch)
        model.to(memory_format=settings.memory_format)
        self.teacher = None
        if teacher is not None:
            self.teacher = Teacher(
                teacher, device=self.device, memory_format=settings.memory_format
            )
        self.features = self._match_features()
        self.optimizer = settings.make_optimizer(
            [value for module in self.modules for value in module.parameters()]
        )
        self.sparse = None
        if choose is not None:
            self.sparse = SparseTraining(
                model,
                choose=choose,
                optimizer=self.optimizer,
                schedule=schedule,
                steps_per_epoch=self.steps_per_epoch,
            )
        self._identity = {
            "settings": asdict(settings),
            "schedule": None if choose is None else repr(schedule),
            "distillation": None if teacher is None else asdict(distillation),
            "images": len(images),
            "origin": None if origin is None else dict(origin),
        }
        self.precision = settings.precision
        self.epoch, self.step = 0, 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.float64, device=self.device)
        self.history: list[dict] = []
        self._training: bool | None = None

    @property
    def modules(self) -> list[nn.Module]:
        """All that learns."""
        return [self.model] if self.features is None else [self.model, self.features]

    def resume(self, console: Console) -> None:
        """Take over the checkpoint, if there is one, and choose the precision."""
        checkpoint = load_checkpoint(self.folder, identity=self._identity)
        # No process may write a checkpoint before all have read.
        self.workers.wait()
        if checkpoint is not None:
            for module, state in zip(self.modules, checkpoint["modules"], strict=True):
                module.load_state_dict(state)
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            if self.sparse is not None:
                self.sparse.load_state_dict(checkpoint["sparse"])
            for name in ("precision", "epoch", "step", "history"):
                setattr(self, name, checkpoint[name])
            self.loss_sum += checkpoint["loss_sum"]
            self.correct += checkpoint["correct"]
        if self.precision == "auto":
            self.precision = self._measure_precision(console)
        if self.teacher is not None:
            self.teacher.precision = self.precision

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self.folder,
            {
                "identity": self._identity,
                "modules": [module.state_dict() for module in self.modules],
                "optimizer": self.optimizer.state_dict(),
                "sparse": None if self.sparse is None else self.sparse.state_dict(),
                "precision": self.precision,
                "epoch": self.epoch,
                "step": self.step,
                "history": self.history,
                "loss_sum": self.loss_sum.item(),
                "correct": self.correct.item(),
            },
        )

    @contextmanager
    def pruned(self) -> Iterator[None]:
        """Inside, the network is in evaluation mode and as pruned as it is in training."""
        self.set_training(False)
        with nullcontext() if self.sparse is None else self.sparse.pruned():
            yield

    def finish(self) -> dict[str, torch.Tensor]:
        """Leave the network pruned and in evaluation mode, and return the masks."""
        self.set_training(False)
        if self.features is not None:
            self.features.remove()
        return {} if self.sparse is None else self.sparse.finish()

    def set_training(self, training: bool) -> None:
        """Put the network in training or evaluation mode, which takes a graph some seconds."""
        if training != self._training:
            set_training(self.model, training=training)
            self._training = training

    def begin_step(self) -> None:
        """Set random numbers and learning rate of a step, and prune if it is time to."""
        settings = self.settings
        # Every step seeds what the network draws, so a checkpoint needs no generator.
        seed = (settings.seed * EPOCH_SEEDS + self.epoch) * STEP_SEEDS + self.step
        torch.manual_seed(seed * WORKER_SEEDS + self.workers.rank)
        number = self.epoch * self.steps_per_epoch + self.step
        rate = settings.learning_rate_at(number, steps_per_epoch=self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.sparse is not None:
            self.sparse.before_forward()

    def end_epoch(self) -> None:
        """Add what the epoch's images gave to the history."""
        line = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "precision": self.precision,
            "loss": self.loss_sum.item() / len(self.images),
            "train_accuracy": self.correct.item() / len(self.images),
        }
        if self.sparse is not None:
            line["kept"] = self.sparse.kept
        self.history.append(line)
        self.loss_sum.zero_()
        self.correct.zero_()
        self.epoch, self.step = self.epoch + 1, 0

    def loss(
        self, logits: torch.Tensor, *, labels: torch.Tensor, teacher_logits: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the mean loss of the images that the networks ran on last."""
        smoothing = self.settings.label_smoothing
        if teacher_logits is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss = distillation_loss(
            logits,
            teacher_logits=teacher_logits,
            labels=labels,
            temperature=self.distillation.temperature,
            soft_share=self.distillation.soft_share,
            label_smoothing=smoothing,
        )
        if self.features is not None:
            loss = loss + self.distillation.feature_weight * self.features()
        return loss

    def _match_features(self) -> FeatureMatching | None:
        if self.teacher is None or not self.distillation.features:
            return None
        first = next(self.images.steps(0)).part(slice(0, 1))
        # First weights of projections.
        torch.manual_seed(self.settings.seed)
        return FeatureMatching(
            self.model,
            self.teacher.network,
            pairs=self.distillation.features,
            image=self.images.take(first)[0],
        )

    def _measure_precision(self, console: Console) -> str:
        pixels, labels = self.images.take(next(self.images.steps(0)))
        chosen, speeds = choose_precision(self.model, pixels=pixels, labels=labels)
        chosen = PRECISIONS[int(self.workers.agree(PRECISIONS.index(chosen)))]
        rates = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
        console.print(f"images per second in {rates}: {chosen} it is", highlight=False)
        return chosen
