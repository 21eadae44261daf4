"""The cycle model by itself: what it says, and what it refuses; against the RTL: end_to_end."""

from dataclasses import replace

import numpy as np
import pytest

from coprune.compiler.lowering import lower, plan
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import Opcode
from coprune_hw.contract.work import UNITS, issued_slots, transfer_beats
from coprune_sim.cycle_model import (
    WAIT_CAUSES,
    MemoryModel,
    Pauses,
    Workload,
    bound_cycles,
    count_cycles,
)
from coprune_sim.cycle_model.contention import BlockDelay, longest_drain_run
from coprune_sim.cycle_model.counts import Spans

from ..end_to_end.configurations import NARROW, SMALL
from ..graphs import GRAPHS, GraphBuilder, residual_graph


@pytest.fixture(scope="module")
def workload() -> Workload:
    return plan(residual_graph(density=0.4), SMALL).workload


class TestCounting:
    @pytest.mark.parametrize("network", GRAPHS)
    @pytest.mark.parametrize("config", [SMALL, NARROW], ids=["8x4", "16x2"])
    def test_is_the_same_before_and_after_packing(self, network, config):
        graph = GRAPHS[network]()
        assert count_cycles(plan(graph, config).workload) == count_cycles(lower(graph, config))

    def test_every_cycle_is_a_slot_or_has_a_cause(self, workload):
        for layer in count_cycles(workload, MemoryModel(100, 100)).layers:
            assert list(layer.waits) == list(WAIT_CAUSES)
            assert min(layer.waits.values()) >= 0
            assert layer.slots + sum(layer.waits.values()) == layer.cycles

    def test_slots_and_bytes_are_those_of_the_instructions(self, workload):
        timing = count_cycles(workload)
        executes = workload.of_unit(Opcode.EXECUTE)
        assert timing.counters["slots"] == sum(map(issued_slots, executes))
        for unit, moved in (
            (Opcode.LOAD, sum(layer.load_bytes for layer in timing.layers)),
            (Opcode.STORE, sum(layer.store_bytes for layer in timing.layers)),
        ):
            beats = sum(transfer_beats(each, SMALL) for each in workload.of_unit(unit))
            assert moved == beats * SMALL.bus_bytes
            assert timing.counters[f"{unit.name.lower()}_beats"] == beats

    def test_a_slow_memory_makes_execute_wait_for_input_and_weights(self, workload):
        fast, slow = (
            count_cycles(workload, MemoryModel(latency, latency)) for latency in (0, 1000)
        )
        assert slow.cycles > fast.cycles + 1000
        for cause in ("input", "weights"):
            waits = [sum(layer.waits[cause] for layer in timing.layers) for timing in (fast, slow)]
            assert waits[1] > waits[0] + 500

    def test_a_tile_of_few_slots_is_bound_by_the_drain(self):
        builder = GraphBuilder(3, (16, 16), seed=1)
        builder.add(builder.conv("input", 8, 1))
        config = replace(SMALL, columns=8)
        program = lower(builder.graph(), config)
        layer = count_cycles(program).layers[0]
        assert layer.drain_bound_tiles == layer.tiles == 32
        # The first tile of an instruction drains while the next one starts.
        assert layer.waits["drain"] >= (32 - len(program.layers[0].executes)) * (8 - 3)

    def test_instructions_of_a_unit_complete_in_order_after_they_began(self, workload):
        timing = count_cycles(workload)
        for unit in UNITS:
            own = [each for each in timing.instructions if each.opcode == unit]
            assert [each.ready <= each.begin < each.end for each in own] == [True] * len(own)
            assert [each.end for each in own] == sorted(each.end for each in own)
        assert max(each.end for each in timing.instructions) < timing.cycles

    def test_latency_0_acts_as_1(self, workload):
        assert count_cycles(workload, MemoryModel(0, 0)) == count_cycles(
            workload, MemoryModel(1, 1)
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("opcode", "token"), [(Opcode.LOAD, "signal_next"), (Opcode.EXECUTE, "signal_next")]
    )
    def test_a_program_that_waits_for_ever(self, opcode, token):
        workload = plan(residual_graph(), SMALL).workload
        for instruction in workload.of_unit(opcode):
            instruction["prefix"][token] = 0
        with pytest.raises(ValueError, match="waits for a token that nobody sends"):
            count_cycles(workload)

    def test_an_empty_load(self):
        workload = plan(residual_graph(), SMALL).workload
        workload.of_unit(Opcode.LOAD)[0]["count"] = 0
        with pytest.raises(ValueError, match="a LOAD must load something"):
            count_cycles(workload)

    @pytest.mark.parametrize("latency", [-1, 1 << 16, 2.5])
    def test_a_latency_out_of_range(self, latency):
        with pytest.raises(ValueError, match=r"latency_cycles must be from 0 to 65535, not "):
            MemoryModel(latency_cycles=latency)

    def test_pauses_out_of_range(self):
        with pytest.raises(ValueError, match=r"share must be from 0 to 0\.5, not 0\.6"):
            Pauses(share=0.6)
        with pytest.raises(ValueError, match="burst must not be negative, but is -1"):
            Pauses(burst=-1)


class TestBounds:
    @pytest.mark.parametrize("network", GRAPHS)
    def test_widen_with_pauses_and_hold_what_is_exact(self, network):
        workload = plan(GRAPHS[network](), SMALL).workload
        memory = MemoryModel(20, 20)
        exact = count_cycles(workload, memory)
        highest = exact.cycles
        for pauses in (Pauses(), Pauses(0.1, 10), Pauses(0.3, 40), Pauses(0.5, 200)):
            bounds = bound_cycles(workload, memory, pauses)
            assert bounds.cycles.lowest <= exact.cycles
            assert bounds.cycles.highest > highest
            highest = bounds.cycles.highest
            for layer, mark in zip(exact.layers, bounds.marks, strict=True):
                assert layer.end in mark

    def test_of_a_program_bound_by_its_slots_are_close(self):
        builder = GraphBuilder(16, (16, 16), seed=3)
        x = "input"
        for _ in range(4):
            x = builder.add(builder.conv(x, 16))
        workload = plan(builder.graph(), AcceleratorConfig(lanes=8, columns=4)).workload
        bounds = bound_cycles(workload, MemoryModel(), Pauses(0.25, 40)).cycles
        assert bounds.highest < 1.1 * bounds.lowest

    def test_a_phase_split_output_makes_the_drain_stay_in_a_bank(self):
        def run_of(stride: int) -> int:
            builder = GraphBuilder(3, (16, 16), seed=4)
            x = builder.add(builder.conv("input", 8))
            builder.add(builder.conv(x, 8, stride=stride))
            return longest_drain_run(plan(builder.graph(), SMALL).workload)

        assert run_of(1) == 1
        assert run_of(2) == 2

    def test_blocks_delay_words_as_long_as_there_are_any(self):
        delay = BlockDelay(longest=3, total=7)
        assert [delay.next_word() for _ in range(4)] == [3, 3, 1, 0]


class TestSpans:
    def test_count_cycles_before_a_cycle(self):
        rng = np.random.default_rng(5)
        edges = np.sort(rng.integers(0, 200, 40))
        spans = Spans(edges[::2], edges[1::2])
        inside = np.zeros(201, bool)
        for begin, end in edges.reshape(-1, 2):
            inside[begin:end] = True
        for cycle in range(201):
            assert spans.before(cycle) == inside[:cycle].sum()

    def test_there_may_be_none(self):
        assert Spans([], []).before(10) == 0
