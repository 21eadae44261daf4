"""Tables and JSON of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from coprune import atomic_file
from coprune.program import CosimResult, CycleTable, LayerResult, Program, TotalResult

console = Console()


def print_layers(
    title: str, layers: Sequence[LayerResult], total: TotalResult, *, multipliers: int
) -> None:
    """Print cycles per layer and in total."""
    table = Table(title=title)
    with_equality = layers[0].equal is not None
    for heading in ("layer", "op"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MACs", "non-zero", "slots", "cycles", "use"):
        table.add_column(heading, justify="right")
    if with_equality:
        table.add_column("equal")
    for layer in layers:
        use = layer.nonzero_macs / (multipliers * layer.cycles) if layer.cycles else 0
        row = [layer.name, layer.op, f"{layer.macs:,}", f"{layer.nonzero_macs:,}"]
        row += [f"{layer.slots:,}", f"{layer.cycles:,}", f"{use:.0%}"]
        if with_equality:
            row.append("yes" if layer.equal else "[red]NO[/red]")
        table.add_row(*row)
    table.add_section()
    slots = sum(layer.slots for layer in layers)
    row = ["total", "", f"{total.macs:,}", f"{total.nonzero_macs:,}", f"{slots:,}"]
    table.add_row(*row, f"{total.cycles:,}", f"{total.multiplier_use:.0%}")
    console.print(table)


def describe_result(result: CosimResult | CycleTable) -> dict:
    """What the JSON says of layers and total."""
    described = {
        "layers": [asdict(layer) for layer in result.layers],
        "total": asdict(result.total),
    }
    if isinstance(result, CosimResult):
        described["equal"] = result.equal
        described["counters"] = result.counters
        described["cycles_per_second"] = result.cycles_per_second
    return described


def describe_program(program: Program) -> dict:
    """Manifest, layer table and compression, as `coprune info` shows them."""
    config, graph = program.config, program.graph
    weights = sum(source.weight.size for layer in graph.layers for source in layer.sources)
    kept = sum(
        int((source.weight != 0).sum()) for layer in graph.layers for source in layer.sources
    )
    return {
        "network": program.network,
        "geometry": {"name": config.name, **config.to_dict()},
        "geometry_hash": f"{config.geometry_hash:#010x}",
        "input": asdict(graph.input),
        "output": asdict(graph.output),
        "output_shape": list(program.output_shape),
        "instructions": len(program.machine.instructions()),
        "image_bytes": len(program.machine.image),
        "weights": weights,
        "nonzero_weights": kept,
        "float32_bytes": 4 * weights,
        "compression": 4 * weights / len(program.machine.image),
        **describe_result(program.cycles()),
    }


def write_json(path: Path | None, content: dict) -> None:
    """Write a JSON file, if a path was given."""
    if path is not None:
        atomic_file.write(path, json.dumps(content, indent=1) + "\n")
