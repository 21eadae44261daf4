"""Tables, progress and JSON of results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from coprune import atomic_file
from coprune.program import Program
from coprune.results import CosimResult, CycleTable, LayerCycles, LayerResult, TotalResult
from coprune_sim.cycle_model import WAIT_CAUSES

# PyTorch, which it imports, takes seconds.
if TYPE_CHECKING:
    from coprune.quantize import LayerError

WIDEST_TABLE = 1000

# A table is as wide as it needs to be; a narrower terminal wraps its lines, but cuts no name.
console = Console(markup=False, highlight=False, width=WIDEST_TABLE)
progress_console = Console(stderr=True)

_Item = TypeVar("_Item")


def show(text: str, *, style: str | None = None) -> None:
    """Print a line of text, however long."""
    console.print(text, style=style, soft_wrap=True)


def show_table(
    title: str, *, headings: Sequence[str], rows: Sequence[Sequence[str | Text]]
) -> None:
    """Print a title, and a table under it.

    Parameters
    ----------
    title : str
    headings : sequence of str
        One that begins with a space stands for a column of numbers.
    rows : sequence of sequences of str or Text
        An empty one is a line.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading in headings:
        justify = "right" if heading.startswith(" ") else "left"
        table.add_column(heading.strip(), justify=justify, no_wrap=True)
    for row in rows:
        if row:
            table.add_row(*row)
        else:
            table.add_section()
    show(title)
    console.print(table)


def show_layers(
    title: str, layers: Sequence[LayerResult], total: TotalResult, *, multipliers: int
) -> None:
    """Print what the RTL's counters say of every layer, and whether it is equal."""
    headings = ["layer", "op", " MACs", " non-zero", " slots", " cycles", " use", "equal"]
    rows = []
    for layer in layers:
        use = layer.nonzero_macs / (multipliers * layer.cycles) if layer.cycles else 0
        row = [layer.name, layer.op, f"{layer.macs:,}", f"{layer.nonzero_macs:,}"]
        row += [f"{layer.slots:,}", f"{layer.cycles:,}", f"{use:.0%}"]
        rows.append([*row, "yes" if layer.equal else Text("NO", style="red")])
    slots = sum(layer.slots for layer in layers)
    row = ["total", "", f"{total.macs:,}", f"{total.nonzero_macs:,}", f"{slots:,}"]
    rows += [[], [*row, f"{total.cycles:,}", f"{total.multiplier_use:.0%}"]]
    show_table(title, headings=headings, rows=rows)


def show_cycles(
    title: str, table: CycleTable, *, measured: tuple[Sequence[int], int] | None = None
) -> None:
    """Print the cycles of every layer, what its floor is, and what it waits for.

    Parameters
    ----------
    title : str
    table : CycleTable
    measured : (sequence of int, int)
        Cycles of every layer and in total on the RTL, for two columns more.
    """
    total = table.total
    causes = [cause for cause in WAIT_CAUSES if any(layer.waits[cause] for layer in table.layers)]
    headings = ["layer", "op", " MACs", " non-zero", " cycles", " floor", " ratio", "limit", " use"]
    headings += [" slots", *(f" {cause}" for cause in causes), " drain-bound", " kB"]
    rows = []
    for layer in table.layers:
        row = [layer.name, layer.op, f"{layer.macs:,}", f"{layer.nonzero_macs:,}"]
        row += [f"{layer.cycles:,}", f"{layer.floor_cycles:,}", _ratio(layer), layer.limit]
        row += [f"{layer.multiplier_use:.0%}", f"{layer.slots:,}"]
        row += [f"{layer.waits[cause]:,}" for cause in causes]
        row.append(f"{layer.drain_bound_tiles:,} of {layer.tiles:,}")
        rows.append([*row, f"{(layer.load_bytes + layer.store_bytes) / 1000:.1f}"])
    computed = sum(layer.cycles for layer in table.layers)
    rows.append(["output", "store", "", "", f"{total.cycles - computed:,}"])
    row = ["total", "", f"{total.macs:,}", f"{total.nonzero_macs:,}", f"{total.cycles:,}"]
    row += [f"{total.floor_cycles:,}", _ratio(total), total.limit, f"{total.multiplier_use:.0%}"]
    row.append(f"{sum(layer.slots for layer in table.layers):,}")
    row += [f"{sum(layer.waits[cause] for layer in table.layers):,}" for cause in causes]
    drain_bound = sum(layer.drain_bound_tiles for layer in table.layers)
    row.append(f"{drain_bound:,} of {sum(layer.tiles for layer in table.layers):,}")
    moved = sum(layer.load_bytes + layer.store_bytes for layer in table.layers)
    row.append(f"{moved / 1000:.1f}")
    if measured is not None:
        headings[5:5] = [" RTL", " difference"]
        counted = [*(layer.cycles for layer in table.layers), total.cycles - computed]
        cycles, total_cycles = measured
        cycles = [*cycles, total_cycles - sum(cycles)]
        for line, model, rtl in zip(rows, counted, cycles, strict=True):
            line[5:5] = _compare(model, rtl)
        row[5:5] = _compare(total.cycles, total_cycles)
    show_table(title, headings=headings, rows=[*rows, [], row])
    for cause in causes:
        show(f"{cause:>10}: {WAIT_CAUSES[cause]}")


