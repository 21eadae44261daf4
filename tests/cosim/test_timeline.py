"""The timeline that the RTL's pins give, against its counters, marks and tokens."""

from functools import cache
from itertools import pairwise

import pytest

from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.registers import State
from coprune_sim.chrome_trace import chrome_trace
from coprune_sim.cosim import runner
from coprune_sim.cosim.result import CosimImage

from ..end_to_end.comparison import Case, make_case
from ..end_to_end.configurations import SMALL
from ..graphs import odd_graph, residual_graph

UNITS = (Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE)
NETWORKS = {"residual": lambda: residual_graph(size=8), "odd": odd_graph}
RUNS = {
    "internal": lambda case: runner.run(case.machine, [case.pixels]),
    "internal, stalls": lambda case: runner.run(case.machine, [case.pixels], seed=3),
    "cocotbext": lambda case: runner.run(case.machine, [case.pixels], memory="cocotbext"),
    "C++": lambda case: runner.run_cpp(case.machine, [case.pixels]),
}


@cache
def prepare(network: str) -> Case:
    return make_case(NETWORKS[network](), SMALL, seed=1)


@cache
def run_rtl(network: str, run: str) -> CosimImage:
    return RUNS[run](prepare(network)).images[0]


every_run = pytest.mark.parametrize(
    ("network", "run"), [("residual", "internal"), *(("odd", run) for run in RUNS)]
)


@every_run
def test_instruction_with_a_layer_mark_completes_when_the_mark_says(network, run):
    image, program = run_rtl(network, run), prepare(network).machine
    marked = {}
    for timing in image.timeline:
        prefix = program.instructions()[timing.index]["prefix"]
        if prefix["mark_valid"]:
            marked[prefix["mark"]] = timing.end
    assert [marked[record.mark] for record in program.layers] == [
        mark["cycles"] for mark in image.marks
    ]


@every_run
def test_every_instruction_of_a_unit_is_there_once(network, run):
    timeline, program = run_rtl(network, run).timeline, prepare(network).machine
    expected = [
        (index, instruction["prefix"]["opcode"])
        for index, instruction in enumerate(program.instructions())
        if instruction["prefix"]["opcode"] in UNITS
    ]
    assert [(timing.index, timing.opcode) for timing in timeline] == expected


@every_run
def test_load_waits_as_many_cycles_as_its_counter_says(network, run):
    image = run_rtl(network, run)
    waits = dict.fromkeys(UNITS, 0)
    for timing in image.timeline:
        waits[timing.opcode] += timing.begin - timing.ready
    assert waits[Opcode.LOAD] == image.counters["load_stalls"]
    assert 0 < waits[Opcode.EXECUTE] <= image.counters["token_stalls"]
    assert waits[Opcode.STORE] > 0


@every_run
def test_bytes_on_the_chrome_trace_are_those_that_the_counters_say(network, run):
    image = run_rtl(network, run)
    beats = dict.fromkeys(UNITS, 0)
    for event in chrome_trace(image.timeline, prepare(network).machine)["traceEvents"]:
        if "bytes" in event["args"]:
            beats[Opcode[event["cat"]]] += -(-event["args"]["bytes"] // SMALL.bus_bytes)
    assert beats[Opcode.LOAD] == image.counters["load_beats"]
    assert beats[Opcode.STORE] == image.counters["store_beats"]


@every_run
def test_token_is_there_in_the_cycle_after_it_was_sent(network, run):
    timeline, program = run_rtl(network, run).timeline, prepare(network).machine
    prefixes = [instruction["prefix"] for instruction in program.instructions()]
    waited = 0
    for first, second in (UNITS[:2], UNITS[1:]):
        for sender, receiver, signal, wait in (
            (first, second, "signal_next", "wait_previous"),
            (second, first, "signal_previous", "wait_next"),
        ):
            sent = [t.end for t in timeline if t.opcode == sender and prefixes[t.index][signal]]
            taken = [t for t in timeline if t.opcode == receiver and prefixes[t.index][wait]]
            for end, timing in zip(sent, taken, strict=True):
                assert timing.begin >= end + 1, timing
                if timing.begin > timing.ready and sender != Opcode.LOAD:
                    waited += 1
                    assert timing.begin == end + 1, timing
    assert waited > 0


@every_run
def test_unit_takes_and_completes_in_order(network, run):
    timeline, counters = run_rtl(network, run).timeline, run_rtl(network, run).counters
    for unit in UNITS:
        own = [timing for timing in timeline if timing.opcode == unit]
        for timing in own:
            assert 0 < timing.ready <= timing.begin < timing.end < counters["cycles"]
        for earlier, later in pairwise(own):
            assert earlier.begin < later.ready
            assert earlier.end < later.end


def test_timeline_begins_anew_with_every_image():
    case = prepare("odd")
    first, second = runner.run(case.machine, [case.pixels, case.pixels]).images
    assert first.timeline == second.timeline


def test_timeline_is_the_same_without_python():
    assert run_rtl("odd", "C++").timeline == run_rtl("odd", "internal").timeline


def test_timeline_of_a_machine_that_stops_is_empty():
    case = prepare("odd")
    slots = next(
        instruction["source"]
        for instruction in case.machine.instructions()
        if instruction.get("kind") == LoadKind.SLOTS
    )
    image = runner.run(case.machine, [case.pixels], error_address=slots).images[0]
    assert image.state == State.ERROR
    assert image.timeline == ()
