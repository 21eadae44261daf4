"""Channels of a layer or batch norm taken out or put in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import nn

Selection: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]
"""Module name to ``"inputs"`` and ``"outputs"``: which channels it keeps, in their new order."""

_NORMS = nn.BatchNorm1d | nn.BatchNorm2d
_CONVOLUTIONS = nn.Conv1d | nn.Conv2d


def select_channels(model: nn.Module, selection: Selection) -> None:
    """Keep the selected channels of every module that is named, in place.

    Gradients that do not fit any more are dropped. A depthwise convolution's inputs go with its
    outputs.

    Raises
    ------
    ValueError
        A module is of another kind, or does not have a channel: the selection is another network's.
    """
    for name, axes in selection.items():
        module = model.get_submodule(name)
        if not isinstance(module, _CONVOLUTIONS | nn.Linear | _NORMS):
            raise ValueError(
                f"channels must be those of convolutions, linear layers and batch norms, but "
                f"{name!r} is a {type(module).__name__}"
            )
        for role, channels in axes.items():
            count = _channels(module, role=role)
            if not channels or min(channels) < 0 or max(channels) >= count:
                raise ValueError(
                    f"{role} of {name!r} must be some of its {count} channels, "
                    f"not {[*channels][:8]}{' ...' if len(channels) > 8 else ''}"
                )
            _select(module, role=role, channels=torch.as_tensor(channels))


def _channels(module: nn.Module, *, role: str) -> int:
    if isinstance(module, _NORMS):
        return module.num_features
    return module.weight.shape[("outputs", "inputs").index(role)]


def _select(module: nn.Module, *, role: str, channels: torch.Tensor) -> None:
    if role == "inputs":
        _assign(module, "weight", axis=1, channels=channels)
    else:
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, name, None) is not None:
                _assign(module, name, axis=0, channels=channels)
    count = len(channels)
    if isinstance(module, _NORMS):
        module.num_features = count
    elif isinstance(module, nn.Linear):
        setattr(module, "in_features" if role == "inputs" else "out_features", count)
    elif role == "inputs":
        module.in_channels = count
    elif module.groups == 1:
        module.out_channels = count
    else:
        multiplier = module.out_channels // module.groups
        module.out_channels = count
        module.groups = module.in_channels = count // multiplier


@torch.no_grad()
def _assign(module: nn.Module, name: str, *, axis: int, channels: torch.Tensor) -> None:
    old = getattr(module, name)
    new = old.index_select(axis, channels.to(old.device))
    if new.shape == old.shape:  # keeps the parameter that an optimizer may know
        old.copy_(new)
        old.grad = None
    elif isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, name, new)
