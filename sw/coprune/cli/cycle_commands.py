"""Commands that show where cycles go: a table, a page."""

from __future__ import annotations

import dataclasses
import re
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

import coprune
from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import JsonPath, ProgramPath, check_writable
from coprune.cli.programs import load_program, refuse_stages
from coprune.program import Program
from coprune_sim.cycle_model import MemoryModel, Pauses, bound_cycles

if TYPE_CHECKING:
    from coprune.hybrid import HybridProgram


@app.command()
def cycles(
    file: ProgramPath,
    latency: Annotated[int, typer.Option(min=0, help="Cycles of the memory.")] = 20,
    rtl: Annotated[
        bool, typer.Option("--rtl", help="Measure them on the RTL, too, and show the difference.")
    ] = False,
    pauses: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="SHARE:BURST",
            help="Bounds, if of any N cycles the memory pauses in at most SHARE * N + BURST.",
        ),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Show the cycles of every layer, its floor, and what it waits for."""
    allowed = _read_pauses(pauses)
    program = coprune.load(file)
    memory = MemoryModel(latency, latency)
    if not isinstance(program, Program):
        _show_stages(program, file, memory=memory, rtl=rtl, allowed=allowed, json=json)
        return
    table = program.cycles(memory)
    measured = None
    if rtl:
        with tables.progress_console.status(
            "running the RTL (the first time builds the simulation)"
        ):
            measured = program.measure_cycles(latency)
    tables.show_cycles(
        f"{program.network} on {program.config.name}, bus of {program.config.bus_bits} bits, "
        f"latency {latency}",
        table,
        measured=measured,
    )
    described = tables.describe_result(table)
    if measured is not None:
        described["rtl"] = {"layers": measured[0], "total": measured[1]}
    if allowed is not None:
        bounds = bound_cycles(program.machine, memory, allowed)
        tables.show(
            f"with pauses of at most {allowed.share:.0%} of the time and {allowed.burst} cycles: "
            f"{bounds.cycles.lowest:,} to {bounds.cycles.highest:,} cycles"
        )
        described["bounds"] = dataclasses.asdict(bounds)
    tables.write_json(json, described)
    if measured is not None and measured[1] != table.total.cycles:
        raise typer.Exit(1)


@app.command()
def report(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE [FILE]", help="A program file, or two to compare."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The page, .html.", callback=check_writable
        ),
    ],
    latency: Annotated[int, typer.Option(min=0, help="Cycles of the memory behind the bus.")] = 20,
    measured: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="A timeline by cosim --timeline, shown beside the model's; one a program.",
        ),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Write a page about a program, or two side by side: cycles, roofline, timeline, memory."""
    from coprune.report import Subject, write_report

    timelines = measured or []
    if len(timelines) not in (0, len(files)):
        raise ValueError(f"{len(files)} program(s) need as many --measured, not {len(timelines)}")
    subjects = [
        Subject(load_program(file, purpose="a report"), file.name, timeline)
        for file, timeline in zip_longest(files, timelines)
    ]
    memory = MemoryModel(latency_cycles=latency, write_latency_cycles=latency)
    content = write_report(subjects, output, memory=memory)
    cycles = " and ".join(f"{program['total']['cycles']:,}" for program in content["programs"])
    tables.show(f"{output}: {cycles} cycles, {output.stat().st_size:,} bytes")
    tables.write_json(json, content)


def _show_stages(
    program: HybridProgram,
    file: Path,
    *,
    memory: MemoryModel,
    rtl: bool,
    allowed: Pauses | None,
    json: Path | None,
) -> None:
    """`cycles` of a network that runs partly on the host."""
    from coprune.cli import stages

    if allowed is not None:
        refuse_stages(file, purpose="--pauses")
    table = program.cycles(memory)
    described = stages.describe_cycles(table)
    measured = None
    if rtl:
        with tables.progress_console.status(
            "running the RTL (the first time builds the simulation)"
        ):
            measured = [each.measure_cycles(memory.latency_cycles) for each in program.programs]
        described["rtl"] = [{"layers": layers, "total": total} for layers, total in measured]
    stages.show_cycles(
        table,
        title=f"{program.network} on {program.config.name}, bus of {program.config.bus_bits} "
        f"bits, latency {memory.latency_cycles}",
        measured=measured,
    )
    tables.write_json(json, described)
    if measured is not None and sum(total for _, total in measured) != table.total.cycles:
        raise typer.Exit(1)


def _read_pauses(text: str | None) -> Pauses | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d*\.?\d+):(\d+)", text)
    if match is None:
        raise ValueError(f"--pauses must be SHARE:BURST, as 0.25:40, not {text!r}")
    return Pauses(share=float(match[1]), burst=int(match[2]))
