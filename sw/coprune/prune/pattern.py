"""N:M pruning: N of every M consecutive input channels, chosen to keep the most importance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from coprune.prune.block_pattern import BlockPattern, parse_pattern
from coprune.prune.importance import Calibration, Loss, ScoreFunction, score_weights
from coprune.prune.permutation import permute_channels


@dataclass(frozen=True, eq=False)
class PrunedPattern:
    """What `prune_pattern` did to a network.

    Parameters
    ----------
    masks : dict
        Module name to the bool mask of the weights that were kept.
    patterns : dict
        Module name to its `BlockPattern`.
    importance, kept_importance : dict of float
        Module name to the sum of the layer's scores, and that of the weights that were kept.
    kept_without_permutation : dict of float
        What would have been kept with the channels in the order that they had.
    """

    masks: dict[str, torch.Tensor]
    patterns: dict[str, BlockPattern]
    importance: dict[str, float]
    kept_importance: dict[str, float]
    kept_without_permutation: dict[str, float]

    @property
    def kept_share(self) -> float:
        """Kept importance of all layers, of 1."""
        return sum(self.kept_importance.values()) / sum(self.importance.values())

    @property
    def permutation_gain(self) -> float:
        """How much the permutation raised the kept importance of all layers: 0.01 is 1 percent."""
        without = sum(self.kept_without_permutation.values())
        return sum(self.kept_importance.values()) / without - 1


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


def prune_pattern(
    model: nn.Module,
    pattern: str | Mapping[str, str | BlockPattern] = "4:16",
    *,
    importance: str | ScoreFunction = "magnitude",
    calibration: Calibration | None = None,
    loss: Loss | None = None,
    permute: bool = False,
    example: torch.Tensor | None = None,
    skip: Collection[str] = (),
) -> PrunedPattern:
    """Zero all but the N most important of every M consecutive input channels.

    That is for each output channel and kernel tap on its own. A last group of fewer channels keeps
    N of them or all. Of equal importances the lower channel stays.

    Parameters
    ----------
    pattern
        ``"N:M"`` for all `prunable_layers`, or the pattern of each layer by module name; layers
        that are not named stay dense. M is the accelerator's `lanes`.
    importance, calibration, loss
        As in `score_weights`.
    permute
        First put the channels of inner tensors into the order that keeps more importance, as
        `permute_channels` does; the network computes the same, but for the rounding of floats.
    example
        For ``permute``: an input [N, C, H, W] as `permute_channels` takes it; the first images of
        the calibration where it is None.
    skip
        Module names of layers to leave dense; only where all layers have one pattern.

    Raises
    ------
    ValueError
        A pattern is not N:M with 1 <= N <= M or for another shape, or a layer is not prunable at
        this M; ``permute`` lacks an example or meets a pattern that differs from block to block;
        or as `score_weights`.
    """
    patterns = _layer_patterns(model, pattern, skip=skip)
    layers = {name: model.get_submodule(name) for name in patterns}
    scores = score_weights(model, layers, importance=importance, calibration=calibration, loss=loss)
    without = {name: _sum(scores[name] * patterns[name].mask(scores[name])) for name in patterns}
    if permute:
        if example is None and calibration:
            example = calibration[0][0]
        if example is None:
            raise ValueError("permute needs an example input: pass example or calibration")
        scores = permute_channels(model, scores=scores, patterns=patterns, example=example)
    masks = {name: patterns[name].mask(scores[name]) for name in patterns}
    apply_masks(model, masks=masks)
    return PrunedPattern(
        masks=masks,
        patterns=patterns,
        importance={name: _sum(scores[name]) for name in patterns},
        kept_importance={name: _sum(scores[name] * masks[name]) for name in patterns},
        kept_without_permutation=without,
    )


def _sum(scores: torch.Tensor) -> float:
    return scores.double().sum().item()


def _layer_patterns(
    model: nn.Module, pattern: str | Mapping[str, str | BlockPattern], *, skip: Collection[str]
) -> dict[str, BlockPattern]:
    if isinstance(pattern, str):
        n, m = _parse(pattern)
        layers = prunable_layers(model, m=m, skip=skip)
        return {
            name: BlockPattern.uniform(tuple(layer.weight.shape), n=n, lanes=m)
            for name, layer in layers.items()
        }
    if skip:
        raise ValueError(
            f"skip must be empty where every layer has its pattern, not {sorted(skip)}: "
            "leave those layers out of pattern"
        )
    patterns = {}
    for name, of_layer in pattern.items():
        n, m = (None, of_layer.lanes) if isinstance(of_layer, BlockPattern) else _parse(of_layer)
        layers = prunable_layers(model, m=m)
        if name not in layers:
            raise ValueError(
                f"pattern must name layers that are prunable in groups of {m}, not {name!r}: "
                f"these are {list(layers)}"
            )
        patterns[name] = (
            of_layer
            if n is None
            else BlockPattern.uniform(tuple(layers[name].weight.shape), n=n, lanes=m)
        )
    return patterns


def _parse(text: str) -> tuple[int, int]:
    n, m = parse_pattern(text)
    if n == 0:
        raise ValueError(f"N must be at least 1 in a pattern N:M, not {text!r}")
    return n, m


@torch.no_grad()
def apply_masks(model: nn.Module, *, masks: Mapping[str, torch.Tensor]) -> None:
    """Set every weight that ``masks`` (by module name) does not keep to exactly zero."""
    for name, mask in masks.items():
        model.get_submodule(name).weight.masked_fill_(~mask, 0.0)
