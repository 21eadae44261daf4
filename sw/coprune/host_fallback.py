"""Compiles what the accelerator can run of a network, and leaves the rest to the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from coprune.compiler.export import export
from coprune.compiler.exported import UnsupportedOperatorError
from coprune.compiler.segments import divide
from coprune.host_stage import HostStage
from coprune.hybrid import HybridProgram
from coprune.program import Program, check_images, compile_graph
from coprune.quantize import quantize
from coprune_hw.contract import AcceleratorConfig


def compile_hybrid(
    model: nn.Module | ExportedProgram,
    accelerator: AcceleratorConfig,
    *,
    calibration: Sequence[torch.Tensor],
    skip_zeros: bool,
    channel_order: bool,
    int32_output: bool,
    network: str,
    **quantization: Any,
) -> HybridProgram:
    """Compile what the accelerator can run of a network, and leave the rest to the host.

    Parameters are those of `coprune.compile`; `int32_output` is for the last stage on the
    accelerator, and `quantization` are the others of `coprune.quantize.quantize`. The calibration
    images pass through the stages in float32, so every stage is calibrated with what the ones
    before it give in the user's network.

    Raises
    ------
    TypeError, ValueError
        As `coprune.compile` and `coprune.compiler.segments.divide`.
    """
    stages: list[Program | HostStage] = []
    if isinstance(model, nn.Module):
        model = export(model, image=tuple(calibration[0].shape[1:]), any_batch=True)
    segments = divide(model)
    shape = HostStage(segments[0].exported).image_shape
    values = [
        torch.as_tensor(check_images(batch, shape=shape, what="calibration"))
        for batch in calibration
    ]
    last_program = max(number for number, each in enumerate(segments, start=1) if not each.on_host)
    for number, segment in enumerate(segments, start=1):
        stage = HostStage(segment.exported)
        if segment.on_host:
            stages.append(stage)
        else:
            graph = quantize(
                segment.exported,
                [value.reshape(len(value), *stage.image_shape) for value in values],
                accumulator_bits=accelerator.accumulator_bits,
                int32_output=int32_output and number == last_program,
                **quantization,
            )
            stages.append(
                compile_graph(
                    graph,
                    accelerator,
                    output_shape=stage.output_shape,
                    skip_zeros=skip_zeros,
                    channel_order=channel_order,
                    network=f"{network}, stage {number}",
                )
            )
        if number < len(segments):
            values = [stage.run(value) for value in values]
    return HybridProgram(tuple(stages), network)


def add_advice(
    error: UnsupportedOperatorError,
    model: nn.Module | ExportedProgram,
    calibration: Sequence[torch.Tensor],
) -> None:
    """Let a network's error say that a part can run on the host, where it can."""
    try:
        if isinstance(model, nn.Module):
            model = export(model, image=tuple(calibration[0].shape[1:]))
        divide(model)
    except ValueError:
        return
    error.append("host_fallback=True (--host-fallback) runs such parts on the host")
