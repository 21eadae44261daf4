"""The commands: each parses its arguments, calls the library once and shows the result.

What takes seconds to import is imported by the commands that need it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
import sys
import time
import warnings
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import typer

import coprune
from coprune import atomic_file
from coprune.cli import tables
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cycle_model import MemoryModel, Pauses, bound_cycles

app = typer.Typer(
    name="coprune",
    help="Prune, quantize, compile and verify networks for a sparse INT8 FPGA accelerator.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

PRESETS = ", ".join(AcceleratorConfig.preset_names())
SIMULATED_TOGETHER = 250
"""Images between two steps of the progress bar."""
INTERRUPTED = 130
"""What typer makes of Ctrl-C, or else `typer.Abort`."""
LONGEST_MESSAGE = 1200
"""Characters of an error: PyTorch can say a page, and a build's log more."""


def _check_writable(path: Path | None) -> Path | None:
    if path is not None:
        atomic_file.check(path)
    return path


ProgramPath = Annotated[Path, typer.Argument(metavar="FILE", help="A program file.")]
JsonPath = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation)
    typer.Option(
        "--json", metavar="FILE", help="Write the result as JSON.", callback=_check_writable
    ),
]
Config = Annotated[
    str,
    typer.Option("--config", metavar="PRESET|FILE", help=f"{PRESETS}, or a TOML file."),
]
DataFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--data",
        metavar="DIR",
        help="Test images: cifar-10-batches-py or Fashion-MNIST; else a sample.",
    ),
]
InputFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--inputs", metavar="FILE", help="Images of your own: .npy, float32 [N, C, H, W]."
    ),
]


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


@app.command("compile")
def compile_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="resnet20, resnet20-dense, resnet32, resnet44, resnet56, resnet8, resnet18, "
            "mobilenetv1, mobilenetv2, ds-cnn, autoencoder, lenet5 or squeezenet, perhaps with "
            "parameters (mobilenetv1,width=0.5); package.module:function; a .pt2 archive; or an "
            ".onnx file.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The program file.", callback=_check_writable
        ),
    ],
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="A state dict or public checkpoint for the network."),
    ] = None,
    config: Config = "16x16",
    dense: Annotated[
        bool, typer.Option("--dense", help="Keep zero weights, as dense hardware would.")
    ] = False,
    channel_order: Annotated[
        bool,
        typer.Option(
            "--channel-order/--no-channel-order",
            help="Find the order of channels that takes the fewest cycles.",
        ),
    ] = False,
    calibration: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help=".npy, float32 [N, C, H, W]; else images that fit."),
    ] = None,
    observer: Annotated[str, typer.Option(help="mse, percentile or minmax.")] = "mse",
    json: JsonPath = None,
) -> None:
    """Quantize a network and compile it to a program file."""
    accelerator = AcceleratorConfig.find(config)
    from coprune.cli.images import find_calibration
    from coprune.cli.network import find_network, input_shape

    network = find_network(model, weights=weights)
    images = find_calibration(calibration, shape=input_shape(network))
    try:
        # Where an export fails, PyTorch prints graphs there.
        with contextlib.redirect_stderr(io.StringIO()):
            program = coprune.compile(
                network,
                accelerator,
                calibration=images,
                observer=observer,
                skip_zeros=not dense,
                channel_order=channel_order,
                network=model,
            )
    except RuntimeError as error:
        if calibration is None:
            hint = "without --calibration, the network is given images of 3 x 32 x 32"
            raise RuntimeError(f"{error}; {hint}") from error
        raise
    program.save(output)
    described = tables.describe_program(program)
    tables.show(
        f"{output}: {model} for {accelerator.name}, {described['instructions']} instructions, "
        f"{_compression(described)}"
    )
    tables.write_json(json, described)


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
    outputs = np.concatenate([program.simulate(batch, integer=True) for batch in batches])
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
            callback=_check_writable,
        ),
    ] = None,
    trace: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Write an FST waveform of the first image.",
            callback=_check_writable,
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
    from coprune.cli.images import find_images
    from coprune_sim.cosim.waveform import Trace

    traced = None
    if trace is not None:
        traced = Trace(trace_unit, **_read_window(trace_window))
    found = find_images(program, count=images, folder=data, file=inputs)
    with tables.progress_console.status("running the RTL (the first time builds the simulation)"):
        result = program.cosim(
            found.inputs, memory=memory, latency_cycles=latency, stall_seed=stalls, trace=traced
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
    tables.write_json(json, {"images": images, **tables.describe_result(result)})
    if unequal:
        raise typer.Exit(1)


@app.command()
def verilog(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Made where it is missing.")
    ],
    config: Config = "16x16",
    json: JsonPath = None,
) -> None:
    """Write the accelerator as Verilog, and list its ports."""
    accelerator = AcceleratorConfig.find(config)
    from coprune.verilog import write_verilog

    result = write_verilog(accelerator, output)
    tables.show_table(
        result["file"],
        headings=("port", "direction", " bits"),
        rows=[(port["name"], port["direction"], str(port["bits"])) for port in result["ports"]],
    )
    tables.write_json(json, result)


