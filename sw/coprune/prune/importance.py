"""How much each weight matters: what the pruning methods keep the most of.

A score is not negative, and larger is more important. Scores of one layer can always be compared;
those of different layers as `docs/pruning_methods.md` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

Calibration: TypeAlias = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Batches of images float32 [N, C, H, W], preprocessed, and their labels int64 [N].

With a loss of one's own, labels may be whatever it takes, such as a teacher's logits.
"""
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits [N, classes] and labels to the mean loss of a batch."""
Scores: TypeAlias = dict[str, torch.Tensor]
"""Module name to a float tensor in the shape of the module's weight."""
Layer: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Linear
Layers: TypeAlias = Mapping[str, Layer]
ScoreFunction: TypeAlias = Callable[[nn.Module, Layers, Calibration], Mapping[str, torch.Tensor]]
"""An importance of one's own: from model (in evaluation mode), layers and calibration to scores."""


def score_weights(
    model: nn.Module,
    layers: Layers,
    *,
    importance: str | ScoreFunction = "magnitude",
    calibration: Calibration | None = None,
    loss: Loss | None = None,
) -> Scores:
    """Return how important each weight of ``layers`` is.

    A weight that is exactly zero, such as one that was pruned, scores 0: what is pruned stays
    pruned. Only ``"batch_norm"``, which is about channels, and a function of one's own may say
    otherwise.

    Parameters
    ----------
    model
        Evaluated with its batch norms' statistics, and left as it was: mode, gradients and hooks.
    layers
        Convolutions and linear layers of ``model`` by module name, such as `prunable_layers`.
    importance
        ``"magnitude"``, ``"energy"``, ``"lamp"``, ``"variance"``, ``"taylor"``, ``"fisher"``,
        ``"wanda"`` or ``"batch_norm"``, or a function.
    calibration
        Needed by the last four.
    loss
        Of ``"taylor"`` and ``"fisher"``; cross entropy by default.

    Raises
    ------
    ValueError
        An importance is unknown or lacks its calibration, a layer is of another kind or not used by
        the network, or scores are negative, not finite or of another shape than the weight.
    """
    for name, layer in layers.items():
        if not isinstance(layer, Layer):
            raise ValueError(
                f"layers must be convolutions or Linear modules, but {name!r} is a "
                f"{type(layer).__name__}: leave it out"
            )
    batches = _checked(calibration, model=model)
    if not callable(importance) and importance not in IMPORTANCES:
        raise ValueError(
            f"importance must be one of {sorted(IMPORTANCES)} or a function, not {importance!r}"
        )
    if importance in NEED_CALIBRATION and not batches:
        raise ValueError(
            f"importance {importance!r} needs calibration: pass a sequence of (images, labels)"
        )
    if not layers:
        return {}
    with _evaluation(model):
        if callable(importance):
            scores = importance(model, layers, batches)
        else:
            scores = IMPORTANCES[importance](model, layers, batches, loss or F.cross_entropy)
    return _checked_scores(scores, layers=layers)


