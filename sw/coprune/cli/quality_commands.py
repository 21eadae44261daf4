"""Commands that show what quantization costs in accuracy."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Optional

import typer

from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import (
    CalibrationFile,
    Config,
    CorrectBias,
    DataFolder,
    Equalize,
    InputFile,
    JsonPath,
    Model,
    Observer,
    WeightBits,
    WeightsFile,
)
from coprune_hw.contract import AcceleratorConfig


@app.command()
def sqnr(
    model: Model,
    images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", min=1, help="How many images; else all that there are."),
    ] = None,
    weights: WeightsFile = None,
    config: Config = "16x16",
    calibration: CalibrationFile = None,
    observer: Observer = "mse",
    equalize: Equalize = False,
    correct_bias: CorrectBias = False,
    weight_bits: WeightBits = None,
    data: DataFolder = None,
    inputs: InputFile = None,
    json: JsonPath = None,
) -> None:
    """Quantize a network, and show each layer's signal-to-quantization-noise ratio."""
    accelerator = AcceleratorConfig.find(config)
    from coprune.cli.images import find_calibration, load_images
    from coprune.cli.network import explain_export, find_network, input_shape
    from coprune.quantize import measure_errors, quantize_traced

    network = find_network(model, weights=weights)
    calibration_images = find_calibration(calibration, shape=input_shape(network))
    with explain_export(calibration):
        quantized = quantize_traced(
            network,
            calibration_images,
            accumulator_bits=accelerator.accumulator_bits,
            observer=observer,
            equalize=equalize,
            correct_bias=correct_bias,
            weight_bits=weight_bits,
        )
    found = load_images(quantized.integers.input.shape, count=images, folder=data, file=inputs)
    errors = measure_errors(quantized.exact, quantized.integers, found.inputs)
    title = f"{model}, {len(found.inputs):,} images ({found.origin}): signal to noise in dB"
    tables.show_errors(title, errors)
    tables.write_json(
        json,
        {
            "network": model,
            "images": len(found.inputs),
            "data": found.origin,
            "layers": [
                {
                    **asdict(error),
                    # JSON has no infinity.
                    "sqnr_db": error.sqnr_db if math.isfinite(error.sqnr_db) else None,
                    "own_sqnr_db": error.own_sqnr_db if math.isfinite(error.own_sqnr_db) else None,
                }
                for error in errors
            ],
        },
    )