@app.command()
def info(file: ProgramPath, json: JsonPath = None) -> None:
    """Show a program's manifest, layers and compression."""
    program = coprune.load(file)
    described = tables.describe_program(program)
    lines = {name: described[name] for name in ("network", "geometry_hash", "instructions")}
    for name, value in described["geometry"].items():
        lines[f"geometry {name}"] = value
    for name in ("input", "output"):
        tensor = described[name]
        shape = " x ".join(str(tensor[axis]) for axis in ("channels", "height", "width"))
        lines[name] = f"{shape}, scale {tensor['scale']:.6g}, zero point {tensor['zero']}"
    lines["image"] = f"{described['image_bytes']:,} bytes, input and output included"
    lines["compression"] = _compression(described)
    for name, value in lines.items():
        tables.show(f"{name:>27}: {value}")
    tables.write_json(json, described)


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
            "-o", "--output", metavar="FILE", help="The page, .html.", callback=_check_writable
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
        Subject(coprune.load(file), file.name, timeline)
        for file, timeline in zip_longest(files, timelines)
    ]
    memory = MemoryModel(latency_cycles=latency, write_latency_cycles=latency)
    content = write_report(subjects, output, memory=memory)
    cycles = " and ".join(f"{program['total']['cycles']:,}" for program in content["programs"])
    tables.show(f"{output}: {cycles} cycles, {output.stat().st_size:,} bytes")
    tables.write_json(json, content)


def _read_pauses(text: str | None) -> Pauses | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d*\.?\d+):(\d+)", text)
    if match is None:
        raise ValueError(f"--pauses must be SHARE:BURST, as 0.25:40, not {text!r}")
    return Pauses(share=float(match[1]), burst=int(match[2]))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: exit code 0, or 1 with one line that says what is wrong.

    Parameters
    ----------
    arguments : list of str
        Those of the process, where it is None.
    """
    # PyTorch's warnings concern its developers.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = app(arguments, standalone_mode=False)
    except typer.Abort:
        _fail("interrupted")
    except Exception as error:
        _fail(_explain(error))
    finally:
        logging.disable(logging.NOTSET)
    if code == INTERRUPTED:
        _fail("interrupted")
    sys.exit(code or 0)


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


def _compression(described: dict) -> str:
    return (
        f"{described['float32_bytes']:,} bytes of float32 weights in "
        f"{described['weight_bytes']:,} bytes of slots and parameters: "
        f"{described['compression']:.2f}x"
    )


def _explain(error: Exception) -> str:
    """An error in one line."""
    if hasattr(error, "format_message"):
        # A usage error, of click or of the click in typer.
        return f"{error.format_message().rstrip('.')}; see coprune --help"
    message = " ".join(str(error).split())
    if not isinstance(error, ValueError | TypeError | OSError | RuntimeError | OverflowError):
        message = f"{type(error).__name__}: {message}"
    if len(message) > LONGEST_MESSAGE:
        # A PyTorch error says most at its beginning, a build's log at its end.
        half = LONGEST_MESSAGE // 2
        message = f"{message[:half]} ... {message[-half:]}"
    return message


def _fail(message: str) -> None:
    print(f"coprune: {message}", file=sys.stderr)
    sys.exit(1)
