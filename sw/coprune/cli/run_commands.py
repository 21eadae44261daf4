"""Commands that run images: the demo, in software, on the RTL."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import typer

import coprune
from coprune import atomic_file
from coprune.cli import tables
from coprune.cli.app import app
from coprune.cli.options import DataFolder, InputFile, JsonPath, ProgramPath, check_writable
from coprune.cli.programs import refuse_stages
from coprune.program import Program


@app.command()
def demo(
    folder: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Where Verilog, programs and plot go."),
    ] = Path("build/demo"),
    json: JsonPath = None,
) -> None:
    """Run the whole path on the 4:16 ResNet-20 that comes along: compile, simulate, run the RTL."""
    from coprune.demo import run_demo

    tables.write_json(json, run_demo(folder))


SIMULATED_TOGETHER = 250
"""Images between two steps of the progress bar."""


@app.command()
def simulate(
    file: ProgramPath,
    images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", min=1, help="How many images; else all that there are."),
    ] = None,
    data: DataFolder = None,
    inputs: InputFile = None,
    json: JsonPath = None,
) -> None:
    """Run test images in software, bit-exact: accuracy and images per second."""
    program = coprune.load(file)
    import torch

    from coprune.cli.images import find_images

    found = find_images(program, count=images, folder=data, file=inputs)
    begin = time.perf_counter()
    batches = tables.progress(found.inputs.split(SIMULATED_TOGETHER), description="simulating")
    # The classes of largest integers and numbers are the same; the host gives no integers.
    integer = isinstance(program, Program)
    outputs = np.concatenate([program.simulate(batch, integer=integer) for batch in batches])
    seconds = time.perf_counter() - begin
    accuracy = found.accuracy(outputs)
    result = {
        "images": len(outputs),
        "accuracy": accuracy,
        "images_per_second": len(outputs) / seconds,
        "data": found.origin,
        "threads": torch.get_num_threads(),
    }
    tables.show(
        f"{'no accuracy' if accuracy is None else f'accuracy {accuracy:.2%}'} "
        f"on {result['images']:,} images ({found.origin}), "
        f"{result['images_per_second']:.0f} images/s on {result['threads']} thread(s)"
    )
    tables.write_json(json, result)


@app.command()
def cosim(
    file: ProgramPath,
    images: Annotated[int, typer.Option(metavar="N", min=1, help="How many images.")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Print every layer.")] = False,
    memory: Annotated[
        str, typer.Option(help="internal: a model in the simulation; cocotbext: its RAM.")
    ] = "internal",
    latency: Annotated[int, typer.Option(min=0, help="Cycles of the internal memory.")] = 20,
    stalls: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            metavar="SEED", min=0, max=2**31 - 1, help="Pause every AXI channel at random."
        ),
    ] = None,
    timeline: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Write when every instruction ran, in the trace format that Perfetto opens.",
            callback=check_writable,
        ),
    ] = None,
    trace: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Write an FST waveform of the first image.",
            callback=check_writable,
        ),
    ] = None,
    trace_unit: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="All signals of fetcher, sequencer, ...; else pins and the ports of all units.",
        ),
    ] = None,
    trace_window: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="BEGIN:END", help="Cycles since the start; else all of them."),
    ] = None,
    data: DataFolder = None,
    inputs: InputFile = None,
    json: JsonPath = None,
) -> None:
    """Run the RTL: is every layer equal, and how many cycles does it take?"""
    program = coprune.load(file)
    if trace is None and (trace_unit is not None or trace_window is not None):
        raise ValueError("--trace-unit and --trace-window need --trace FILE")
    from coprune.cli import stages
    from coprune.cli.images import find_images
    from coprune_sim.cosim.waveform import Trace

    traced = None
    if trace is not None:
        traced = Trace(trace_unit, **_read_window(trace_window))
    found = find_images(program, count=images, folder=data, file=inputs)
    if not isinstance(program, Program):
        for option, path in (("--timeline", timeline), ("--trace", trace)):
            if path is not None:
                refuse_stages(file, purpose=option)
    options = {} if traced is None else {"trace": traced}
    with tables.progress_console.status("running the RTL (the first time builds the simulation)"):
        result = program.cosim(
            found.inputs, memory=memory, latency_cycles=latency, stall_seed=stalls, **options
        )
    total = result.total
    if layers:
        tables.show_layers(
            f"{program.network} on {program.config.name}, measured by the RTL's counters",
            result.layers,
            total,
            multipliers=program.config.multipliers,
        )
    unequal = [layer.name for layer in result.layers if not layer.equal]
    verdict = f"NOT EQUAL in {', '.join(unequal)}" if unequal else "equal"
    tables.show(
        f"{verdict}: {len(result.layers)} layers of {images} image(s) in integer reference, "
        f"instruction simulator and RTL; {total.cycles:,} cycles from start to interrupt "
        f"(floor {total.floor_cycles:,}, use {total.multiplier_use:.1%}); "
        f"{result.cycles_per_second:,.0f} cycles/s",
        style="red" if unequal else None,
    )
    if timeline is not None:
        from coprune_sim.chrome_trace import chrome_trace

        tables.write_json(timeline, chrome_trace(result.timeline, program.machine))
    if trace is not None:
        atomic_file.write(trace, result.waveform)
    whole = isinstance(program, Program)
    described = tables.describe_result(result) if whole else stages.describe_cosim(result)
    tables.write_json(json, {"images": images, **described})
    if unequal:
        raise typer.Exit(1)


def _read_window(text: str | None) -> dict[str, int]:
    """Bounds of a window of cycles, of those that are given."""
    if text is None:
        return {}
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if match is None:
        raise ValueError(f"--trace-window must be BEGIN:END in cycles, not {text!r}")
    return {
        name: int(bound)
        for name, bound in zip(("begin", "end"), match.groups(), strict=True)
        if bound
    }
