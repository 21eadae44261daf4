"""Modules that add to what goes through them, and could be left out."""

from __future__ import annotations

import copy

import torch
from torch import nn


@torch.no_grad()
def residual_blocks(model: nn.Module, *, example: torch.Tensor) -> list[str]:
    """Return the modules that compute x + f(x), by name.

    Found by trying: with all of its parameters at zero, such a module returns its input. A ReLU
    after the sum does no harm where the input comes from another one. Modules inside of others that
    do are the ones that count.

    Parameters
    ----------
    example
        A typical input [N, C, H, W].
    """
    calls: dict[str, list[tuple[tuple, object]]] = {}
    network = copy.deepcopy(model).eval()
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name: calls.setdefault(name, []).append((inputs, output))
        )
        for name, module in network.named_modules()
        if name and any(module.children())
    ]
    network(example.to(next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    for parameter in network.parameters():
        parameter.zero_()
    found = []
    for name, ((inputs, output), *again) in calls.items():
        module = network.get_submodule(name)
        if again or len(inputs) != 1 or not any(True for _ in module.parameters()):
            continue
        x = inputs[0]
        if (
            isinstance(output, torch.Tensor)
            and output.shape == x.shape
            and torch.equal(module(x), x)
        ):
            found.append(name)
    return [name for name in found if not any(other.startswith(f"{name}.") for other in found)]