def show_errors(title: str, errors: Sequence[LayerError]) -> None:
    """Print the signal-to-noise ratio of every layer, and mark the layer that adds most noise."""
    worst = min(errors, key=lambda error: error.own_sqnr_db)
    rows = []
    for error in errors:
        row = [error.name, error.operation, f"{error.sqnr_db:.2f}", f"{error.own_sqnr_db:.2f}"]
        rows.append([*row, Text("worst", style="red") if error is worst else ""])
    show_table(title, headings=("layer", "op", " so far", " alone", ""), rows=rows)
    show("so far: with the errors of all layers before it")
    show(" alone: where the layer reads float values that are rounded to the grids of its inputs")


def _ratio(result: LayerCycles | TotalResult) -> str:
    return f"{result.cycles / result.floor_cycles:.2f}" if result.floor_cycles else ""


def _compare(model: int, rtl: int) -> list[str | Text]:
    difference = model - rtl
    return [f"{rtl:,}", Text(f"{difference:+,}", style="red") if difference else "0"]


def progress(items: Sequence[_Item], *, description: str) -> Iterable[_Item]:
    """Go through items, with a bar on stderr where that is a terminal."""
    return track(
        items,
        description=description,
        console=progress_console,
        transient=True,
        disable=not progress_console.is_terminal,
    )


def describe_result(result: CosimResult | CycleTable) -> dict:
    """What the JSON says of layers and total."""
    described = {
        "layers": [asdict(layer) for layer in result.layers],
        "total": {**asdict(result.total), "floor_cycles": result.total.floor_cycles},
    }
    if isinstance(result, CycleTable):
        for row, layer in zip(described["layers"], result.layers, strict=True):
            row["floor_cycles"] = layer.floor_cycles
    if isinstance(result, CosimResult):
        described["equal"] = result.equal
        described["counters"] = result.counters
        described["cycles_per_second"] = result.cycles_per_second
    return described


def describe_program(program: Program) -> dict:
    """Manifest, layer table and compression, as `coprune info` shows them."""
    config, graph = program.config, program.graph
    return {
        "network": program.network,
        "geometry": {"name": config.name, **config.to_dict()},
        "geometry_hash": f"{config.geometry_hash:#010x}",
        "input": asdict(graph.input),
        "output": asdict(graph.output),
        "output_shape": list(program.output_shape),
        "instructions": len(program.machine.instructions()),
        "image_bytes": len(program.machine.image),
        "weight_bytes": program.weight_bytes,
        "float32_bytes": program.float32_bytes,
        "compression": program.compression,
        **describe_result(program.cycles()),
    }


def write_json(path: Path | None, content: dict) -> None:
    """Write a JSON file, if a path was given."""
    if path is not None:
        atomic_file.write(path, json.dumps(content, indent=1) + "\n")
