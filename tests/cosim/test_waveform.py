"""Waveforms of the RTL: the signals and cycles that were asked for, and what they say."""

import re
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from coprune_sim.cosim import runner
from coprune_sim.cosim.result import CosimRun
from coprune_sim.cosim.waveform import CYCLE_NS, Trace, list_units, mark_traced

from ..end_to_end.comparison import Case, assert_rtl_equal, make_case
from ..end_to_end.configurations import SMALL
from ..graphs import odd_graph
from .test_fst import changes, read

TINY = replace(SMALL, columns=2)
"""A traced model takes longer to build."""

UNITS = {
    *("machine", "access", "arbiter", "controller", "counters", "dispatcher", "fetcher", "loader"),
    *("registers", "storer", "synchronizer"),
    *("execute", "activations", "array", "drain", "parameters", "sequencer", "slots"),
}
BEGIN, END = 50, 1050


@cache
def prepare() -> Case:
    return make_case(odd_graph(), TINY, seed=1)


@cache
def run_traced(unit: str | None = None) -> CosimRun:
    """Two images, of which the first is traced."""
    case = prepare()
    return runner.run(case.machine, [case.pixels, ~case.pixels], trace=Trace(unit, BEGIN, END))


@pytest.fixture
def variables(tmp_path) -> dict:
    """Signals of the waveform of pins and ports, by their names within the accelerator."""
    waveform = read(run_traced().waveform, tmp_path)
    prefix = "bench.accelerator."
    assert all(variable.full_name.startswith(prefix) for variable in waveform.all_vars())
    return {variable.full_name.removeprefix(prefix): variable for variable in waveform.all_vars()}


