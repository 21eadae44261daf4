"""Learning from a teacher's soft targets."""

import torch
import torch.nn.functional as F


def distillation_loss(
    logits: torch.Tensor,
    *,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    temperature: float = 4.0,
    soft_share: float = 0.9,
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
    hard = F.cross_entropy(logits, labels)
    return soft_share * temperature**2 * soft + (1 - soft_share) * hard
