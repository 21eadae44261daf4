"""The terms of the bounds one by one, on workloads made by hand."""

import numpy as np

from coprune_hw.contract.instructions import LoadKind, Opcode, prefix
from coprune_sim.cycle_model import MemoryModel, Pauses, Workload, bound_cycles, count_cycles
from coprune_sim.cycle_model.contention import (
    BlockDelay,
    Contention,
    FetchWait,
    longest_drain_run,
    stolen_cycles,
)
from coprune_sim.cycle_model.machine import Machine

from ..end_to_end.configurations import SMALL
from ..instructions import PLAIN

NOWHERE = {"base": 0, "plane_words": 64, "pitch": 16, "log2_stride": 0, "log2_bank_columns": 2}
HEADER, END = {"prefix": prefix(Opcode.HEADER)}, {"prefix": prefix(Opcode.END)}


def load(kind=LoadKind.SLOTS, *, count=1, rows=1, width=1, pixel_bytes=8, **tokens):
    window = {"row_begin": 0, "rows": rows, "width": width}
    return {
        "prefix": prefix(Opcode.LOAD, **tokens),
        "kind": kind,
        "source": 1024,
        "count": count,
        "place": NOWHERE,
        "window": window,
        "pixel_bytes": pixel_bytes,
    }


def execute(slots: int, *, tiles: int = 1, log2_stride: int = 0, **tokens):
    return {
        "prefix": prefix(Opcode.EXECUTE, **tokens),
        **PLAIN,
        "barrier": 0,
        "slot_base": 0,
        "slot_count": slots,
        "parameter_base": 0,
        "tile_rows": 1,
        "tile_columns": tiles,
        "row_begin": 0,
        "log2_bank_columns": 2,
        "output_height": 1,
        "output_width": 4 * tiles,
        "output": {**NOWHERE, "log2_stride": log2_stride},
    }


def store(words: int, **tokens):
    window = {"row_begin": 0, "rows": 1, "width": words}
    return {
        "prefix": prefix(Opcode.STORE, **tokens),
        "destination": 2048,
        "place": NOWHERE,
        "window": window,
    }


def workload(*instructions: dict, blocks=(True,)) -> Workload:
    return Workload(
        config=SMALL,
        instructions=[HEADER, *instructions, END],
        layers=(),
        image_bytes=4096,
        find_blocks=lambda load: np.array(blocks),
    )


class TestBlockDelay:
    def test_runs_cross_tiles(self):
        blocks = (True, True, False, True)
        delay = BlockDelay.worst(
            workload(load(), execute(4), store(1), execute(4, tiles=2), blocks=blocks)
        )
        assert [delay.next_word() for _ in range(3)] == [3, 3, 0]

    def test_all_slots_begin_blocks(self):
        delay = BlockDelay.worst(workload(load(), store(1), execute(2, tiles=5), blocks=(1, 1)))
        assert [delay.next_word() for _ in range(2)] == [10, 0]

    def test_what_comes_before_all_stores_delays_none(self):
        assert BlockDelay.worst(workload(load(), execute(1), store(1))).next_word() == 0

    def test_a_store_beside_an_execute_that_reads_always_is_in_the_bounds(self):
        starved = workload(
            load(count=200, signal_next=True),
            execute(200, wait_previous=True, signal_next=True),
            store(250, wait_previous=True),
            execute(200, tiles=8),
            blocks=(True,) * 200,
        )
        exact = count_cycles(starved, MemoryModel(5, 5)).cycles
        bounds = bound_cycles(starved, MemoryModel(5, 5), Pauses()).cycles
        assert bounds.lowest + stolen_cycles(starved, Pauses()) < exact <= bounds.highest


class TestDrainRun:
    def test_of_a_phase_split_output(self):
        pixels = load(LoadKind.PIXELS)
        assert longest_drain_run(workload(load(), pixels, execute(4, tiles=2))) == 1
        split = execute(4, tiles=2, log2_stride=1)
        run = longest_drain_run(workload(load(), pixels, split))
        assert run == 2
        # Dispatched while the LOAD before may still be under way, or long after it.
        loads = [load(LoadKind.PARAMETERS)] * SMALL.queue_depth
        assert longest_drain_run(workload(load(), pixels, *loads, split)) == 0
        assert longest_drain_run(workload(load(), pixels, *loads[:-2], split)) == run

    def test_without_loads_of_pixels_there_is_none(self):
        assert longest_drain_run(workload(load(), execute(4))) == 0


