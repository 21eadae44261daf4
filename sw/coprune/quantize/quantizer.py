"""Post-training quantization: float graph and statistics to integer graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.export import ExportedProgram

from coprune.compiler.export import export, export_again, is_exported
from coprune.compiler.exported import ExportedGraph
from coprune.compiler.float_graph import FloatGraph
from coprune.compiler.frontend import lower_network
from coprune.compiler.scheme import Scheme, complete
from coprune.quantize import bias_correction, equalization
from coprune.quantize.calibration import OBSERVERS, measure
from coprune.quantize.conversion import convert
from coprune.quantize.grids import assume_even_spread, choose_grids
from coprune.quantize.separation import separate_unlike_sources
from coprune.quantize.weight_width import narrow_weights
from coprune_sim.graph import IntegerGraph

# Only networks that are ONNX need the package.
if TYPE_CHECKING:
    import onnx

    from coprune.compiler.onnx.frontend import OnnxNetwork


@dataclass(frozen=True)
class Quantization:
    """An integer graph, and the float graph of the same layers that it was rounded from.

    Parameters
    ----------
    exact : FloatGraph
        After equalization, before bias correction.
    integers : IntegerGraph
    """

    exact: FloatGraph
    integers: IntegerGraph


def quantize(
    model: nn.Module | ExportedProgram | str | Path | onnx.ModelProto | OnnxNetwork,
    calibration: Sequence[torch.Tensor] = (),
    *,
    accumulator_bits: int = 32,
    observer: str = "mse",
    int32_output: bool = False,
    equalize: bool = False,
    correct_bias: bool = False,
    weight_bits: int | None = None,
) -> IntegerGraph:
    """Quantize a network to int8 from the values it takes on some images.

    Parameters
    ----------
    model : nn.Module, ExportedProgram, or ONNX as path, onnx.ModelProto or OnnxNetwork
        In evaluation mode, with one float32 input [N, C, H, W]. See `coprune.compiler.frontend`
        and `coprune.compiler.onnx.frontend` for what it may consist of. What a quantized network
        says about scales and zero points holds, be it ONNX or what `convert_pt2e` returns.
    calibration : sequence of float32 tensors [N, C, H, W]
        Batches of typical inputs, preprocessed as the network expects them; some hundred images.
        A network that is quantized throughout needs none.
    accumulator_bits : int
        Width that no sum leaves, whatever the input.
    observer : str
        How a tensor's range is chosen: ``"mse"`` minimizes the mean squared error, ``"percentile"``
        leaves out the rarest values, ``"minmax"`` covers all values.
    int32_output : bool
        The output are the exact sums of the last layer, in 32 bits, instead of int8.
    equalize : bool
        Give the channels of inner tensors similar ranges first: `equalization.equalize`.
    correct_bias : bool
        Give the channels of every layer the mean that they have in floats:
        `bias_correction.correct_bias`.
    weight_bits : int
        Of convolutions and linear layers, 2 to 8; the hardware's 8, and 12 of depthwise ones, where
        it is None.

    Raises
    ------
    TypeError
        `calibration` are not float32 tensors, or `model` is none of these.
    ValueError
        The network is in training mode, holds NaN or uses an operator that is not supported
        (`UnsupportedOperatorError`, `UnsupportedNodeError`); `calibration` is needed but empty, or
        has other shapes than the network's input; sums of a layer do not fit the accumulator; the
        network does not end with a sum, as `int32_output` wants it; or the network is quantized,
        and the last three options would change its numbers.
    """
    return quantize_traced(
        model,
        calibration,
        accumulator_bits=accumulator_bits,
        observer=observer,
        int32_output=int32_output,
        equalize=equalize,
        correct_bias=correct_bias,
        weight_bits=weight_bits,
    ).integers


def quantize_traced(
    model: nn.Module | ExportedProgram | str | Path | onnx.ModelProto | OnnxNetwork,
    calibration: Sequence[torch.Tensor] = (),
    *,
    accumulator_bits: int = 32,
    observer: str = "mse",
    int32_output: bool = False,
    equalize: bool = False,
    correct_bias: bool = False,
    weight_bits: int | None = None,
) -> Quantization:
    """Quantize a network as `quantize` does, and keep the float graph to compare with."""
    if observer not in OBSERVERS:
        raise ValueError(f"observer must be one of {', '.join(OBSERVERS)}, not {observer!r}")
    graph, scheme = _lower(model, calibration)
    if scheme.grids:
        scheme = complete(graph, scheme)
    if scheme.grids and not (missing := _ungiven(graph, scheme)):
        calibration = ()
    else:
        if scheme.grids and not len(calibration):
            raise ValueError(
                f"calibration must hold images, because the network is only partly quantized: "
                f"tensor {missing[0]!r} has no scale"
            )
        image = _image_shape(calibration)
        if graph.input.shape != image:
            raise ValueError(
                f"calibration images must have the shape {graph.input.shape}, not {image}"
            )
    if scheme.grids and (equalize or correct_bias or weight_bits is not None):
        raise ValueError(
            "equalize, correct_bias and weight_bits are for float networks, but this one is "
            "quantized and brings its own scales: leave them out"
        )
    if weight_bits is not None:
        graph = narrow_weights(graph, bits=weight_bits)
    if equalize:
        graph = equalization.equalize(graph, calibration)
    while True:
        statistics = measure(graph, calibration) if len(calibration) else {}
        grids = choose_grids(graph, statistics, observer=observer, scheme=scheme)
        separated, scheme = separate_unlike_sources(
            graph, statistics or assume_even_spread(grids), grids, scheme=scheme
        )
        if separated is graph:
            break
        graph = separated
    corrected = graph
    if correct_bias:
        corrected = bias_correction.correct_bias(
            graph, grids, calibration, accumulator_bits=accumulator_bits
        )
    integers = convert(
        corrected,
        grids,
        accumulator_bits=accumulator_bits,
        scheme=scheme,
        int32_output=int32_output,
    )
    return Quantization(graph, integers)


def _lower(
    model: nn.Module | ExportedProgram | str | Path | onnx.ModelProto | OnnxNetwork,
    calibration: Sequence[torch.Tensor],
) -> tuple[FloatGraph, Scheme]:
    """The float graph of a network, and what the network says about its quantization."""
    if isinstance(model, nn.Module) and is_exported(model):
        model = export_again(model)
    elif isinstance(model, nn.Module):
        model = export(model, image=_image_shape(calibration))
    if isinstance(model, ExportedProgram):
        network = lower_network(ExportedGraph.of_program(model))
        return network.graph, network.scheme
    from coprune.compiler.onnx.frontend import lower_onnx

    network = lower_onnx(model)
    return network.graph, network.scheme


def _ungiven(graph: FloatGraph, scheme: Scheme) -> list[str]:
    """Tensors whose grid must be chosen."""
    names = []
    for layer in graph.layers:
        if layer.function is not None:
            names.append(layer.output.name)
        if not layer.copies:
            names.append(layer.requantized)
    return [name for name in (graph.input.name, *names) if name not in scheme.grids]


def _image_shape(calibration: Sequence[torch.Tensor]) -> tuple[int, int, int]:
    if not len(calibration):
        raise ValueError("calibration must hold at least one batch of images")
    shapes = set()
    for batch in calibration:
        if not isinstance(batch, torch.Tensor) or batch.dtype != torch.float32:
            kind = batch.dtype if isinstance(batch, torch.Tensor) else type(batch).__name__
            raise TypeError(f"calibration batches must be float32 tensors, not {kind}")
        if batch.dim() != 4 or not len(batch):
            raise ValueError(
                f"calibration batches must have the shape [N, C, H, W], not {list(batch.shape)}"
            )
        shapes.add(tuple(batch.shape[1:]))
    if len(shapes) > 1:
        raise ValueError(f"calibration images must have one shape, not {sorted(shapes)}")
    return shapes.pop()
