"""How a network is trained: what decides its weights, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class TrainingSettings:
    """Optimizer, learning rate, augmentation and arithmetic.

    Parameters
    ----------
    batch
        Images in a step, over all processes.
    learning_rate
        After the warm-up; from there it falls along half a cosine.
    warmup_steps
        In which the learning rate rises linearly.
    cosine_epochs
        After which the cosine is zero; ``epochs`` where it is None. More of them keep the learning
        rate high until the cool-down.
    cooldown_epochs
        The last ones, in which the learning rate falls linearly to zero from wherever it is (Hu et
        al., "MiniCPM", 2024, section 4). A run can so be ended at any epoch, without another one
        from the beginning.
    optimizer
        ``"sgd"`` with Nesterov momentum, ``"adam"`` or ``"adamw"``.
    momentum
        Of ``"sgd"``.
    label_smoothing
        Share of a label that is spread over all classes (Szegedy et al., "Rethinking the
        Inception Architecture for Computer Vision", 2016, section 7).
    crop_padding
        Black pixels around an image before a random crop back to its size.
    flip
        Whether half of the images are mirrored.
    channels_last
        Whether pixels are stored with their channels beside each other, which is faster for many
        channels. It changes the order of sums and so the last bits of the result.
    precision
        Of forward and backward passes: ``"float32"``, ``"bfloat16"`` (autocast), or ``"auto"``,
        which measures both and takes the faster one.
    seed
        Of all random numbers: order, crops, mirroring and whatever the network draws.
    """

    epochs: int
    batch: int = 128
    learning_rate: float = 0.1
    warmup_steps: int = 0
    cosine_epochs: int | None = None
    cooldown_epochs: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    channels_last: bool = True
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        for name in ("warmup_steps", "weight_decay", "crop_padding", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)!r}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate!r}")
        for name in ("momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, not {getattr(self, name)!r}")
        if self.cosine_epochs is not None and self.cosine_epochs < self.epochs:
            raise ValueError(
                f"cosine_epochs must be at least {self.epochs} (epochs), not {self.cosine_epochs!r}"
            )
        if not 0 <= self.cooldown_epochs <= self.epochs:
            raise ValueError(
                f"cooldown_epochs must be from 0 to {self.epochs} (epochs), "
                f"not {self.cooldown_epochs!r}"
            )
        for name, known in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )

    def learning_rate_at(self, step: int, *, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0 over the whole run."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        epochs = self.epochs if self.cosine_epochs is None else self.cosine_epochs
        progress = (step - self.warmup_steps) / (epochs * steps_per_epoch - self.warmup_steps)
        rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        left = self.epochs - step / steps_per_epoch
        return rate * left / self.cooldown_epochs if left < self.cooldown_epochs else rate

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of ``parameters``."""
        common = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        if self.optimizer == "sgd":
            nesterov = self.momentum > 0
            return torch.optim.SGD(parameters, momentum=self.momentum, nesterov=nesterov, **common)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, **common)

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the network's weights and of its input."""
        return torch.channels_last if self.channels_last else torch.contiguous_format
