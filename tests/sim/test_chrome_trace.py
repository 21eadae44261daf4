"""Chrome traces against the Trace Event Format, and against the timeline that they show."""

import json
from collections import defaultdict
from functools import cache
from itertools import pairwise

import pytest

from coprune.program import compile_graph
from coprune_hw.contract.instructions import Opcode
from coprune_hw.contract.program import MachineProgram
from coprune_sim.chrome_trace import chrome_trace
from coprune_sim.cycle_model.attribution import layer_of_instructions
from coprune_sim.cycle_model.result import InstructionTiming

from ..end_to_end.configurations import SMALL
from ..graphs import GRAPHS

UNITS = (Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE)
STEP, DURATION, WAIT = 10, 25, 4


@cache
def prepare(network: str = "residual") -> MachineProgram:
    return compile_graph(GRAPHS[network](), SMALL).machine


@cache
def prepare_timings(
    network: str = "residual", *, duration: int = DURATION
) -> tuple[InstructionTiming, ...]:
    """Instructions that follow each other every `STEP` cycles."""
    program = prepare(network)
    timings = []
    layers = layer_of_instructions(program)
    for index, instruction in enumerate(program.instructions()):
        opcode = Opcode(instruction["prefix"]["opcode"])
        if opcode in UNITS:
            begin = STEP * index
            ready = begin - WAIT * (index % 2)
            timings.append(
                InstructionTiming(index, opcode, layers[index], ready, begin, begin + duration)
            )
    return tuple(timings)


def spans(trace: dict) -> list[dict]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def instruction_spans(trace: dict) -> dict[int, dict]:
    """The spans of instructions, without their waits, by position in the program."""
    return {
        event["args"]["instruction"]: event
        for event in spans(trace)
        if event["cat"] in [unit.name for unit in UNITS]
    }


def thread_names(trace: dict) -> dict[int, str]:
    return {
        event["tid"]: event["args"]["name"]
        for event in trace["traceEvents"]
        if event["name"] == "thread_name"
    }


@pytest.mark.parametrize("network", GRAPHS)
def test_trace_is_in_the_trace_event_format(network):
    trace = chrome_trace(prepare_timings(network), prepare(network))
    assert trace == json.loads(json.dumps(trace))
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    metadata = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["args"], dict)
        if event["ph"] == "M":
            assert set(event) == {"name", "ph", "pid", "tid", "args"}
            assert set(event["args"]) == {metadata[event["name"]]}
        else:
            assert event["ph"] == "X"
            assert set(event) == {"name", "ph", "pid", "tid", "args", "cat", "ts", "dur"}
            assert event["ts"] >= 0
            assert event["dur"] > 0


@pytest.mark.parametrize("duration", [1, STEP - 1, STEP, STEP + 1, 2 * STEP, 2 * STEP + 1])
def test_events_of_a_thread_do_not_overlap(duration):
    threads = defaultdict(list)
    for event in spans(chrome_trace(prepare_timings(duration=duration), prepare())):
        threads[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for own in threads.values():
        for (_, end), (begin, _) in pairwise(sorted(own)):
            assert end <= begin


def test_instructions_are_shown_when_they_ran_with_their_waits_before():
    timings = prepare_timings()
    trace = chrome_trace(timings, prepare())
    names = thread_names(trace)
    shown = instruction_spans(trace)
    waits = {
        event["args"]["instruction"]: event for event in spans(trace) if event["cat"] == "wait"
    }
    assert list(sorted(shown)) == [timing.index for timing in timings]
    assert sorted(waits) == [timing.index for timing in timings if timing.ready < timing.begin]
    for timing in timings:
        event = shown[timing.index]
        assert (event["ts"], event["ts"] + event["dur"]) == (timing.begin, timing.end)
        assert event["args"]["wait_cycles"] == timing.begin - timing.ready
        assert names[event["tid"]].split(" ")[0] == timing.opcode.name
        if timing.index in waits:
            wait = waits[timing.index]
            assert (wait["ts"], wait["ts"] + wait["dur"]) == (timing.ready, timing.begin)
            assert wait["tid"] == event["tid"]
            assert wait["name"] == f"wait: {event['name']}"


def test_units_have_a_thread_and_more_where_instructions_overlap():
    names = thread_names(chrome_trace(prepare_timings(), prepare()))
    assert list(names) == list(range(1, len(names) + 1))
    assert list(names.values())[:2] == ["layers", "LOAD"]
    assert {"EXECUTE", "STORE", "LOAD (2)", "LOAD (3)"} <= set(names.values())
    apart = [
        InstructionTiming(
            t.index, t.opcode, t.layer, 100 * t.index, 100 * t.index, 100 * t.index + 9
        )
        for t in prepare_timings()
    ]
    names = thread_names(chrome_trace(apart, prepare()))
    assert list(names.values()) == ["layers", "LOAD", "EXECUTE", "STORE"]


def test_layers_go_from_mark_to_mark():
    program, timings = prepare(), {timing.index: timing for timing in prepare_timings()}
    ends = {}
    for index, instruction in enumerate(program.instructions()):
        if instruction["prefix"]["mark_valid"]:
            ends[instruction["prefix"]["mark"]] = timings[index].end
    layers = [
        event for event in spans(chrome_trace(prepare_timings(), program)) if event["tid"] == 1
    ]
    assert [event["name"] for event in layers] == [record.name for record in program.layers]
    assert [event["args"]["slots"] for event in layers] == [
        record.slots for record in program.layers
    ]
    begin = 0
    for event, record in zip(layers, program.layers, strict=True):
        assert (event["ts"], event["ts"] + event["dur"]) == (begin, ends[record.mark])
        begin = ends[record.mark]


def test_names_say_layer_and_tile():
    program = prepare()
    shown = instruction_spans(chrome_trace(prepare_timings(), program))
    executes = [event for _, event in sorted(shown.items()) if event["cat"] == "EXECUTE"]
    for record in program.layers:
        own = [executes[number] for number in record.executes]
        tiles = [int(event["name"].removeprefix(f"EXECUTE {record.name} tile ")) for event in own]
        assert tiles == sorted(tiles)
        assert set(tiles) == set(range(-(-record.channels // SMALL.lanes)))
        assert sum(event["args"]["slots"] for event in own) == record.slots
    # The first tile of all comes in strips.
    assert [event["name"] for event in executes[:2]] == ["EXECUTE layer0 tile 0"] * 2
    assert {event["name"] for event in shown.values() if event["cat"] == "LOAD"} >= {
        *("LOAD layer0 slots", "LOAD layer0 parameters", "LOAD layer0 pixels", "LOAD layer1 slots")
    }
    assert {event["name"] for event in shown.values() if event["cat"] == "STORE"} == {
        "STORE layer8"
    }


def test_processes_can_be_shown_together():
    program = prepare()
    measured = chrome_trace(prepare_timings(), program)
    model = chrome_trace(prepare_timings(), program, process="cycle model", process_id=2)
    both = [*measured["traceEvents"], *model["traceEvents"]]
    processes = {event["pid"]: event["args"] for event in both if event["name"] == "process_name"}
    assert processes == {1: {"name": "RTL"}, 2: {"name": "cycle model"}}
