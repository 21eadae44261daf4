"""A network in float16, to compare with: the accelerator has no floats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from coprune.compiler.float_graph import FloatGraph, evaluate


def evaluate_half(graph: FloatGraph, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Evaluate a graph as hardware with float16 storage and float32 sums would.

    Weights, biases and the values of every tensor are rounded to float16; products are summed in
    float32, and rounded once a layer.

    Parameters
    ----------
    graph : FloatGraph
    images : float32 tensor [N, C, H, W]

    Yields
    ------
    str, float32 tensor [N, C, H, W]
        Every tensor's name and its values, in execution order.

    Raises
    ------
    ValueError
        A weight, a bias or a value is beyond what float16 holds.
    """
    layers = tuple(
        replace(
            layer,
            sources=tuple(
                replace(source, weight=_rounded(source.weight, name=f"a weight of {source.name!r}"))
                for source in layer.sources
            ),
            bias=_rounded(layer.bias, name=f"a bias of {layer.name!r}"),
        )
        for layer in graph.layers
    )

    def store(name: str, values: torch.Tensor) -> torch.Tensor:
        return _rounded(values, name=f"a value of {name!r}")

    yield from evaluate(replace(graph, layers=layers), images, store=store)


def _rounded(values: torch.Tensor, *, name: str) -> torch.Tensor:
    rounded = values.to(torch.float16)
    if not rounded.isfinite().all():
        largest = float(values.abs().max())
        raise ValueError(f"{name} is {largest:.6g}, and float16 ends at 65504")
    return rounded.to(values.dtype)
