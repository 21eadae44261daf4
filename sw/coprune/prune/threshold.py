"""Pruning without a pattern: weights go wherever their importance is too small."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn

from coprune.prune.importance import Calibration, Loss, ScoreFunction, score_weights
from coprune.prune.pattern import apply_masks, prunable_layers

SCOPES = ("global", "local")
UNITS = ("layer", "filter", "kernel")


def prune_weights(
    model: nn.Module,
    *,
    threshold: float | None = None,
    sparsity: float | None = None,
    scope: str = "global",
    unit: str = "layer",
    importance: str | ScoreFunction = "magnitude",
    calibration: Calibration | None = None,
    loss: Loss | None = None,
    lanes: int = 16,
    skip: Collection[str] = (),
) -> dict[str, torch.Tensor]:
    """Zero the weights of `prunable_layers` whose importance does not exceed a threshold.

    Parameters
    ----------
    threshold
        A weight is kept when its importance is larger. In the global scope it is an importance; in
        the local one a multiple of the unit's mean importance, as those of Han et al., "Learning
        both weights and connections for efficient neural networks", 2015, are of the layer's
        standard deviation.
    sparsity
        Instead of a threshold: the part of the weights that becomes zero, from 0 to below 1; of all
        layers together in the global scope, of every unit in the local one, rounded down to a
        weight. Of equal importances those with lower indices are kept.
    scope
        ``"global"`` compares the weights of all layers, ``"local"`` those of a unit.
    unit
        Of the local scope: ``"layer"``, ``"filter"`` (an output channel) or ``"kernel"`` (the taps
        of one input channel for one output channel).
    importance, calibration, loss
        As in `score_weights`.
    lanes
        Layers with fewer input channels stay dense.
    skip
        Module names of layers to leave dense.

    Returns
    -------
    dict
        Module name to the bool mask of the weights that were kept.

    Raises
    ------
    ValueError
        There is not exactly one of threshold and sparsity, one is out of its range, scope or unit
        do not exist or do not go together, a kernel has one weight only, ``skip`` names a layer
        that would not be pruned; or as `score_weights`.
    """
    _check_amount(threshold=threshold, sparsity=sparsity)
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {SCOPES}, not {scope!r}")
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {UNITS}, not {unit!r}")
    if scope == "global" and unit != "layer":
        raise ValueError(f"unit {unit!r} must go with scope 'local', not 'global'")
    layers = prunable_layers(model, m=lanes, skip=skip)
    scores = score_weights(model, layers, importance=importance, calibration=calibration, loss=loss)
    if scope == "local":
        rows = {name: _units(values, unit=unit, name=name) for name, values in scores.items()}
        if threshold is not None:
            kept = {
                name: values > threshold * values.mean(dim=1, keepdim=True)
                for name, values in rows.items()
            }
        else:
            kept = {name: _keep_largest(values, sparsity=sparsity) for name, values in rows.items()}
    elif threshold is not None:
        kept = {name: values > threshold for name, values in scores.items()}
    elif scores:
        everything = torch.cat([values.flatten() for values in scores.values()])
        parts = _keep_largest(everything[None], sparsity=sparsity)[0].split(
            [values.numel() for values in scores.values()]
        )
        kept = dict(zip(scores, parts, strict=True))
    else:
        kept = {}
    masks = {name: mask.view_as(scores[name]) for name, mask in kept.items()}
    apply_masks(model, masks=masks)
    return masks


def _check_amount(*, threshold: float | None, sparsity: float | None) -> None:
    if (threshold is None) == (sparsity is None):
        raise ValueError(
            "exactly one of threshold and sparsity must be given, "
            f"not {threshold!r} and {sparsity!r}"
        )
    if threshold is not None and not 0 <= threshold < math.inf:
        raise ValueError(f"threshold must be finite and not negative, not {threshold!r}")
    if sparsity is not None and not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be from 0 to below 1, not {sparsity!r}")


def _units(scores: torch.Tensor, *, unit: str, name: str) -> torch.Tensor:
    """[units, weights of a unit]"""
    if unit == "layer":
        return scores.reshape(1, -1)
    if unit == "filter":
        return scores.reshape(len(scores), -1)
    taps = math.prod(scores.shape[2:])
    if taps == 1:
        raise ValueError(
            f"a kernel must have several weights to choose from, but those of layer {name!r} have "
            "one: skip the layer or choose unit 'filter'"
        )
    return scores.reshape(-1, taps)


def _keep_largest(rows: torch.Tensor, *, sparsity: float) -> torch.Tensor:
    # The inner rounding makes 29 of 0.29 * 100 = 28.999...
    pruned = math.floor(round(sparsity * rows.shape[1], 6))
    order = rows.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(rows, dtype=torch.bool)
    return mask.scatter_(1, order[:, : rows.shape[1] - pruned], True)
