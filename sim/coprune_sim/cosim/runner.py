"""Run a compiled program on the accelerator's RTL: Verilator, cocotb, AXI, bit for bit.

`run` is all that most callers need. It converts the gateware to Verilog, builds it with Verilator
(once: builds are kept in the user's cache folder), runs the images and returns what came out.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

import coprune_hw
from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.program import MachineProgram
from coprune_hw.gateware.accelerator import TOP_NAME, to_verilog

from .build_cache import keep
from .driver import driver_script, read_driver_lines
from .host import PROGRAM_ADDRESS
from .result import CosimRun, collect_run
from .toolchain import SOURCES, Model, build_model
from .waveform import TRACE_FILE, Trace, mark_traced, vcd_to_fst

SMALLEST_MEMORY_BYTES = 1 << 26
STALL_LEVEL = 64
"""With a seed, every channel pauses in this many of 256 cycles."""
LONGEST_RUN_SECONDS = 3600.0


@cache
def accelerator_verilog(config: AcceleratorConfig) -> str:
    """Convert the gateware to Verilog, or find it in the cache."""
    return keep_verilog(TOP_NAME, config.to_dict(), lambda: to_verilog(config))


def keep_verilog(name: str, parameters: dict, convert: Callable[[], str]) -> str:
    """Convert a part of `coprune_hw` to Verilog, or find it in the cache under its parameters."""
    sources = Path(coprune_hw.__file__).parent.rglob("*.py")
    key = hashlib.sha256(json.dumps([name, parameters, version("amaranth")]).encode())
    for path in sorted(sources):
        key.update(path.read_bytes())
    with keep(f"verilog-{key.hexdigest()[:24]}") as (folder, exists):
        converted = folder / f"{name}.v"
        if not exists:
            converted.write_text(convert(), encoding="utf-8")
        return converted.read_text(encoding="utf-8")


def build_accelerator(
    config: AcceleratorConfig,
    *,
    verilog: str | None = None,
    memory_verilog: str | None = None,
    memory_bytes: int = SMALLEST_MEMORY_BYTES,
    trace: Trace | None = None,
    build_folder: Path | None = None,
) -> Model:
    """Build the co-simulation of an accelerator.

    Parameters
    ----------
    config : AcceleratorConfig
    verilog : str, optional
        A module `coprune_accelerator` instead of the gateware.
    memory_verilog : str, optional
        A module `memory` instead of that in memory.v, such as `sdram.sdram_verilog` makes.
    memory_bytes : int
        Of the simulated memory.
    trace : Trace, optional
        The signals of a waveform.
    build_folder : Path, optional
        Where to keep the build, instead of the user's cache folder.

    Raises
    ------
    ValueError
        There is no such unit to trace.
    RuntimeError
        The build failed; with the end of its log.
    """
    if verilog is None:
        verilog = accelerator_verilog(config)
    if trace is not None:
        verilog = mark_traced(verilog, unit=trace.unit)
    sources = ["bench.vlt", "bench.v"]
    if memory_verilog is None:
        sources.append("memory.v")
    else:
        verilog = f"{memory_verilog}\n{verilog}"
    return build_model(
        [SOURCES / name for name in sources],
        top="bench",
        verilog=verilog,
        parameters={
            "BUS_BITS": config.bus_bits,
            "WORD_BITS": config.word_bits,
            "MEMORY_BYTES": memory_bytes,
            "TRACE": int(trace is not None),
        },
        trace=trace is not None,
        folder=build_folder,
    )


def run(
    program: MachineProgram,
    inputs: Sequence[np.ndarray],
    *,
    memory: Literal["internal", "cocotbext"] = "internal",
    latency: int = 20,
    seed: int | None = None,
    error_address: int | None = None,
    timeout_cycles: int | None = None,
    trace: Trace | None = None,
    build_folder: Path | None = None,
    image_override: bytes | None = None,
    verilog: str | None = None,
    memory_verilog: str | None = None,
) -> CosimRun:
    """Run images through the RTL.

    Parameters
    ----------
    program : MachineProgram
    inputs : sequence of int8 arrays [channels, height, width]
    memory : {"internal", "cocotbext"}
        The fast memory model of memory.v, or cocotbext-axi's `AxiRam` with random pauses.
    latency : int
        Cycles from a read address to its first beat; `internal` only. 0 acts as 1.
    seed : int, optional
        Pause every channel of the bus at random. `cocotbext` always does; without a seed, with 0.
    error_address : int, optional
        Byte offset from the program's base address; bursts that touch it are answered by SLVERR.
    timeout_cycles : int, optional
        Of one image; by default far more than the program can take.
    trace : Trace, optional
        Make a waveform of the first image.
    build_folder : Path, optional
        Where to keep the build, instead of the user's cache folder.
    image_override : bytes, optional
        What to run in place of `program.image`.
    verilog : str, optional
        A module `coprune_accelerator` to simulate instead of the gateware.
    memory_verilog : str, optional
        A module `memory` instead of the fast memory model, such as `sdram.sdram_verilog` makes.

    Raises
    ------
    ValueError
        An input has another shape or dtype than the program's, or there is none; there is no such
        unit to trace, or the program ends before the window begins.
    RuntimeError
        The build or the simulation failed, the machine did not end within `timeout_cycles`, or it
        broke a rule of AXI.
    """
    if memory not in ("internal", "cocotbext"):
        raise ValueError(f"memory must be 'internal' or 'cocotbext', not {memory!r}")
    if not inputs:
        raise ValueError("inputs must hold at least one image")
    if image_override is not None:
        program = replace(program, image=image_override)
    memory_bytes = memory_size(program.image)
    timeout_cycles = timeout_cycles or default_timeout_cycles(program, latency=latency)
    model = build_accelerator(
        program.config,
        verilog=verilog,
        memory_verilog=memory_verilog,
        memory_bytes=memory_bytes,
        trace=trace,
        build_folder=build_folder,
    )
    with tempfile.TemporaryDirectory(prefix="coprune-cosim-") as temporary:
        folder = Path(temporary)
        write_images(program, inputs, folder=folder)
        request = {
            "memory": memory,
            "memory_bytes": memory_bytes,
            "settings": settings(
                latency=latency,
                seed=seed,
                error_address=error_address,
                timeout_cycles=timeout_cycles,
            ),
            "error_address": None if error_address is None else PROGRAM_ADDRESS + error_address,
            "program_address": PROGRAM_ADDRESS,
            "program_bytes": len(program.image),
            "images": len(inputs),
            "input_offset": program.input.offset,
            "input_bytes": program.input.size_bytes,
            "output_offset": program.output.offset,
            "output_bytes": program.output.size_bytes,
            "marks": [record.mark for record in program.layers],
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        model.run_cocotb(
            "coprune_sim.cosim.bench",
            folder=folder,
            timeout_seconds=LONGEST_RUN_SECONDS,
            plusargs=[] if trace is None else trace.plusargs(),
        )
        response = json.loads((folder / "response.json").read_text(encoding="utf-8"))
        result = collect_run(
            program, response, folder=folder, model=model, timeout_cycles=timeout_cycles
        )
        if trace is None:
            return result
        if not (folder / TRACE_FILE).exists():
            raise ValueError(
                f"the window to trace begins at cycle {trace.begin}, but the program takes "
                f"{result.images[0].counters['cycles']}"
            )
        return replace(result, waveform=vcd_to_fst(folder / TRACE_FILE, begin=trace.begin))


def run_cpp(
    program: MachineProgram,
    inputs: Sequence[np.ndarray],
    *,
    latency: int = 20,
    seed: int | None = None,
    timeout_cycles: int | None = None,
    build_folder: Path | None = None,
    verilog: str | None = None,
) -> CosimRun:
    """Run images through the same model as `run` with a main program in C++ instead of cocotb.

    Parameters, result and errors are those of `run` with the internal memory.
    """
    memory_bytes = memory_size(program.image)
    timeout_cycles = timeout_cycles or default_timeout_cycles(program, latency=latency)
    model = build_accelerator(
        program.config, verilog=verilog, memory_bytes=memory_bytes, build_folder=build_folder
    )
    ports = settings(latency=latency, seed=seed, error_address=None, timeout_cycles=timeout_cycles)
    with tempfile.TemporaryDirectory(prefix="coprune-cosim-") as temporary:
        folder = Path(temporary)
        write_images(program, inputs, folder=folder)
        lines = model.run_driver(
            driver_script(program, ports=ports, images=len(inputs)),
            folder=folder,
            timeout_seconds=LONGEST_RUN_SECONDS,
        )
        lines_per_image = len(lines) // len(inputs)
        response = [
            read_driver_lines(lines[begin : begin + lines_per_image])
            for begin in range(0, len(lines), lines_per_image)
        ]
        return collect_run(
            program, response, folder=folder, model=model, timeout_cycles=timeout_cycles
        )


def memory_size(image: bytes) -> int:
    """Bytes of a memory that holds a program image, a power of two."""
    return max(SMALLEST_MEMORY_BYTES, 1 << (PROGRAM_ADDRESS + len(image) - 1).bit_length())


def default_timeout_cycles(program: MachineProgram, *, latency: int) -> int:
    """Cycles of one image that no working machine reaches."""
    slots = sum(record.slots for record in program.layers)
    beats = len(program.image) // program.config.bus_bytes
    return 100_000 + 16 * slots + (16 + latency) * beats


def settings(
    *, latency: int, seed: int | None, error_address: int | None, timeout_cycles: int
) -> dict[str, int]:
    """Ports of `bench.v` that stay as they are for the whole simulation."""
    return {
        "latency": latency,
        "write_latency": latency,
        "stall_level": 0 if seed is None else STALL_LEVEL,
        "stall_seed": seed or 0,
        "error_enable": int(error_address is not None),
        "error_address": PROGRAM_ADDRESS + (error_address or 0),
        "timeout_cycles": timeout_cycles,
    }


def write_images(program: MachineProgram, inputs: Sequence[np.ndarray], *, folder: Path) -> None:
    """Write load_0.bin, the program image, and load_1.bin and on, the inputs."""
    (folder / "load_0.bin").write_bytes(program.image)
    for index, tensor in enumerate(inputs, start=1):
        (folder / f"load_{index}.bin").write_bytes(program.input.pack(tensor))
