"""Patterns of pruned weights: N of every M consecutive input channels, or no pattern at all."""

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import nn


def nm_mask(weight: torch.Tensor, *, n: int = 4, m: int = 16) -> torch.Tensor:
    """Return where ``weight`` keeps the ``n`` largest magnitudes of each group of ``m``.

    A group is ``m`` consecutive input channels of one output channel and one kernel tap; a last
    group of fewer channels keeps ``n`` of them or all. Of equal magnitudes the lower channel stays.

    Parameters
    ----------
    weight
        [out, in, height, width] of a convolution or [out, in] of a linear layer.

    Returns
    -------
    torch.Tensor
        bool, in the shape of ``weight``.
    """
    if not 1 <= n <= m:
        raise ValueError(f"n must be in 1..{m} (m), not {n!r}")
    if weight.dim() < 2:
        raise ValueError(f"weight must have an input channel axis, not shape {[*weight.shape]}")
    magnitudes = weight.detach().abs().movedim(1, -1)
    channels = magnitudes.shape[-1]
    # -1 is below every magnitude: padding is kept only where a group has fewer than n channels.
    groups = F.pad(magnitudes, (0, -channels % m), value=-1.0).unflatten(-1, (-1, m))
    kept = groups.argsort(dim=-1, descending=True, stable=True)[..., :n]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, kept, True)
    return mask.flatten(-2)[..., :channels].movedim(-1, 1).contiguous()


def prunable_layers(
    model: nn.Module, *, m: int = 16, skip: Collection[str] = ()
) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the layers whose pruning the accelerator turns into speed, by module name.

    These are the ungrouped convolutions and linear layers that have at least ``m`` input
    channels, except the last linear layer: the classifier is a sliver of the work and its
    errors go straight to the output.

    Parameters
    ----------
    skip
        Module names of layers to leave out.

    Raises
    ------
    ValueError
        If ``skip`` names a layer that is none of these anyway.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    classifier = linear[-1] if linear else None
    layers = {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels >= m)
        or (isinstance(module, nn.Linear) and module.in_features >= m and module is not classifier)
    }
    if unknown := set(skip) - set(layers):
        raise ValueError(f"skip must name prunable layers, not {sorted(unknown)}")
    return {name: layer for name, layer in layers.items() if name not in skip}


def prune_nm(
    model: nn.Module, *, n: int = 4, m: int = 16, skip: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Zero all but the ``n`` largest of every ``m`` weights in each of `prunable_layers`.

    Parameters
    ----------
    skip
        Module names of layers to leave dense.

    Returns
    -------
    dict
        Module name to the bool mask of the weights that were kept.

    Raises
    ------
    ValueError
        If ``skip`` names a layer that would not be pruned anyway.
    """
    masks = {
        name: nm_mask(layer.weight, n=n, m=m)
        for name, layer in prunable_layers(model, skip=skip, m=m).items()
    }
    apply_masks(model, masks=masks)
    return masks


def prune_unstructured(
    model: nn.Module, *, sparsity: float, skip: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Zero the smallest weights in each of `prunable_layers`, wherever they are.

    Parameters
    ----------
    sparsity
        Part of every layer's weights that becomes zero, from 0 to below 1.
    skip
        Module names of layers to leave dense.

    Returns
    -------
    dict
        Module name to the bool mask of the weights that were kept.

    Raises
    ------
    ValueError
        If ``sparsity`` is out of its range, or ``skip`` names a layer that would not be pruned.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be from 0 to below 1, not {sparsity!r}")
    masks = {
        name: _keep_largest(layer.weight, sparsity=sparsity)
        for name, layer in prunable_layers(model, skip=skip).items()
    }
    apply_masks(model, masks=masks)
    return masks


def _keep_largest(weight: torch.Tensor, *, sparsity: float) -> torch.Tensor:
    magnitudes = weight.detach().abs().flatten()
    pruned = magnitudes.argsort(stable=True)[: int(sparsity * len(magnitudes))]
    mask = torch.ones_like(magnitudes, dtype=torch.bool)
    mask[pruned] = False
    return mask.view_as(weight)


@torch.no_grad()
def apply_masks(model: nn.Module, *, masks: Mapping[str, torch.Tensor]) -> None:
    """Set every weight that ``masks`` (by module name) does not keep to exactly zero."""
    for name, mask in masks.items():
        model.get_submodule(name).weight.masked_fill_(~mask, 0.0)
