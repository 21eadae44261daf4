"""Instructions, tokens and the ring of slot memory; whole programs against the reference."""

from collections import Counter, deque
from dataclasses import replace

import numpy as np
import pytest

from coprune.compiler.lowering import lower
from coprune.compiler.program_order import token_pairs
from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.instructions import TABLE_BYTES, LoadKind, Opcode
from coprune_hw.contract.program import MachineProgram
from coprune_sim import machine, reference
from coprune_sim.cycle_model import count_cycles
from coprune_sim.graph import Source

from ..graphs import GRAPHS, GraphBuilder, odd_graph, pooling_graph, residual_graph, tabulated_graph

UNITS = (Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE)
CONFIG = AcceleratorConfig()


def select(program: MachineProgram, opcode: Opcode, kind: LoadKind | None = None) -> list[dict]:
    return [
        instruction
        for instruction in program.instructions()
        if instruction["prefix"]["opcode"] == opcode
        and (kind is None or instruction["kind"] == kind)
    ]


def sequential_contents(instructions: list[dict], *, config: AcceleratorConfig) -> dict[int, tuple]:
    """Which LOADs every EXECUTE finds what it reads from, one instruction at a time."""
    memories = empty_memories(config)
    found = {}
    for index, instruction in enumerate(instructions):
        if instruction["prefix"]["opcode"] == Opcode.LOAD:
            write(memories, instruction, tag=index)
        elif instruction["prefix"]["opcode"] == Opcode.EXECUTE:
            found[index] = read(memories, instruction, config=config)
    return found


def empty_memories(config: AcceleratorConfig) -> dict[LoadKind, np.ndarray]:
    return {
        LoadKind.SLOTS: np.full(config.slot_depth, -1),
        LoadKind.PARAMETERS: np.full(config.parameter_depth, -1),
        LoadKind.TABLES: np.full(config.tables * TABLE_BYTES, -1),
    }


def write(memories, load: dict, *, tag: int) -> None:
    if load["kind"] != LoadKind.PIXELS:
        memory, base = memories[LoadKind(load["kind"])], load["place"]["base"]
        assert base + load["count"] <= len(memory)
        memory[base : base + load["count"]] = tag


def read(memories, execute: dict, *, config: AcceleratorConfig) -> tuple:
    slots = memories[LoadKind.SLOTS][execute["slot_base"] :][: execute["slot_count"]]
    parameters = memories[LoadKind.PARAMETERS][execute["parameter_base"] :][: config.lanes]
    table = memories[LoadKind.TABLES][execute["table"] * TABLE_BYTES :][:TABLE_BYTES]
    return (*slots, *parameters, *(table if execute["tabulated"] else ()))


def run_tokens(program: MachineProgram, *, seed: int) -> Counter:
    """Run the program with units that take random times, and return the tokens left over.

    A LOAD spoils what it overwrites when it starts and completes it when it ends; an EXECUTE must
    find its slots, parameters and table when it starts, and still when it ends.
    """
    config = program.config
    instructions = program.instructions()[1:-1]
    expected = sequential_contents(instructions, config=config)
    rng = np.random.default_rng(seed)
    memories, tokens = empty_memories(config), Counter()
    queues = {unit: deque() for unit in UNITS}
    working: dict[Opcode, int | None] = dict.fromkeys(UNITS)
    fetched = 0

    def partners(unit, prefix, action):
        position = UNITS.index(unit)
        if prefix[f"{action}_previous"]:
            yield UNITS[position - 1]
        if prefix[f"{action}_next"]:
            yield UNITS[position + 1]

    def can_start(unit):
        if working[unit] is not None or not queues[unit]:
            return False
        prefix = instructions[queues[unit][0]]["prefix"]
        return all(tokens[sender, unit] for sender in partners(unit, prefix, "wait"))

    def start(unit):
        index = working[unit] = queues[unit].popleft()
        for sender in partners(unit, instructions[index]["prefix"], "wait"):
            tokens[sender, unit] -= 1
        if unit == Opcode.LOAD:
            write(memories, instructions[index], tag=-1)
        if unit == Opcode.EXECUTE:
            assert read(memories, instructions[index], config=config) == expected[index]

    def complete(unit):
        index, working[unit] = working[unit], None
        if unit == Opcode.LOAD:
            write(memories, instructions[index], tag=index)
        if unit == Opcode.EXECUTE:
            assert read(memories, instructions[index], config=config) == expected[index]
        for receiver in partners(unit, instructions[index]["prefix"], "signal"):
            tokens[unit, receiver] += 1

    while True:
        while fetched < len(instructions):
            queue = queues[Opcode(instructions[fetched]["prefix"]["opcode"])]
            if len(queue) == config.queue_depth:
                break
            queue.append(fetched)
            fetched += 1
        moves = [(start, unit) for unit in UNITS if can_start(unit)]
        moves += [(complete, unit) for unit in UNITS if working[unit] is not None]
        if not moves:
            break
        move, unit = moves[rng.integers(len(moves))]
        move(unit)
    assert fetched == len(instructions)
    assert not any(queues.values())
    return tokens


