"""What a co-simulation left: its files and answers as arrays, counters and times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coprune_hw.contract.instructions import Opcode
from coprune_hw.contract.program import DrainedWords, MachineProgram
from coprune_hw.contract.registers import ErrorCode, State
from coprune_sim.cycle_model.attribution import layer_of_instructions
from coprune_sim.cycle_model.result import InstructionTiming

from .toolchain import Model

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


def collect_run(
    program: MachineProgram,
    response: list[dict],
    *,
    folder: Path,
    model: Model,
    timeout_cycles: int,
) -> CosimRun:
    """Read the files that a run left in `folder`; `response` has its other answers, by image.

    Raises
    ------
    RuntimeError
        A rule of AXI was broken, or an image did not end within `timeout_cycles`.
    """
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