def cycles_with(variable, bit: int) -> set[int]:
    """Cycles of the window in which a bit of a signal is 1."""
    found = []
    values = [*changes(variable), (CYCLE_NS * END, 0)]
    for (time, value), (following, _) in pairwise(values):
        if value >> bit & 1:
            found += range(time // CYCLE_NS, following // CYCLE_NS)
    return set(found)


def test_traced_machine_computes_the_same():
    assert_rtl_equal(prepare(), run_traced().images[0])


def test_waveform_has_the_cycles_of_the_window(variables):
    edges = [time for time, value in changes(variables["clk"]) if value == 1]
    assert edges == [CYCLE_NS * cycle for cycle in range(BEGIN, END)]
    assert all(
        CYCLE_NS * BEGIN <= time < CYCLE_NS * END
        for variable in variables.values()
        for time, _ in changes(variable)
    )


def test_waveform_shows_the_cycles_of_the_timeline(variables):
    timeline = run_traced().images[0].timeline
    window = range(BEGIN, END)
    for bit, unit in enumerate(("LOAD", "EXECUTE", "STORE")):
        own = [timing for timing in timeline if timing.opcode.name == unit]
        taken = {timing.begin for timing in own} & set(window)
        completed = {timing.end for timing in own} & set(window)
        assert cycles_with(variables["observe_taken"], bit) == taken
        assert cycles_with(variables["observe_completed"], bit) == completed
    assert len(cycles_with(variables["observe_taken"], 0)) > 3


def test_waveform_has_pins_and_ports_under_the_names_of_the_gateware(variables):
    assert {
        *("m_axi_araddr", "s_axi_wdata", "interrupt", "rst"),
        *("machine.access.fetcher.instructions__valid", "machine.access.counters.values.cycles"),
        "machine.execute.sequencer.instruction__payload.slot_base",
        "machine.execute.drain.completed",
        "machine.access.synchronizer.execute_queue__payload.prefix.opcode",
    } <= set(variables)
    modules = {name.rpartition(".")[0] for name in variables}
    assert {part for module in modules for part in module.split(".")} >= UNITS
    # What is no port, and what is within a unit.
    assert "machine.access.fetcher.asked_beats" not in variables
    assert not any(name.startswith("machine.access.fetcher.reader.") for name in variables)


@pytest.mark.slow
def test_waveform_of_a_unit_has_its_signals_and_those_within(tmp_path):
    run = run_traced("fetcher")
    names = {variable.full_name for variable in read(run.waveform, tmp_path).all_vars()}
    prefix = "bench.accelerator.machine.access.fetcher."
    assert all(name.startswith(prefix) for name in names)
    own = {name.removeprefix(prefix) for name in names}
    assert {"clk", "instructions__valid", "asked_beats"} <= own
    assert any(name.startswith("reader.") for name in own)
    assert_rtl_equal(prepare(), run.images[0])


def test_refuses_a_window_behind_the_program_s_end():
    case = prepare()
    cycles = run_traced().images[0].counters["cycles"]
    message = f"begins at cycle {cycles}, but the program takes {cycles}"
    with pytest.raises(ValueError, match=message):
        runner.run(case.machine, [case.pixels], trace=Trace(begin=cycles))
    last = runner.run(case.machine, [case.pixels], trace=Trace(begin=cycles - 1))
    assert last.waveform


@pytest.mark.parametrize("window", [(-1, 5), (5, 5), (6, 5), (0, (1 << 32) + 1)])
def test_refuses_a_window_without_cycles(window):
    with pytest.raises(ValueError, match=rf"window of cycles .*, not {window[0]}:{window[1]}"):
        Trace(None, *window)


def test_names_the_units_where_there_is_none_of_a_name():
    verilog = runner.accelerator_verilog(TINY)
    assert set(list_units(verilog)) == UNITS
    with pytest.raises(ValueError, match=r"one of access, activations, .*, not 'fetch'"):
        mark_traced(verilog, unit="fetch")
    with pytest.raises(ValueError, match="not 'fetch'"):
        runner.run(prepare().machine, [prepare().pixels], trace=Trace("fetch"))


ACCELERATOR = """\
module coprune_accelerator(clk, data);
  wire \\$1 ;
  input clk;
  wire clk;
  wire inner;
  output [3:0] data;
  reg [3:0] data = 4'h0;
  wire [1:0] \\data.low ;
  \\coprune_accelerator.unit$12  \\unit$12  (
    .clk(clk)
  );
endmodule

module \\coprune_accelerator.unit$12 (clk);
  input clk;
  wire clk;
  wire \\$1 ;
  wire signed [3:0] inner;
  reg [7:0] storage [3:0];
  \\coprune_accelerator.unit$12.part  part (
    .clk(clk)
  );
endmodule

module \\coprune_accelerator.unit$12.part (clk);
  input clk;
  wire clk;
endmodule
"""


PORTS_OF_TOP = ["input clk;", "wire clk;", "output [3:0] data;", "reg [3:0] data = 4'h0;"]


@pytest.mark.parametrize(
    ("unit", "traced"),
    [
        (None, [*PORTS_OF_TOP, r"wire [1:0] \data.low ;", *2 * ["input clk;", "wire clk;"]]),
        (
            "unit",
            ["input clk;", "wire clk;", "wire signed [3:0] inner;", "input clk;", "wire clk;"],
        ),
        ("part", ["input clk;", "wire clk;"]),
    ],
)
def test_marks_the_declarations_to_trace_and_all_instances(unit, traced):
    marked = mark_traced(ACCELERATOR, unit=unit)
    assert marked.startswith("/*verilator tracing_off*/\n")
    found = re.findall(r"/\*verilator tracing_on\*/  (.*)/\*verilator tracing_off\*/", marked)
    assert [line for line in found if "accelerator" not in line] == traced
    instances = [line.split(" ")[0] for line in found if "accelerator" in line]
    assert instances == [*(r"\coprune_accelerator.unit$12", r"\coprune_accelerator.unit$12.part")]
    assert re.sub(r"/\*verilator \w+\*/", "", marked) == "\n" + ACCELERATOR