# The banks of the smallest preset are too small for one of the graphs.
PRESETS = [name for name in AcceleratorConfig.preset_names() if name != "ecp5-25f"]


class TestPrograms:
    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("graph", GRAPHS)
    def test_compute_what_the_graph_says(self, graph, preset):
        graph = GRAPHS[graph]()
        program = lower(graph, AcceleratorConfig.preset(preset))
        rng = np.random.default_rng(5)
        pixels = rng.integers(-128, 128, graph.input.shape).astype(np.int8)
        expected = reference.run(graph, pixels[None], keep_layers=True)
        for eager in machine.PREFERENCES:
            run = machine.run(program, pixels, eager=eager, seed=6)
            for name, values in expected.items():
                np.testing.assert_array_equal(run.layers[name], values[0], err_msg=name)
            np.testing.assert_array_equal(run.output, expected[graph.layers[-1].name][0])

    def test_compute_the_same_with_zeros_kept(self):
        graph = residual_graph(density=0.25)
        sparse, kept = lower(graph, CONFIG), lower(graph, CONFIG, skip_zeros=False)
        dense = lower(residual_graph(), CONFIG, skip_zeros=False)
        assert [record.slots for record in kept.layers] == [record.slots for record in dense.layers]
        assert count_cycles(kept).cycles > 2 * count_cycles(sparse).cycles
        pixels = np.random.default_rng(9).integers(-128, 128, (3, 16, 16)).astype(np.int8)
        outputs = [machine.run(program, pixels).output for program in (sparse, kept)]
        np.testing.assert_array_equal(*outputs)

    def test_begin_with_header_and_end_with_end(self):
        instructions = lower(odd_graph(), CONFIG).instructions()
        assert instructions[0]["version"] == CONTRACT_VERSION
        assert instructions[0]["geometry_hash"] == CONFIG.geometry_hash
        assert instructions[-1]["prefix"]["opcode"] == Opcode.END

    def test_are_the_same_every_time(self):
        assert lower(odd_graph(), CONFIG).image == lower(odd_graph(), CONFIG).image

    def test_mark_every_layer_and_the_output(self):
        program = lower(residual_graph(), CONFIG)
        marks = [
            instruction["prefix"]["mark"]
            for instruction in program.instructions()
            if instruction["prefix"]["mark_valid"]
        ]
        assert marks == list(range(len(program.layers) + 1))
        executes = select(program, Opcode.EXECUTE)
        for record in program.layers:
            assert executes[record.executes[-1]]["prefix"]["mark"] == record.mark

    def test_record_slots(self):
        program = lower(residual_graph(), CONFIG)
        executes = select(program, Opcode.EXECUTE)
        for record in program.layers:
            own = [executes[index] for index in record.executes]
            tiles = [execute["tile_rows"] * execute["tile_columns"] for execute in own]
            assert record.slots == np.dot(tiles, [execute["slot_count"] for execute in own])


class TestTokens:
    @pytest.mark.parametrize("queue_depth", [2, 3, 8])
    @pytest.mark.parametrize("slot_depth", [582, 1000, 2048])
    def test_neither_deadlock_nor_overwrite_what_is_in_use(self, slot_depth, queue_depth):
        config = replace(CONFIG, slot_depth=slot_depth, parameter_depth=64, queue_depth=queue_depth)
        program = lower(residual_graph(), config)
        for seed in range(5):
            assert not any(run_tokens(program, seed=seed).values())

    @pytest.mark.parametrize("tables", [1, 2, 8])
    def test_table_is_kept_until_its_last_layer_has_it(self, tables):
        graph = tabulated_graph()
        program = lower(graph, replace(CONFIG, tables=tables))
        for seed in range(20):
            assert not any(run_tokens(program, seed=seed).values())
        # One LOAD for a layer, however many tiles and phases it has.
        tabulated = [layer for layer in graph.layers if layer.table is not None]
        loads = select(program, Opcode.LOAD, LoadKind.TABLES)
        assert len(loads) == len(tabulated) == 5
        assert [load["place"]["base"] // TABLE_BYTES for load in loads] == [
            number % tables for number in range(5)
        ]

    def test_run_with_the_smallest_memories_gives_the_same_result(self):
        graph = residual_graph()
        pixels = np.random.default_rng(7).integers(-128, 128, (3, 16, 16)).astype(np.int8)
        config = replace(CONFIG, slot_depth=582, parameter_depth=16, queue_depth=2)
        outputs = [
            machine.run(lower(graph, config), pixels, eager=eager).output
            for config in (CONFIG, config)
            for eager in machine.PREFERENCES
        ]
        for output in outputs[1:]:
            np.testing.assert_array_equal(output, outputs[0])

    def test_pairs_cover_every_need_with_the_fewest_tokens(self):
        assert token_pairs([-1, 2, 2, 1, 5, 4, 5, 6]) == [(2, 1), (5, 4), (6, 7)]

    def test_loads_run_ahead_of_what_executes_need(self):
        program = lower(residual_graph(), CONFIG)
        opcodes = np.array([i["prefix"]["opcode"] for i in program.instructions()])
        loads = np.cumsum(opcodes == Opcode.LOAD)[opcodes == Opcode.EXECUTE]
        waits = [e["prefix"]["wait_previous"] for e in select(program, Opcode.EXECUTE)]
        signals = [load["prefix"]["signal_next"] for load in select(program, Opcode.LOAD)]
        needed = 1 + np.flatnonzero(signals)[np.cumsum(waits) - 1]
        assert (loads >= needed).all()
        assert (loads <= needed + CONFIG.queue_depth).all()
        # What the next EXECUTE needs is asked for before this one is.
        assert (loads[:-1] >= needed[1:]).all()


