"""Learning from a teacher: its soft targets, and if asked its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Distillation:
    """What a student learns from a teacher.

    Parameters
    ----------
    temperature, soft_share
        See `distillation_loss`.
    features
        Names of pairs of modules, the student's first, whose outputs are to be alike.
    feature_weight
        Factor of the mean squared difference of features; see `FeatureMatching`.
    """

    temperature: float = 4.0
    soft_share: float = 0.9
    features: tuple[tuple[str, str], ...] = ()
    feature_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature!r}")
        if not 0 <= self.soft_share <= 1:
            raise ValueError(f"soft_share must be in 0..1, not {self.soft_share!r}")
        if self.feature_weight < 0:
            raise ValueError(f"feature_weight must not be negative, not {self.feature_weight!r}")
        for pair in self.features:
            if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
                raise ValueError(
                    "features must be pairs of module names, the student's and the teacher's, "
                    f"not {pair!r}"
                )


def distillation_loss(
    logits: torch.Tensor,
    *,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    temperature: float = 4.0,
    soft_share: float = 0.9,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the mean loss against a teacher's probabilities and against the labels.

    With ``s`` for ``soft_share`` and ``T`` for ``temperature``::

        s * T^2 * KL(softmax(teacher / T) || softmax(logits / T))
            + (1 - s) * cross_entropy(logits, labels)

    after Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
    section 2; ``T^2`` keeps the gradients of both terms in proportion when ``T`` changes.

    Parameters
    ----------
    logits, teacher_logits
        [N, classes].
    labels
        int64 [N].
    label_smoothing
        Of the cross entropy.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, not {temperature!r}")
    if not 0 <= soft_share <= 1:
        raise ValueError(f"soft_share must be in 0..1, not {soft_share!r}")
    soft = F.kl_div(
        F.log_softmax(logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return soft_share * temperature**2 * soft + (1 - soft_share) * hard


class FeatureMatching(nn.Module):
    """Mean squared difference between a student's features and its teacher's.

    Where they differ in channels, a 1x1 projection of the student's is trained along, as the
    regressor of Romero et al., "FitNets: Hints for Thin Deep Nets", 2015.

    Parameters
    ----------
    student, teacher
        Networks; what the named modules give is kept while they run.
    pairs
        Names of modules, the student's first.
    image
        A batch, float32 [N, C, H, W], to see the features' shapes with.

    Raises
    ------
    ValueError
        There is no such module, or its features have another size than its partner's.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        pairs: Sequence[tuple[str, str]],
        image: torch.Tensor,
    ):
        super().__init__()
        self._pairs = tuple(pairs)
        self._seen: dict[tuple[str, str], torch.Tensor] = {}
        self._hooks = []
        for own, theirs in pairs:
            self._watch(student, own, side="student")
            self._watch(teacher, theirs, side="teacher")
        mode = student.training
        with torch.no_grad():
            student.eval()(image)
            student.train(mode)
            teacher(image)
        self.projections = nn.ModuleList(self._projection(*pair) for pair in self._pairs)
        self.projections.to(image.device)

    def forward(self) -> torch.Tensor:
        """Return the mean over the pairs, for what both networks ran on last."""
        losses = [
            F.mse_loss(projection(self._of(own, side="student")), self._of(theirs, side="teacher"))
            for (own, theirs), projection in zip(self._pairs, self.projections, strict=True)
        ]
        return torch.stack(losses).mean()

    def remove(self) -> None:
        """Watch the networks no longer."""
        for hook in self._hooks:
            hook.remove()

    def _watch(self, network: nn.Module, name: str, *, side: str) -> None:
        modules = dict(network.named_modules())
        if not name or name not in modules:
            raise ValueError(
                f"features must name modules, but the {side} has no {name!r}; it has "
                f"{', '.join(filter(None, modules))}"
            )

        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            self._seen[side, name] = output

        self._hooks.append(modules[name].register_forward_hook(keep))

    def _of(self, name: str, *, side: str) -> torch.Tensor:
        return self._seen[side, name].float()

    def _projection(self, own: str, theirs: str) -> nn.Module:
        ours, wanted = self._of(own, side="student"), self._of(theirs, side="teacher")
        if ours.dim() != wanted.dim() or ours.shape[2:] != wanted.shape[2:]:
            raise ValueError(
                f"features of {own!r} and {theirs!r} must have one size, "
                f"not {[*ours.shape[1:]]} and {[*wanted.shape[1:]]}"
            )
        inputs, outputs = ours.shape[1], wanted.shape[1]
        if inputs == outputs:
            return nn.Identity()
        if ours.dim() == 2:
            return nn.Linear(inputs, outputs, bias=False)
        return nn.Conv2d(inputs, outputs, 1, bias=False)
