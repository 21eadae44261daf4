"""Strips of rows in which the first layer starts while the input is still on its way."""

from __future__ import annotations

from dataclasses import dataclass

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.planes import Placement
from coprune_sim.graph import Layer, Tensor

MAX_STRIPS = 16

LOAD_LATENCY_CYCLES = 20
"""From a LOAD to its first pixel. This and the next only choose between strips."""
EXECUTE_OVERHEAD_CYCLES = 4
"""Between the last slot of an EXECUTE and the first of the next."""


@dataclass(frozen=True)
class Strip:
    """Rows of tiles that are computed together.

    Parameters
    ----------
    first_tile_row, tile_rows : int
    input_rows : range
        Rows of the input that must be loaded for it, besides those of the strips before.
    """

    first_tile_row: int
    tile_rows: int
    input_rows: range


def plan_strips(
    layer: Layer,
    *,
    grid: Placement,
    input_tensor: Tensor,
    pixel_bytes: int,
    slots: int,
    config: AcceleratorConfig,
) -> list[Strip]:
    """Split the first channel tile's rows so that it ends as early as possible.

    Parameters
    ----------
    layer : Layer
        It reads the input, and nothing else.
    grid : Placement
        Of the input.
    input_tensor : Tensor
    pixel_bytes : int
        Bytes of an input pixel in DRAM.
    slots : int
        Slots of the channel tile.
    config : AcceleratorConfig

    Returns
    -------
    list of Strip
        Together they load the whole input.
    """
    tile_rows = -(-layer.output.height // grid.bank_rows)
    tile_columns = -(-layer.output.width // grid.bank_columns)
    row_cycles = tile_columns * max(slots, config.columns)
    row_bytes = input_tensor.width * pixel_bytes
    candidates = [
        _split(
            layer,
            grid=grid,
            input_tensor=input_tensor,
            tile_rows_each=-(-tile_rows // strips),
            aligned=lambda row: row * row_bytes % config.bus_bytes == 0,
        )
        for strips in range(1, min(tile_rows, MAX_STRIPS) + 1)
    ]

    def end_cycle(strips: list[Strip]) -> int:
        loaded = computed = 0
        for strip in strips:
            pixels = len(strip.input_rows) * input_tensor.width * grid.groups
            loaded += max(pixels, pixels * pixel_bytes // config.bus_bytes) + LOAD_LATENCY_CYCLES
            computed = max(loaded, computed) + EXECUTE_OVERHEAD_CYCLES
            computed += strip.tile_rows * row_cycles
        return computed

    return min(candidates, key=end_cycle)


def _split(layer: Layer, *, grid: Placement, input_tensor: Tensor, tile_rows_each, aligned):
    """Strips of equal tile rows; loads end at rows that are `aligned` in DRAM."""
    strips, loaded = [], 0
    tile_rows = -(-layer.output.height // grid.bank_rows)
    for first in range(0, tile_rows, tile_rows_each):
        count = min(tile_rows_each, tile_rows - first)
        end = _input_rows_needed(layer, output_rows=(first + count) * grid.bank_rows)
        end = max(min(end, input_tensor.height), loaded)
        if first + count == tile_rows:
            end = input_tensor.height
        while end < input_tensor.height and not aligned(end):
            end += 1
        strips.append(
            Strip(first_tile_row=first, tile_rows=count, input_rows=range(loaded, end))
        )
        loaded = end
    return strips


def _input_rows_needed(layer: Layer, *, output_rows: int) -> int:
    """End of the input rows that the first `output_rows` rows of the output read."""
    last_row = min(output_rows, layer.output.height) - 1
    return 1 + max(
        last_row * source.stride
        + (source.weight.shape[2] - 1) * source.dilation[0]
        - source.padding[0]
        for source in layer.sources
    )
