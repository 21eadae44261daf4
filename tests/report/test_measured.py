"""Measured timelines beside the model's."""

import dataclasses
import json
import re

import pytest

from coprune.report import Subject, describe
from coprune.report.measured import read_timeline
from coprune_sim.chrome_trace import chrome_trace


@pytest.fixture
def timeline(sparse, tmp_path):
    """Writes a timeline in which an instruction is late by some cycles, or two are missing."""

    def write(*, late_cycles: int = 0, missing: int = 0):
        timings = list(sparse.cycles().timing.instructions)
        timings[3] = dataclasses.replace(timings[3], end=timings[3].end + late_cycles)
        trace = chrome_trace(timings, sparse.machine)
        kept = [
            event
            for event in trace["traceEvents"]
            if event["args"].get("instruction", missing) >= missing
        ]
        path = tmp_path / "measured.json"
        path.write_text(json.dumps({**trace, "traceEvents": kept}))
        return path

    return write


@pytest.mark.parametrize("late_cycles", [0, 1, -17])
def test_states_the_largest_difference(sparse, timeline, late_cycles):
    path = timeline(late_cycles=late_cycles)
    described = describe([Subject(sparse, "x.coprune", path)])["programs"][0]["timeline"]
    measured = described["measured"]
    assert measured["file"] == "measured.json"
    assert measured["largest_difference"] == abs(late_cycles)
    for name in ("ready", "begin"):
        assert measured[name] == [span[name] for span in described["instructions"]]
    assert measured["end"][3] == described["instructions"][3]["end"] + late_cycles


def test_there_is_none_where_none_was_measured(sparse):
    described = describe([Subject(sparse, "x.coprune")])["programs"][0]
    assert described["timeline"]["measured"] is None


def test_refuses_a_timeline_of_another_program(sparse, single_layer, timeline):
    path = timeline()
    with pytest.raises(ValueError, match=r"measured\.json is of another program: single has"):
        describe([Subject(single_layer, "x.coprune", path)])
    with pytest.raises(ValueError, match="is of another program: sparse has"):
        describe([Subject(sparse, "x.coprune", timeline(missing=3))])


def test_refuses_a_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("no such timeline: ")):
        read_timeline(tmp_path / "missing.json")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"traceEvents": 3}', '{"traceEvents": []}', '{"traceEvents": [{}]}', "\0"],
)
def test_refuses_what_is_no_timeline(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="is no timeline of coprune cosim --timeline"):
        read_timeline(path)