def _magnitude(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    """``|w|``; Han et al., "Learning both weights and connections", 2015."""
    return {name: _weight(layer).abs() for name, layer in layers.items()}


def _energy(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    return {name: energy_scores(_weight(layer)) for name, layer in layers.items()}


def energy_scores(weight: torch.Tensor) -> torch.Tensor:
    """Return ``n^(1/4) w^2`` per sum of the squares of a layer's ``n`` weights.

    What a layer loses of its own energy is the relative error of its output for inputs without
    preferred direction, so that layers can be compared. The factor has no such reason: it is what
    fine-tuning liked best (see ``docs/pruning_methods.md``), as layers with many weights, late in
    most networks, recover less.
    """
    squares = weight.square()
    share = squares / squares.sum(dtype=torch.float64)
    # A layer of zeros alone divides 0 by 0.
    return (squares.numel() ** 0.25 * share).nan_to_num(0.0).to(squares)


def _lamp(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    """``w^2 / (sum of the squares of the layer's weights that are not smaller)``.

    Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", 2021. Of equal
    magnitudes the first is the larger one.
    """
    scores = {}
    for name, layer in layers.items():
        squares = _weight(layer).double().square().flatten()
        order = squares.argsort(descending=True, stable=True)
        not_smaller = squares[order].cumsum(0)
        lamp = torch.empty_like(squares)
        lamp[order] = squares[order] / not_smaller
        # A layer of zeros alone divides 0 by 0.
        scores[name] = lamp.nan_to_num(0.0).to(_weight(layer).dtype).view_as(layer.weight)
    return scores


def _variance(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    """``(w - mean)^2``, a weight's share of the variance of its filter's weights that are not zero.

    A filter is all weights of an output channel. In the spirit of Polyak and Wolf, "Channel-level
    acceleration of deep face representations", 2015, who prune what varies least.
    """
    scores = {}
    for name, layer in layers.items():
        weight = _weight(layer)
        axes = tuple(range(1, weight.dim()))
        count = (weight != 0).sum(dim=axes, keepdim=True).clamp(min=1)
        mean = weight.sum(dim=axes, keepdim=True) / count
        scores[name] = torch.where(weight == 0, 0.0, (weight - mean).square())
    return scores


def _taylor(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    """Mean over batches of ``|g w|``, ``g`` the gradient of the batch's mean loss.

    The loss that a batch's first-order expansion gives up with the weight; Molchanov et al.,
    "Importance estimation for neural network pruning", 2019. The absolute value is taken batch by
    batch, because the gradients of a trained network cancel out over all of them.
    """
    return _mean_over_batches(
        model, layers, batches, loss, score=lambda gradient, weight: (gradient * weight).abs()
    )


def _fisher(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    """Mean over images of ``(g w)^2 / 2``, ``g`` the gradient of one image's loss.

    The second-order expansion of the loss with the diagonal of the empirical Fisher information
    for that of the Hessian: LeCun et al., "Optimal brain damage", 1989; Theis et al., "Faster gaze
    prediction with dense networks and Fisher pruning", 2018. One backward pass for each image.
    """
    images = [
        pair
        for images, labels in batches
        for pair in zip(images.split(1), labels.split(1), strict=True)
    ]
    return _mean_over_batches(
        model, layers, images, loss, score=lambda gradient, weight: (gradient * weight).square() / 2
    )


def _wanda(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    """``|w| ||x||``, the Euclidean norm of the weight's input channel over images and pixels.

    Sun et al., "A simple and effective pruning approach for large language models", 2023.
    """
    squares = dict.fromkeys(layers, 0)

    def observe(name: str, layer: Layer, x: torch.Tensor) -> None:
        channels = x if isinstance(layer, nn.Linear) else x.movedim(1, -1)
        squares[name] = squares[name] + channels.double().square().flatten(0, -2).sum(dim=0)

    hooks = [
        layer.register_forward_pre_hook(
            lambda module, inputs, name=name: observe(name, module, inputs[0])
        )
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            for images, _ in batches:
                model(images)
    finally:
        for hook in hooks:
            hook.remove()
    scores = {}
    for name, layer in layers.items():
        if isinstance(squares[name], int):
            raise ValueError(f"layer {name!r} must be used by the network: leave it out")
        weight = _weight(layer)
        norms = squares[name].sqrt().to(weight.dtype)
        groups = getattr(layer, "groups", 1)
        # [group, in / group] to [out, in / group]: an output channel sees its own group alone.
        norms = norms.view(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
        scores[name] = weight.abs() * norms.view(*norms.shape, *[1] * (weight.dim() - 2))
    return scores


def _batch_norm(model: nn.Module, layers: Layers, batches: Calibration, loss: Loss) -> Scores:
    """``|gamma|`` of the batch norm that takes the layer's output, for all weights of a channel.

    Liu et al., "Learning efficient convolutional networks through network slimming", 2017.
    """
    norms = _following_norms(model, layers, images=batches[0][0])
    scores = {}
    for name, layer in layers.items():
        if name not in norms:
            raise ValueError(
                f"layer {name!r} must be followed by a batch norm with weights for importance "
                "'batch_norm': skip it or choose another importance"
            )
        weight = _weight(layer)
        gamma = norms[name].weight.detach().abs().to(weight.dtype)
        scores[name] = gamma.view(-1, *[1] * (weight.dim() - 1)).expand_as(weight).clone()
    return scores


IMPORTANCES: Mapping[str, Callable[[nn.Module, Layers, Calibration, Loss], Scores]] = {
    "magnitude": _magnitude,
    "energy": _energy,
    "lamp": _lamp,
    "variance": _variance,
    "taylor": _taylor,
    "fisher": _fisher,
    "wanda": _wanda,
    "batch_norm": _batch_norm,
}
NEED_CALIBRATION = frozenset({"taylor", "fisher", "wanda", "batch_norm"})


def _mean_over_batches(
    model: nn.Module,
    layers: Layers,
    batches: Calibration,
    loss: Loss,
    *,
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Scores:
    weights = {name: layer.weight for name, layer in layers.items()}
    trainable = {name: weight.requires_grad for name, weight in weights.items()}
    sums = {name: torch.zeros_like(_weight(layer)) for name, layer in layers.items()}
    try:
        for weight in weights.values():
            weight.requires_grad_()
        for images, labels in batches:
            with torch.enable_grad():
                value = loss(model(images), labels)
            gradients = torch.autograd.grad(value, [*weights.values()], allow_unused=True)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                if gradient is None:
                    raise ValueError(
                        f"the loss must depend on layer {name!r}, but the network does not use "
                        "its weight: leave the layer out"
                    )
                sums[name] += score(gradient, weight.detach())
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(trainable[name])
    return {name: total / len(batches) for name, total in sums.items()}


def _following_norms(
    model: nn.Module, layers: Layers, *, images: torch.Tensor
) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d]:
    """The batch norm whose input is the very tensor that a layer returned."""
    outputs: dict[int, tuple[str, torch.Tensor]] = {}
    norms = {}

    def produced(name: str, output: torch.Tensor) -> None:
        outputs[id(output)] = (name, output)  # the tensor, too: an id is free for another after it

    def consumed(norm: nn.Module, x: torch.Tensor) -> None:
        if id(x) in outputs and norm.weight is not None:
            norms[outputs[id(x)][0]] = norm

    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, name=name: produced(name, output))
        for name, layer in layers.items()
    ]
    hooks += [
        module.register_forward_pre_hook(lambda norm, inputs: consumed(norm, inputs[0]))
        for module in model.modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    try:
        with torch.no_grad():
            model(images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return norms


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, and each of its modules back into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight.detach()
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


def _checked(calibration: Calibration | None, *, model: nn.Module) -> list:
    device = next(model.parameters()).device
    batches = []
    for number, batch in enumerate(calibration or ()):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                f"calibration must be a sequence of (images, labels), but item {number} is a "
                f"{type(batch).__name__}"
            )
        images, labels = batch
        if images.dim() != 4 or not images.is_floating_point():
            raise ValueError(
                "calibration images must be float [N, C, H, W], "
                f"not {images.dtype} {[*images.shape]} in batch {number}"
            )
        if len(images) == 0 or len(images) != len(labels):
            raise ValueError(
                f"batch {number} of the calibration must have as many labels as images, not "
                f"{len(images)} images and {len(labels)} labels"
            )
        batches.append((images.to(device), labels.to(device)))
    return batches


def _checked_scores(scores: Mapping[str, torch.Tensor], *, layers: Layers) -> Scores:
    for name, layer in layers.items():
        if name not in scores:
            raise ValueError(f"scores must hold every layer, but {name!r} is missing")
        if scores[name].shape != layer.weight.shape:
            raise ValueError(
                f"scores of layer {name!r} must have its weight's shape "
                f"{[*layer.weight.shape]}, not {[*scores[name].shape]}"
            )
        if not bool((scores[name].isfinite() & (scores[name] >= 0)).all()):
            raise ValueError(
                f"scores of layer {name!r} must be finite and not negative: look for infinite or "
                "NaN weights and calibration images"
            )
    return {name: scores[name].detach() for name in layers}
