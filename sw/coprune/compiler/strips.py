"""Strips of rows in which the first layer starts while the input is still on its way."""

from __future__ import annotations

from dataclasses import dataclass

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.planes import Placement
from coprune_hw.contract.program import Region
from coprune_sim.graph import Layer

LOAD_LATENCY_CYCLES = 20
"""From a LOAD to its first pixel. This and the next only choose between strips."""
EXECUTE_OVERHEAD_CYCLES = 24
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
    input_region: Region,
    slots: int,
    config: AcceleratorConfig,
) -> list[Strip]:
    """Split the first channel tile's rows so that it ends as early as possible.

    The first strip is short, to start early; each one after it is as long as the rows that can be
    loaded while those before it are computed, as strips cost time, too.

    Parameters
    ----------
    layer : Layer
        It reads the input, and nothing else.
    grid : Placement
        Of the input.
    input_region : Region
    slots : int
        Slots of the channel tile.
    config : AcceleratorConfig

    Returns
    -------
    list of Strip
        Together they load the whole input.
    """
    height, width = layer.computed
    tile_rows = -(-height // grid.bank_rows)
    row_cycles = -(-width // grid.bank_columns) * max(slots, config.columns)

    def load_cycles(rows: int) -> int:
        pixels = rows * input_region.columns * grid.groups
        beats = pixels * input_region.pixel_bytes // config.bus_bytes
        return max(pixels, beats) + LOAD_LATENCY_CYCLES

    def input_end(tile_row: int) -> int:
        """End of the input rows that the tile rows before `tile_row` read, aligned in DRAM."""
        if tile_row == tile_rows:
            return input_region.rows
        end = _input_rows_read(layer, output_rows=tile_row * grid.bank_rows)
        while end * input_region.row_bytes % config.bus_bytes:
            end += 1
        return min(end, input_region.rows)

    def grow(first_tile_rows: int) -> tuple[int, list[Strip]]:
        """Cycle at which the last strip ends, and the strips."""
        loaded, computed = load_cycles(input_end(first_tile_rows)), 0
        begin, end, strips = 0, first_tile_rows, []
        while begin < tile_rows:
            rows = range(input_end(begin) if begin else 0, input_end(end))
            strips.append(Strip(first_tile_row=begin, tile_rows=end - begin, input_rows=rows))
            computed = max(loaded, computed) + EXECUTE_OVERHEAD_CYCLES + (end - begin) * row_cycles
            begin, loaded_rows = end, rows.stop
            end = min(end + 1, tile_rows)
            while end < tile_rows and (
                loaded + load_cycles(input_end(end + 1) - loaded_rows) <= computed
            ):
                end += 1
            loaded += load_cycles(input_end(end) - loaded_rows)
        return computed, strips

    return min((grow(first + 1) for first in range(tile_rows)), key=lambda grown: grown[0])[1]


def _input_rows_read(layer: Layer, *, output_rows: int) -> int:
    """End of the input rows that the first `output_rows` rows of the output read."""
    end = 1 + max(
        (output_rows - 1) * source.stride
        + (source.weight.shape[2] - 1) * source.dilation[0]
        - source.padding[0]
        for source in layer.sources
    )
    return max(end, 0)