class TestExecutes:
    def test_barrier_where_fresh_results_are_read_and_nowhere_else(self):
        builder = GraphBuilder(16, (8, 8), seed=8)
        a = builder.add(builder.conv("input", 32))
        builder.add(builder.conv("input", 32, 1))
        builder.add(builder.conv(a, 32))
        builder.add(builder.conv(a, 16, 1))
        program = lower(builder.graph(), CONFIG)
        executes = select(program, Opcode.EXECUTE)
        barriers = [
            [executes[index]["barrier"] for index in record.executes] for record in program.layers
        ]
        assert barriers[0] == [0] * len(barriers[0])
        # The second layer does not write what the third one reads: all of its tiles may be missing.
        tiles = executes[program.layers[1].executes[-1]]
        tiles = tiles["tile_rows"] * tiles["tile_columns"]
        assert barriers[1:] == [[0, 0], [1 + tiles, 0], [0]]

    def test_first_layer_starts_before_all_rows_are_loaded(self):
        program = lower(residual_graph(size=32), CONFIG)
        pixels = select(program, Opcode.LOAD, LoadKind.PIXELS)
        windows = [load["window"] for load in pixels]
        rows = [range(w["row_begin"], w["row_begin"] + w["rows"]) for w in windows]
        assert [row for strip in rows for row in strip] == list(range(32))
        strips = [
            execute
            for index, execute in enumerate(select(program, Opcode.EXECUTE))
            if index in program.layers[0].executes
        ]
        assert len(strips) == len(pixels) > 2
        assert len({execute["slot_base"] for execute in strips}) == 1
        for execute, loaded in zip(strips, rows, strict=True):
            bank_rows = CONFIG.columns >> execute["log2_bank_columns"]
            end = execute["row_begin"] + execute["tile_rows"] * bank_rows
            assert min(end + 1, 32) <= loaded.stop

    def test_each_channel_group_is_stored_once_it_is_done(self):
        program = lower(pooling_graph(), CONFIG)
        stores = select(program, Opcode.STORE)
        assert [store["place"]["base"] for store in stores] == [
            program.layers[-1].placement.fields(group)["base"] for group in range(3)
        ]
        for execute in select(program, Opcode.EXECUTE)[-3:]:
            assert execute["prefix"]["signal_next"]


class TestErrors:
    def test_more_slots_than_the_slot_memory(self):
        builder = GraphBuilder(16, (8, 8), seed=9)
        builder.add(builder.conv("input", 16))
        with pytest.raises(
            ValueError, match=r"'layer0': .* takes 144 slots, but slot_depth is 143"
        ):
            lower(builder.graph(), replace(CONFIG, slot_depth=143))

    def test_more_layers_than_marks(self):
        with pytest.raises(ValueError, match="has 4 layers, but mark_depth is 3"):
            lower(odd_graph(), replace(CONFIG, mark_depth=3))

    def test_sum_that_may_leave_the_accumulator(self):
        builder = GraphBuilder(64, (8, 8), seed=10)
        builder.add(
            replace(builder.conv("input", 16), weight=np.full((16, 64, 3, 3), 127, np.int16))
        )
        with pytest.raises(ValueError, match=r"may reach 9363456, .* of 24 bits hold 8388607"):
            lower(builder.graph(), replace(CONFIG, accumulator_bits=24))

    def test_function_without_tables(self):
        with pytest.raises(
            ValueError,
            match=r"'layer0' .* takes a table, .* has no tables: give .* 'tables' from 1 on",
        ):
            lower(tabulated_graph(), replace(CONFIG, tables=0))
        assert lower(odd_graph(), replace(CONFIG, tables=0)).image

    def test_padding_with_two_zero_points(self):
        builder = GraphBuilder(16, (8, 8), seed=11)
        a = builder.add(builder.conv("input", 16))
        builder.add(builder.conv(a, 16), builder.conv("input", 16))
        with pytest.raises(ValueError, match=r"'layer1': .* must have one zero point"):
            lower(builder.graph(), CONFIG)

    def test_weights_of_another_shape_than_their_tensor(self):
        builder = GraphBuilder(16, (8, 8), seed=12)
        builder.add(Source("input", builder.weight(16, 8, 3, 3), padding=(1, 1)))
        with pytest.raises(ValueError, match=r"'layer0': weights over 'input' must have"):
            lower(builder.graph(), CONFIG)
