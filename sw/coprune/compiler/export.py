"""How networks are exported, for the first time or again."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from coprune.compiler.exported import is_tensor

_EXAMPLE_IMAGES = 2
"""Images in the batch for which a network is exported: with one, batch and channels look alike."""


def export(model: nn.Module, *, image: tuple[int, ...], any_batch: bool = False) -> ExportedProgram:
    """Export a network for images of one size.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, with one float32 input [N, C, H, W], [N, C, L] or [N, C].
    image : tuple of int
        Shape of the input without its first axis.
    any_batch : bool
        Leave the number of images open, if the network's own code does.

    Raises
    ------
    ValueError
        The network, or a part of it, is in training mode.
    """
    for name, module in model.named_modules():
        if module.training:
            part = f"its module {name!r}" if name else "the network"
            raise ValueError(f"{part} is in training mode: call eval() first")
    return _export(model, (_EXAMPLE_IMAGES, *image), any_batch=any_batch)


def is_exported(model: nn.Module) -> bool:
    """The network is a graph that `torch.export` made, as `convert_pt2e` returns it too."""
    if not isinstance(model, GraphModule):
        return False
    return all(is_tensor(node) for node in model.graph.nodes if node.op == "placeholder")


def export_again(module: GraphModule) -> ExportedProgram:
    """Export a graph that was exported before, for images of the same size.

    Its operators say whether they are in training mode.
    """
    examples = []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            batch, *image = node.meta["val"].shape
            examples.append(
                (batch if isinstance(batch, int) else _EXAMPLE_IMAGES, *map(int, image))
            )
    return _export(module, *examples)


def _export(model: nn.Module, *shapes: tuple[int, ...], any_batch: bool = False) -> ExportedProgram:
    parameter = next(model.parameters(), torch.empty(0))
    examples = tuple(torch.zeros(shape, device=parameter.device) for shape in shapes)
    dynamic_shapes = tuple({0: Dim.AUTO} for _ in shapes) if any_batch else None
    with torch.no_grad():
        return torch.export.export(model, examples, dynamic_shapes=dynamic_shapes)