class TestStolenCycles:
    def test_are_all_bursts_of_fetch(self):
        # HEADER, LOAD, END, and five more ahead: 32 beats in four bursts.
        assert stolen_cycles(workload(load()), Pauses()) == 32 + 4
        assert stolen_cycles(workload(load()), Pauses(0.5, 3)) == 64 + 4


class TestFetchWait:
    def test_only_loads_before_a_burst_delay_it(self):
        # A burst has two instructions: the second one comes behind the first LOAD.
        waits = FetchWait(workload(load(count=1), load(count=500)), Pauses())
        first, second, third = (waits.next_burst(is_loading_pixels=False) for _ in range(3))
        beats = 2
        assert first == 0
        assert beats < second < 40
        assert third == SMALL.outstanding_bursts * (SMALL.burst_beats + second - beats)

    def test_pauses_make_it_longer(self):
        def second(pauses: Pauses) -> int:
            waits = FetchWait(workload(load(count=1)), pauses)
            return [waits.next_burst(is_loading_pixels=False) for _ in range(2)][1]

        assert second(Pauses(0.5, 10)) == second(Pauses()) + 2 + 20

    def test_pixels_wait_for_the_drain(self):
        pixels = load(LoadKind.PIXELS, rows=1, width=100)
        program = workload(pixels, pixels, execute(4, tiles=2, log2_stride=1), load())
        waits = FetchWait(program, Pauses())
        assert waits.last_pixels == 1
        longest = [waits.next_burst(is_loading_pixels=True) for _ in range(3)][-1]
        waits = FetchWait(program, Pauses())
        shorter = [waits.next_burst(is_loading_pixels=False) for _ in range(3)][-1]
        # One word of 8 bytes a beat, and two cycles of the drain before each.
        assert longest - shorter == SMALL.outstanding_bursts * SMALL.burst_beats * 2


class TestPauses:
    """All pauses come where they delay most: each channel's are counted once a handshake."""

    @staticmethod
    def cycles(program: Workload, pauses: Pauses) -> int:
        machine = Machine(program, MemoryModel(5, 5), pauses=pauses, contention=Contention.NONE)
        machine.run()
        return machine.cycles

    def late(self, program: Workload, pauses: Pauses) -> int:
        return self.cycles(program, pauses) - self.cycles(program, Pauses())

    def test_of_reads(self):
        program = workload()
        # Fetch alone: the address, then the first 8 beats up to END.
        assert self.late(program, Pauses(0, 7)) == 2 * 7
        assert self.late(program, Pauses(0.5, 7)) == 2 * 14 + 1 + 8

    def test_of_writes(self):
        # Behind fetch's two channels come write address, data and response.
        def added(words: int, pauses: Pauses) -> int:
            return self.late(workload(store(words)), pauses) - self.late(workload(), pauses)

        assert added(8, Pauses(0, 7)) == 3 * 7
        assert added(8, Pauses(0.5, 0)) == 1 + 8 + 1


class TestMachine:
    @staticmethod
    def cycles(program: Workload, contention: Contention) -> int:
        machine = Machine(program, MemoryModel(5, 5), contention=contention)
        machine.run()
        return machine.cycles

    def test_without_contention_fetch_has_a_bus_of_its_own(self):
        program = workload(*[load(LoadKind.PIXELS, rows=1, width=64)] * 20)
        assert self.cycles(program, Contention.NONE) < self.cycles(program, Contention.EXACT)

    def test_at_worst_every_pixel_waits_for_the_drain(self):
        pixels = load(LoadKind.PIXELS, rows=1, width=100)
        program = workload(load(), pixels, pixels, execute(4, tiles=2, log2_stride=1))
        late = self.cycles(program, Contention.WORST) - self.cycles(program, Contention.NONE)
        assert late >= 2 * 100 * longest_drain_run(program) == 400
