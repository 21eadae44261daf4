"""Whole channels and layers taken out: the network gets smaller, and stays an ordinary one."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from coprune.prune.channel_graph import ChannelGraph
from coprune.prune.channel_selection import select_channels
from coprune.prune.importance import Calibration, Loss, ScoreFunction, score_weights
from coprune.prune.residual_blocks import residual_blocks

UNITS = ("channels", "layers")
TOLERANCE = 1e-6
"""Of the outputs in float64, relative to the largest."""
_IMAGES = 8
"""Of the example that the outputs are compared on."""


class Structure(TypedDict):
    """What is left of a network: plain values, to be kept beside its weights.

    ``channels`` has, by module name, the ``"inputs"`` and ``"outputs"`` that layers and batch norms
    keep, where they lose some; ``removed`` names the residual blocks that are shortcuts only.
    """

    channels: dict[str, dict[str, list[int]]]
    removed: list[str]


def prune_structure(
    model: nn.Module,
    *,
    ratio: float | None = None,
    channels: Mapping[str, int] | None = None,
    unit: str = "channels",
    importance: str | ScoreFunction = "magnitude",
    calibration: Calibration | None = None,
    loss: Loss | None = None,
    multiple: int = 1,
    example: torch.Tensor | None = None,
    skip: Collection[str] = (),
) -> Structure:
    """Take the least important channels, or residual blocks, out of a network.

    A channel goes everywhere: the filters that make it, batch norms, depthwise filters, what is
    added to it in shortcuts, and the inputs of all layers that read it. What is left computes what
    the network did with those inputs at zero. Where a shortcut pads channels, as in the CIFAR
    ResNets, all that the shortcut connects lose the same part, on each side of the padding, too; if
    the network pads by a fixed number, they lose none.

    A channel's importance is the mean of its filter's scores, added up over the layers that make
    it; a block's is the mean over all of its layers' weights.

    Parameters
    ----------
    model
        Changed in place; make its optimizer afterwards.
    ratio
        Part that goes, from 0 to below 1: of the channels of each set that belongs together, as
        near as ``multiple`` and shortcuts allow; or of all removable blocks, rounded down.
    channels
        Instead: how many output channels these layers keep, by module name. Layers that share
        channels with one of them follow, others stay.
    unit
        ``"channels"`` or ``"layers"``: residual blocks ``x + f(x)`` become ``x``.
    importance, calibration, loss
        As in `score_weights`.
    multiple
        With a ratio, layers that lose channels keep a multiple of it, such as the accelerator's
        `lanes`.
    example
        A typical input [N, C, H, W]; the first images of the calibration where it is None.
    skip
        Module names of layers whose output channels stay, or of blocks.

    Returns
    -------
    Structure
        What `apply_structure` makes the same of another network of this architecture.

    Raises
    ------
    ValueError
        There is not exactly one of ratio and channels or one is out of its range, a name is
        unknown, the network's own code depends on its numbers of channels; or as `score_weights`.
        The network is as it was then.
    """
    _check(ratio=ratio, channels=channels, unit=unit, multiple=multiple)
    if example is None and calibration:
        example = calibration[0][0]
    if example is None:
        raise ValueError("prune_structure needs an example input: pass example or calibration")
    options = {"importance": importance, "calibration": calibration, "loss": loss}
    if unit == "layers":
        structure = _choose_blocks(model, ratio=ratio, example=example, skip=skip, options=options)
    else:
        structure = _choose_channels(
            model,
            ratio=ratio,
            channels=channels,
            multiple=multiple,
            example=example,
            skip=skip,
            options=options,
        )
    apply_structure(model, structure)
    return structure


def apply_structure(model: nn.Module, structure: Structure) -> None:
    """Make a network as small as `prune_structure` made another one of its architecture.

    So that the smaller one's weights can be loaded into it.

    Raises
    ------
    ValueError
        It is not the structure of such a network.
    """
    modules = dict(model.named_modules())
    if missing := {*structure["channels"], *structure["removed"]} - set(modules):
        raise ValueError(f"the structure is another network's: there is no {sorted(missing)}")
    select_channels(model, structure["channels"])
    for name in structure["removed"]:
        model.set_submodule(name, nn.Identity().train(modules[name].training))


def _check(
    *,
    ratio: float | None,
    channels: Mapping[str, int] | None,
    unit: str,
    multiple: int,
) -> None:
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {UNITS}, not {unit!r}")
    if (ratio is None) == (channels is None):
        raise ValueError("exactly one of ratio and channels must be given")
    if channels is not None and unit == "layers":
        raise ValueError("unit 'layers' must go with a ratio, not with channels")
    if ratio is not None and not 0 <= ratio < 1:
        raise ValueError(f"ratio must be from 0 to below 1, not {ratio!r}")
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, not {multiple!r}")


def _choose_blocks(
    model: nn.Module,
    *,
    ratio: float,
    example: torch.Tensor,
    skip: Collection[str],
    options: dict,
) -> Structure:
    blocks = residual_blocks(model, example=example[:_IMAGES])
    if unknown := set(skip) - set(blocks):
        raise ValueError(
            f"skip must name residual blocks, not {sorted(unknown)}: these are {blocks}"
        )
    blocks = [name for name in blocks if name not in skip]
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        and any(name.startswith(f"{block}.") for block in blocks)
    }
    scores = score_weights(model, layers, **options)

    def mean(block: str) -> float:
        inside = [scores[name] for name in layers if name.startswith(f"{block}.")]
        return sum(float(s.double().sum()) for s in inside) / sum(s.numel() for s in inside)

    count = math.floor(round(ratio * len(blocks), 6))
    return {"channels": {}, "removed": sorted(sorted(blocks, key=mean)[:count])}


def _choose_channels(
    model: nn.Module,
    *,
    ratio: float | None,
    channels: Mapping[str, int] | None,
    multiple: int,
    example: torch.Tensor,
    skip: Collection[str],
    options: dict,
) -> Structure:
    network = copy.deepcopy(model).eval()
    graph = ChannelGraph.of(network, image=tuple(example.shape[1:]))
    producers = {
        name: outputs
        for name, outputs in graph.outputs.items()
        if isinstance(network.get_submodule(name), nn.Conv1d | nn.Conv2d | nn.Linear)
    }
    for argument, names in (("skip", skip), ("channels", channels or {})):
        if unknown := set(names) - set(producers):
            raise ValueError(f"{argument} must name layers of the network, not {sorted(unknown)}")
    sets = [_ChannelSet(parts, producers=producers) for parts in _coupled_classes(graph)]
    shares = {}
    for one in sets:
        if set(skip) & set(one.producers):
            continue
        if channels is None:
            shares[one] = one.share(ratio=ratio, multiple=multiple)
        elif named := {name: channels[name] for name in channels if name in one.producers}:
            shares[one] = one.share_of(named)
    if channels and (left := set(channels) - {name for one in shares for name in one.producers}):
        raise ValueError(
            f"the output channels of {sorted(left)} must stay: they are the network's output, or "
            "an operator needs them as they are, or skip names a layer that shares them"
        )
    shares = {one: share for one, share in shares.items() if share < 1}
    scores = score_weights(
        model,
        {name: model.get_submodule(name) for one in shares for name in one.producers},
        **options,
    )
    importance = _channel_importance(scores, producers=producers, graph=graph)
    structure = _structure(graph, shares, importance=importance)
    try:
        _check_output(network, structure, graph=graph, example=example[:_IMAGES])
    except ValueError:
        padded = [one for one in shares if one.padded]
        if not padded or channels is not None:
            raise
        for one in padded:
            del shares[one]
        structure = _structure(graph, shares, importance=importance)
        _check_output(network, structure, graph=graph, example=example[:_IMAGES])
    return structure


class _ChannelSet:
    """Channels of which the same part has to go: of each of their classes, too.

    Parameters
    ----------
    classes : list of int array
    producers : dict of int array
        Layers of the network, and the channels that they make.
    """

    def __init__(self, classes: list[np.ndarray], *, producers: Mapping[str, np.ndarray]):
        self.classes = classes
        everything = np.concatenate(classes)
        self.producers = {
            name: len(outputs)
            for name, outputs in producers.items()
            if np.isin(outputs, everything).any()
        }
        self.padded = len(classes) > 1
        self._steps = math.gcd(*map(len, classes))

    def share(self, *, ratio: float, multiple: int) -> Fraction:
        """The part that is kept: what is allowed and nearest to 1 - `ratio`, 1 if nothing is."""
        allowed = [
            step
            for step in range(1, self._steps + 1)
            if step == self._steps
            or all(size * step % (self._steps * multiple) == 0 for size in self.producers.values())
        ]
        wanted = (1 - ratio) * self._steps
        step = min(allowed, key=lambda step: (abs(step - wanted), step))
        return Fraction(step, self._steps)

    def share_of(self, kept: Mapping[str, int]) -> Fraction:
        """The part that is kept for layers to have so many output channels."""
        shares = {name: Fraction(count, self.producers[name]) for name, count in kept.items()}
        if len(set(shares.values())) > 1:
            raise ValueError(f"channels must agree for layers that share them, not {dict(kept)}")
        name, share = next(iter(shares.items()))
        size = self.producers[name]
        if not 0 < share <= 1 or self._steps % share.denominator:
            possible = [size * step // self._steps for step in range(1, self._steps + 1)]
            raise ValueError(f"channels of {name!r} must be one of {possible}, not {kept[name]}")
        return share


def _coupled_classes(graph: ChannelGraph) -> list[list[np.ndarray]]:
    """Classes of channels that are free to go, those that a padding connects together."""
    classes = []
    for members in graph.classes():
        sides: dict[tuple, list[int]] = {}
        for channel in members.tolist():
            side = tuple((channel in pad.low, channel in pad.high) for pad in graph.paddings)
            sides.setdefault(side, []).append(channel)
        classes += [np.array(channels) for channels in sides.values()]
    coupled: list[tuple[list[np.ndarray], set[int]]] = []
    for members in classes:
        paddings = {
            number
            for number, pad in enumerate(graph.paddings)
            if np.isin(members, [*pad.low, *pad.inner, *pad.high]).any()
        }
        together = [members]
        for other in [other for other in coupled if other[1] & paddings]:
            together = other[0] + together
            paddings |= other[1]
            coupled.remove(other)
        coupled.append((together, paddings))
    held = {
        number
        for number, pad in enumerate(graph.paddings)
        if graph.fixed & {*pad.low.tolist(), *pad.inner.tolist(), *pad.high.tolist()}
    }
    return [together for together, paddings in coupled if not paddings & held]


def _channel_importance(
    scores: Mapping[str, torch.Tensor],
    *,
    producers: Mapping[str, np.ndarray],
    graph: ChannelGraph,
) -> np.ndarray:
    importance = np.zeros(1 + max(int(ids.max()) for ids in graph.tensors if len(ids)))
    for name, values in scores.items():
        np.add.at(importance, producers[name], values.flatten(1).double().mean(dim=1).cpu().numpy())
    return importance


def _structure(
    graph: ChannelGraph, shares: Mapping[_ChannelSet, Fraction], *, importance: np.ndarray
) -> Structure:
    """Keep the most important channels of every class."""
    gone = np.zeros(len(importance), dtype=bool)
    for one, share in shares.items():
        for members in one.classes:
            order = np.argsort(-importance[members], kind="stable")
            gone[members[order[int(share * len(members)) :]]] = True
    channels: dict[str, dict[str, list[int]]] = {}
    for role, axes in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        for name, ids in axes.items():
            if gone[ids].any():
                channels.setdefault(name, {})[role] = np.flatnonzero(~gone[ids]).tolist()
    return {"channels": channels, "removed": []}


@torch.no_grad()
def _check_output(
    model: nn.Module, structure: Structure, *, graph: ChannelGraph, example: torch.Tensor
) -> None:
    """Compare the smaller network with the one that reads zeros of the channels that are gone."""
    small, zeroed = copy.deepcopy(model).double(), copy.deepcopy(model).double()
    example = example.to(next(model.parameters()).device, torch.float64)
    for name, axes in structure["channels"].items():
        if "inputs" in axes:
            gone = sorted({*range(len(graph.inputs[name]))} - {*axes["inputs"]})
            zeroed.get_submodule(name).weight[:, gone] = 0
    expected = zeroed(example)
    advice = "the network's own code depends on its numbers of channels: skip layers"
    try:
        apply_structure(small, structure)
        got = small(example)
    except RuntimeError as error:
        raise ValueError(f"{advice} ({error})") from error
    atol = TOLERANCE * float(expected.abs().max())
    if got.shape != expected.shape or not torch.allclose(got, expected, rtol=0, atol=atol):
        raise ValueError(f"{advice} (its output is another without them)")
