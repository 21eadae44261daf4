"""Timelines in the Trace Event Format, which Perfetto and chrome://tracing open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.program import MachineProgram
from coprune_hw.contract.work import chunks_of, issued_slots, payload_bytes

from .cycle_model.result import InstructionTiming


def chrome_trace(
    timings: Sequence[InstructionTiming],
    program: MachineProgram,
    *,
    process: str = "RTL",
    process_id: int = 1,
) -> dict:
    """Describe when a program's instructions ran, measured or by the cycle model.

    A microsecond stands for a clock cycle, 0 for the start. The layers have a thread, from mark to
    mark, and so has every unit. A unit begins an instruction while earlier ones are still under
    way: where two overlap, the later one is on another thread of the unit. The wait for tokens
    comes before the instruction, in the category ``wait``.

    Parameters
    ----------
    timings : sequence of InstructionTiming
    program : MachineProgram
        The program that ran.
    process : str
        What the events are shown under.
    process_id : int
        To tell timelines apart whose `traceEvents` are shown together.

    Returns
    -------
    dict
        What to write as JSON.
    """
    threads = {"layers": list(_layer_events(timings, program))}
    spans = _instruction_spans(timings, program)
    for unit in (Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE):
        for row, events in enumerate(_split_into_rows(spans[unit])):
            threads[unit.name if row == 0 else f"{unit.name} ({row + 1})"] = events
    trace = [_metadata("process_name", process_id, 0, name=process)]
    for thread_id, (name, events) in enumerate(threads.items(), start=1):
        trace.append(_metadata("thread_name", process_id, thread_id, name=name))
        trace.append(_metadata("thread_sort_index", process_id, thread_id, sort_index=thread_id))
        trace += [{**event, "pid": process_id, "tid": thread_id} for event in events]
    return {
        "traceEvents": trace,
        "displayTimeUnit": "ns",
        "otherData": {
            "time unit": "1 us is one clock cycle, 0 the start",
            "accelerator": program.config.name,
        },
    }


def _layer_events(timings: Sequence[InstructionTiming], program: MachineProgram) -> Iterator[dict]:
    """Every layer, from the mark before it to its own."""
    instructions = program.instructions()
    marks = {}
    for timing in timings:
        prefix = instructions[timing.index]["prefix"]
        if prefix["mark_valid"]:
            marks[prefix["mark"]] = timing.end
    begin = 0
    for record in program.layers:
        end = marks[record.mark]
        yield _span(record.name, "layer", begin, end, slots=record.slots)
        begin = end


def _instruction_spans(
    timings: Sequence[InstructionTiming], program: MachineProgram
) -> dict[Opcode, list[list[dict]]]:
    """For every instruction of a unit: its wait, if it has one, and the instruction itself."""
    instructions = program.instructions()
    tiles = _tile_numbers(timings, instructions)
    spans = {Opcode.LOAD: [], Opcode.EXECUTE: [], Opcode.STORE: []}
    for timing in timings:
        layer = None if timing.layer is None else program.layers[timing.layer].name
        shown, arguments = _describe(instructions[timing.index], config=program.config)
        if timing.opcode == Opcode.EXECUTE:
            shown = f"tile {tiles[timing.index]}"
        name = " ".join(filter(None, [timing.opcode.name, layer, shown]))
        wait_cycles = timing.begin - timing.ready
        shared = {"instruction": timing.index, "layer": layer}
        span = []
        if wait_cycles:
            span.append(_span(f"wait: {name}", "wait", timing.ready, timing.begin, **shared))
        arguments = {**shared, **arguments, "wait_cycles": wait_cycles}
        span.append(_span(name, timing.opcode.name, timing.begin, timing.end, **arguments))
        spans[timing.opcode].append(span)
    return spans


def _tile_numbers(
    timings: Sequence[InstructionTiming], instructions: Sequence[dict]
) -> dict[int, int]:
    """The tile of output channels that an EXECUTE computes, counted in its layer."""
    places: dict[int | None, list[dict]] = {}
    tiles = {}
    for timing in timings:
        if timing.opcode == Opcode.EXECUTE:
            # Strips of rows of one tile write to the same place.
            written = places.setdefault(timing.layer, [])
            place = instructions[timing.index]["output"]
            if place not in written:
                written.append(place)
            tiles[timing.index] = written.index(place)
    return tiles


def _describe(instruction: dict, *, config: AcceleratorConfig) -> tuple[str, dict]:
    """What an instruction's name says after the layer, and its arguments."""
    opcode = instruction["prefix"]["opcode"]
    if opcode == Opcode.EXECUTE:
        return "", {
            "slots": issued_slots(instruction),
            "tiles": instruction["tile_rows"] * instruction["tile_columns"],
            "row_begin": instruction["row_begin"],
            "barrier": bool(instruction["barrier"]),
        }
    moved = payload_bytes(instruction, config)
    if opcode == Opcode.STORE:
        return "", {"bytes": moved}
    name = LoadKind(instruction["kind"]).name.lower()
    _, count = chunks_of(instruction, config)
    return name, {"kind": name, "count": count, "bytes": moved}


def _split_into_rows(spans: Sequence[list[dict]]) -> list[list[dict]]:
    """Put spans that overlap on different rows, as the format's events of a thread must nest."""
    rows: list[list[dict]] = [[]]
    for span in spans:
        begin = span[0]["ts"]
        row = next((row for row in rows if not row or _end(row[-1]) <= begin), None)
        if row is None:
            row = []
            rows.append(row)
        row += span
    return rows


def _end(event: dict) -> int:
    return event["ts"] + event["dur"]


def _span(name: str, category: str, begin: int, end: int, /, **arguments) -> dict:
    """A complete event, but for process and thread."""
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": begin,
        "dur": end - begin,
        "args": arguments,
    }


def _metadata(name: str, process_id: int, thread_id: int, /, **arguments) -> dict:
    return {"name": name, "ph": "M", "pid": process_id, "tid": thread_id, "args": arguments}
