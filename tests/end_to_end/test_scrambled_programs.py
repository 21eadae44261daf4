"""The cycle model against the RTL for programs that no compiler makes: what layers do not reach."""

import pytest

from coprune_hw.contract.registers import COUNTERS, State
from coprune_sim.cosim import runner
from coprune_sim.cycle_model import MemoryModel, Pauses, Workload, bound_cycles
from coprune_sim.cycle_model.counts import Counts, find_marks
from coprune_sim.cycle_model.machine import Machine

from .configurations import NARROW, SMALL, WIDE_BUS
from .scrambled import MANY_BURSTS, scrambled_program
from .test_cycle_model import no_pixels

CONFIGS = {"8x4": SMALL, "8x4 wide": WIDE_BUS, "16x2": NARROW, "8x8 many bursts": MANY_BURSTS}
LATENCIES = (0, 5, 40, 200)
PROGRAMS = 24


@pytest.mark.parametrize("config", CONFIGS)
def test_is_exact_at_every_mark(config):
    for seed in range(PROGRAMS):
        program = scrambled_program(CONFIGS[config], seed=seed)
        latency = LATENCIES[seed % len(LATENCIES)]
        image = runner.run_cpp(program, [no_pixels(program)], latency=latency).images[0]
        assert image.state == State.DONE, image.error.name
        assert_marks_equal(program, image, latency=latency)


def assert_marks_equal(program, image, *, latency):
    """The cycles of every instruction, and every counter at every mark."""
    workload = Workload.from_program(program)
    machine = Machine(workload, MemoryModel(latency, latency))
    machine.run()
    for unit, times in machine.times.items():
        measured = [each for each in image.timeline if each.opcode == unit]
        assert times.ready == [each.ready for each in measured], unit.name
        assert times.begin == [each.begin for each in measured], unit.name
        assert times.end == [each.end for each in measured], unit.name
    counts, marks = Counts(machine, workload), find_marks(machine, workload)
    assert counts.before(machine.cycles) == image.counters
    for record, mark in zip(program.layers, image.marks, strict=True):
        expected = {name: mark[name] for name in COUNTERS}
        assert counts.before(marks[record.mark]) == expected, record.name
    bounds = bound_cycles(workload, MemoryModel(latency, latency), Pauses())
    assert image.counters["cycles"] in bounds.cycles
    for record, mark in zip(program.layers, bounds.marks, strict=True):
        assert marks[record.mark] in mark
