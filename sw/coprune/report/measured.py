"""A measured timeline, held against the cycle model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from coprune_sim.cycle_model import InstructionTiming

Spans = dict[int, tuple[int, int, int]]
"""Position of an instruction in the program to its `ready`, `begin` and `end`."""


def read_timeline(path: str | Path) -> Spans:
    """Read the instructions of a file that ``coprune cosim --timeline`` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no timeline.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such timeline: {path}")
    try:
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        spans = {
            int(event["args"]["instruction"]): _span(event)
            for event in events
            if "wait_cycles" in event["args"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no timeline of coprune cosim --timeline: {error}") from error
    if not spans:
        raise ValueError(f"{path} is no timeline of coprune cosim --timeline: no instructions")
    return spans


def compare_timeline(
    path: str | Path, timings: Sequence[InstructionTiming], *, network: str
) -> dict:
    """Hold a measured timeline against the model's.

    Parameters
    ----------
    path : str or Path
        As `read_timeline` takes it.
    timings : sequence of InstructionTiming
        By the cycle model.
    network : str
        For the message of the error.

    Returns
    -------
    dict
        Name of the ``file``, ``ready``, ``begin`` and ``end`` of the instructions in the order of
        `timings`, and ``largest_difference``: in cycles, of any of them, regardless of its sign.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_timeline`, or the timeline is of another program.
    """
    spans = read_timeline(path)
    if sorted(spans) != sorted(timing.index for timing in timings):
        raise ValueError(
            f"{path} is of another program: {network} has {len(timings)} instructions that run, "
            f"and not the same {len(spans)}"
        )
    measured = [spans[timing.index] for timing in timings]
    modelled = [(timing.ready, timing.begin, timing.end) for timing in timings]
    differences = [
        abs(found - counted)
        for found_span, counted_span in zip(measured, modelled, strict=True)
        for found, counted in zip(found_span, counted_span, strict=True)
    ]
    ready, begin, end = (list(column) for column in zip(*measured, strict=True))
    return {
        "file": Path(path).name,
        "ready": ready,
        "begin": begin,
        "end": end,
        "largest_difference": max(differences),
    }


def _span(event: dict) -> tuple[int, int, int]:
    begin = int(event["ts"])
    return begin - int(event["args"]["wait_cycles"]), begin, begin + int(event["dur"])
