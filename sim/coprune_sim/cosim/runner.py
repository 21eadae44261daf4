"""Run a compiled program on the accelerator's RTL: Verilator, cocotb, AXI, bit for bit.

`run` is all that most callers need. It converts the gateware to Verilog, builds it with Verilator
(once: builds are kept in the user's cache folder), runs the images and returns what came out.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

import coprune_hw
from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.instructions import Opcode
from coprune_hw.contract.program import DrainedWords, MachineProgram
from coprune_hw.contract.registers import COUNTERS, ErrorCode, State, address_of
from coprune_hw.gateware.accelerator import TOP_NAME, to_verilog
from coprune_sim.cycle_model.attribution import layer_of_instructions
from coprune_sim.cycle_model.result import InstructionTiming

from .host import control_word, decode_status
from .toolchain import SOURCES, Model, build_model, keep
from .waveform import TRACE_FILE, Trace, mark_traced, vcd_to_fst

PROGRAM_ADDRESS = 0x0001_0000
"""Where the program image lies in the simulated memory; not 0, so that the base address counts."""

SMALLEST_MEMORY_BYTES = 1 << 26
STALL_LEVEL = 64
"""With a seed, every channel pauses in this many of 256 cycles."""

LONGEST_RUN_SECONDS = 3600.0

PROTOCOL_VIOLATIONS = {
    1: "the read address changed or was withdrawn before it was taken",
    2: "the write address changed or was withdrawn before it was taken",
    3: "the write data changed or were withdrawn before they were taken",
    4: "a read burst is not of type INCR, or its beats are wider than the bus",
    5: "a write burst is not of type INCR, or its beats are wider than the bus",
    6: "a read burst crosses a 4 KiB boundary",
    7: "a write burst crosses a 4 KiB boundary",
    8: "WLAST is not on the last beat of its burst",
}
"""Meaning of `violation` in memory.v."""


@dataclass(frozen=True)
class CosimImage:
    """What one run of the program left.

    Parameters
    ----------
    output : int8 array [channels, height, width]
        The program's output region, also where the machine stopped with an error.
    drained : DrainedWords
        Every word that the drain wrote.
    counters : dict
        The counter registers by name.
    marks : list of dict
        For each layer of the program: its name as ``layer``, and the counters at its mark.
    state : State
        DONE or ERROR.
    error : ErrorCode
    timeline : tuple of InstructionTiming
        When the instructions ran, in program order; empty where the machine stopped with an error.
    """

    output: np.ndarray
    drained: DrainedWords
    counters: dict[str, int]
    marks: list[dict]
    state: State
    error: ErrorCode
    timeline: tuple[InstructionTiming, ...]


@dataclass(frozen=True)
class CosimRun:
    """Images that ran, in order; the last one is the first that did not end in state DONE.

    Parameters
    ----------
    images : list of CosimImage
    simulated_cycles : int
        Clock cycles from start to interrupt, over all images.
    simulation_seconds : float
        Wall time that they took.
    build_seconds : float
        Wall time of the Verilator build; 0 where it was in the cache.
    waveform : bytes or None
        An FST file of the first image, if one was asked for.
    """

    images: list[CosimImage]
    simulated_cycles: int
    simulation_seconds: float
    build_seconds: float
    waveform: bytes | None

    @property
    def cycles_per_second(self) -> float:
        """Simulated cycles per second of wall time."""
        return self.simulated_cycles / self.simulation_seconds


@cache
def accelerator_verilog(config: AcceleratorConfig) -> str:
    """Convert the gateware to Verilog, or find it in the cache."""
    sources = Path(coprune_hw.__file__).parent.rglob("*.py")
    key = hashlib.sha256(json.dumps([config.to_dict(), version("amaranth")]).encode())
    for path in sorted(sources):
        key.update(path.read_bytes())
    with keep(f"verilog-{key.hexdigest()[:24]}") as (folder, exists):
        converted = folder / f"{TOP_NAME}.v"
        if not exists:
            converted.write_text(to_verilog(config), encoding="utf-8")
        return converted.read_text(encoding="utf-8")


def build_accelerator(
    config: AcceleratorConfig,
    *,
    verilog: str | None = None,
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
    return build_model(
        [SOURCES / name for name in ("bench.vlt", "memory.v", "bench.v")],
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
        result = _collect_run(
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
            _driver_script(program, ports=ports, images=len(inputs)),
            folder=folder,
            timeout_seconds=LONGEST_RUN_SECONDS,
        )
        lines_per_image = len(lines) // len(inputs)
        response = [
            _read_driver_lines(lines[begin : begin + lines_per_image])
            for begin in range(0, len(lines), lines_per_image)
        ]
        return _collect_run(
            program, response, folder=folder, model=model, timeout_cycles=timeout_cycles
        )


def _driver_script(program: MachineProgram, *, ports: dict[str, int], images: int) -> str:
    source = PROGRAM_ADDRESS + program.input.offset
    destination = PROGRAM_ADDRESS + program.output.offset
    size = len(program.image)
    commands = [f"set {name} {value}" for name, value in ports.items()]
    commands += ["reset", f"load 0 {PROGRAM_ADDRESS} {size}"]
    commands.append(f"write {address_of('program_address')} {PROGRAM_ADDRESS}")
    commands.append(f"write {address_of('program_bytes')} {size}")
    commands.append(f"write {address_of('interrupt_enable')} 1")
    control = address_of("control")
    for index in range(images):
        commands.append(f"load {index + 1} {source} {program.input.size_bytes}")
        commands += [f"observe {index}", f"write {control} {control_word('start')}", "run", "end"]
        commands.append(f"read {address_of('status')}")
        commands += [f"read {address_of(name)}" for name in COUNTERS]
        for record in program.layers:
            commands.append(f"write {address_of('mark_select')} {record.mark}")
            commands += [f"read {address_of(f'mark_{name}')}" for name in COUNTERS]
        commands.append(f"write {control} {control_word('acknowledge')}")
        commands.append(f"dump {index} {destination} {program.output.size_bytes}")
    return "\n".join(commands)


def _read_driver_lines(lines: list[str]) -> dict:
    interrupt, violation, cycles, seconds = lines[0].split()
    status = decode_status(int(lines[1]))
    values = [int(line) for line in lines[2:]]
    records = [
        dict(zip(COUNTERS, values[begin : begin + len(COUNTERS)], strict=True))
        for begin in range(0, len(values), len(COUNTERS))
    ]
    return {
        "interrupted": interrupt == "1",
        "violation": int(violation),
        "state": status["state"],
        "error": status["error"],
        "counters": records[0],
        "marks": records[1:],
        "cycles": int(cycles),
        "seconds": float(seconds),
    }


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


def read_drained(path: Path, *, lanes: int) -> DrainedWords:
    """Read an observe_<index>.bin of `bench.v`."""
    record = np.dtype([("bank", "<u2"), ("address", "<u2"), ("word", np.int8, (lanes,))])
    records = np.fromfile(path, record)
    return DrainedWords(
        bank=records["bank"].astype(np.int64),
        address=records["address"].astype(np.int64),
        word=np.ascontiguousarray(records["word"]),
    )


def read_timeline(path: Path, program: MachineProgram) -> tuple[InstructionTiming, ...]:
    """Read a timeline_<index>.bin of `bench.v`, of a run of the whole program."""
    events = np.fromfile(path, np.dtype([("cycle", "<u4"), ("flags", "<u4")]))
    cycles = events["cycle"].astype(np.int64)
    layers = layer_of_instructions(program)
    indices = {opcode: [] for opcode in Opcode}
    for index, instruction in enumerate(program.instructions()):
        indices[instruction["prefix"]["opcode"]].append(index)
    timings = []
    for unit, opcode in enumerate((Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE)):
        taken, completed, waiting = (
            (events["flags"] >> (3 * action + unit) & 1).astype(bool) for action in range(3)
        )
        waited = np.concatenate([[False], waiting[:-1]])
        # Before every event, the cycle in which the wait that it may end began.
        wait_begins = np.maximum.accumulate(np.where(waiting & ~waited, cycles, 0))
        ready = np.where(waited, wait_begins, cycles)
        columns = (ready[taken].tolist(), cycles[taken].tolist(), cycles[completed].tolist())
        for index, *times in zip(indices[opcode], *columns, strict=True):
            timings.append(InstructionTiming(index, opcode, layers[index], *times))
    return tuple(sorted(timings, key=lambda timing: timing.index))


def _collect_run(
    program: MachineProgram,
    response: list[dict],
    *,
    folder: Path,
    model: Model,
    timeout_cycles: int,
) -> CosimRun:
    for index, result in enumerate(response):
        _refuse_failure(result, index=index, timeout_cycles=timeout_cycles)
    return CosimRun(
        images=[
            _collect_image(program, result, index=index, folder=folder)
            for index, result in enumerate(response)
        ],
        simulated_cycles=sum(result["cycles"] for result in response),
        simulation_seconds=sum(result["seconds"] for result in response),
        build_seconds=model.build_seconds,
        waveform=None,
    )


def _refuse_failure(result: dict, *, index: int, timeout_cycles: int) -> None:
    if result["violation"]:
        rule = PROTOCOL_VIOLATIONS[result["violation"]]
        raise RuntimeError(f"image {index}: the accelerator broke a rule of AXI: {rule}")
    if not result["interrupted"]:
        state, error = State(result["state"]).name, ErrorCode(result["error"]).name
        raise RuntimeError(
            f"image {index}: no interrupt within {timeout_cycles} cycles; state {state}, "
            f"error {error}, counters {result['counters']}"
        )


def _collect_image(
    program: MachineProgram, result: dict, *, index: int, folder: Path
) -> CosimImage:
    state = State(result["state"])
    timeline = ()
    if state == State.DONE:
        timeline = read_timeline(folder / f"timeline_{index}.bin", program)
    return CosimImage(
        output=program.output.unpack((folder / f"dump_{index}.bin").read_bytes()),
        drained=read_drained(folder / f"observe_{index}.bin", lanes=program.config.lanes),
        counters=result["counters"],
        marks=[
            {"layer": record.name, **counters}
            for record, counters in zip(program.layers, result["marks"], strict=True)
        ],
        state=state,
        error=ErrorCode(result["error"]),
        timeline=timeline,
    )
