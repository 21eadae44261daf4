"""What commands show of a network that runs partly on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from coprune.cli import tables
from coprune.hybrid import HostCost, HybridCosimResult, HybridCycles, HybridProgram


def show_cycles(
    table: HybridCycles,
    *,
    title: str,
    measured: Sequence[tuple[Sequence[int], int]] | None = None,
) -> None:
    """Print the cycles of the stages on the accelerator, and what the others leave to the host.

    Parameters
    ----------
    table : HybridCycles
    title : str
        Of the stages on the accelerator.
    measured : sequence of (sequence of int, int)
        For each of these, cycles of every layer and in total on the RTL.
    """
    rtl = iter(measured or [])
    count = len(table.stages)
    for number, stage in enumerate(table.stages, start=1):
        if isinstance(stage, HostCost):
            tables.show_table(
                f"stage {number} of {count}, on the host: {stage.input_bytes:,} bytes in, "
                f"{stage.output_bytes:,} bytes out",
                headings=["operator", "op", " MACs", " results", "source"],
                rows=[
                    [each.name, each.op, f"{each.macs:,}", f"{each.elements:,}", each.source]
                    for each in stage.operators
                ],
            )
        else:
            tables.show_cycles(
                f"stage {number} of {count}: {title}", stage, measured=next(rtl, None)
            )
        tables.show("")
    total, hosts = table.total, [each for each in table.stages if isinstance(each, HostCost)]
    operators = sum(len(host.operators) for host in hosts)
    moved = sum(host.input_bytes + host.output_bytes for host in hosts)
    tables.show(
        f"accelerator: {total.cycles:,} cycles (floor {total.floor_cycles:,}), {total.macs:,} "
        f"MACs; host: {operators} operators, {table.host_macs:,} MACs "
        f"({table.host_macs / (total.macs + table.host_macs):.1%} of all), {moved:,} bytes"
    )


def describe_cycles(table: HybridCycles) -> dict:
    """What the JSON says of stages and total."""
    stages = [
        {"on": "host", "macs": stage.macs, **asdict(stage)}
        if isinstance(stage, HostCost)
        else {"on": "accelerator", **tables.describe_result(stage)}
        for stage in table.stages
    ]
    total = {**asdict(table.total), "floor_cycles": table.total.floor_cycles}
    return {"stages": stages, "total": total, "host_macs": table.host_macs}


def describe_cosim(result: HybridCosimResult) -> dict:
    """What the JSON says of a co-simulation."""
    return {
        "stages": [tables.describe_result(stage) for stage in result.stages],
        "total": {**asdict(result.total), "floor_cycles": result.total.floor_cycles},
        "equal": result.equal,
        "cycles_per_second": result.cycles_per_second,
    }


def describe_program(program: HybridProgram) -> dict:
    """What the JSON says of a program."""
    return {
        "network": program.network,
        "geometry": {"name": program.config.name, **program.config.to_dict()},
        "geometry_hash": f"{program.config.geometry_hash:#010x}",
        "input_shape": list(program.input_shape),
        "output_shape": list(program.output_shape),
        "weight_bytes": program.weight_bytes,
        "float32_bytes": program.float32_bytes,
        "compression": program.compression,
        **describe_cycles(program.cycles()),
    }


def summarize(program: HybridProgram) -> list[str]:
    """A line for each stage: where it runs and what it consists of."""
    lines = []
    for number, stage in enumerate(program.cycles().stages, start=1):
        if isinstance(stage, HostCost):
            operations = dict.fromkeys(operator.op for operator in stage.operators)
            what = f"host, {stage.macs:,} MACs: {', '.join(operations)}"
        else:
            what = f"accelerator, {len(stage.layers)} layers, {stage.total.cycles:,} cycles"
        lines.append(f"stage {number}: {what}")
    return lines
