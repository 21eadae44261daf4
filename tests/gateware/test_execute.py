"""ExecuteUnit: whole instructions against a naive model that works pixel by pixel."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from coprune_hw.contract import AcceleratorConfig, arithmetic
from coprune_hw.contract.instructions import RAW_WORDS, Opcode, prefix
from coprune_hw.contract.parameters import IDENTITY, pack_parameters
from coprune_hw.contract.planes import Placement, locate
from coprune_hw.contract.slots import SlotStream, pack_slots, slot_bytes
from coprune_hw.gateware.execute import ExecuteUnit


@dataclass
class Memories:
    """Contents of the unit's memories: banks [columns, depth, lanes], slots, parameters, tables.

    Tables [tables, 256] hold the values for -128 to 127.
    """

    banks: np.ndarray
    stream: SlotStream
    parameters: dict[str, np.ndarray]
    tables: np.ndarray


def _random_memories(rng, config, *, slots):
    shape = (slots, config.lanes)
    diagonal = rng.integers(0, 3, slots) == 0
    weight = rng.integers(-128, 128, shape)
    weight[diagonal] = rng.integers(-2048, 2048, (int(diagonal.sum()), config.lanes))
    index = np.where(
        diagonal[:, None], np.arange(config.lanes), rng.integers(0, config.lanes, shape)
    )
    stream = SlotStream(
        weight=weight.astype(np.int16),
        index=index.astype(np.uint8),
        new_block=rng.integers(0, 2, slots).astype(bool),
        diagonal=diagonal,
        short_row=rng.integers(0, 2, slots).astype(bool),
        short_column=rng.integers(0, 2, slots).astype(bool),
        offset=np.zeros(slots, np.uint16),
        dy=rng.integers(-3, 4, slots).astype(np.int8),
        dx=rng.integers(-3, 4, slots).astype(np.int8),
    )
    stream.new_block[0] = True
    count = config.parameter_depth
    parameters = {
        "bias": rng.integers(-3000, 3000, count),
        "multiplier": rng.integers(1 << 15, 1 << 17, count),
        "pre_shift": rng.integers(0, 4, count),
        "post_shift": rng.integers(20, 25, count),
    }
    # The last records change nothing, as raw sums want it.
    for name, value in IDENTITY.items():
        parameters[name][-config.lanes :] = value
    banks = rng.integers(-128, 128, (config.columns, config.activation_depth, config.lanes))
    tables = rng.integers(-128, 128, (config.tables, 256)).astype(np.int8)
    return Memories(banks.astype(np.int8), stream, parameters, tables)


def _instruction(
    rng, config, memories, *, placement, source_base, output, barrier, mark, raw, interleaved
):
    """An EXECUTE over `placement`, for which the slots are made, moved to `source_base`."""
    stream, count = memories.stream, len(memories.stream)
    begin = int(rng.integers(0, count - 2))
    length = int(rng.integers(1, min(count - begin, 12)))
    stream.new_block[begin] = True
    low, high = sorted(int(value) for value in rng.integers(-128, 128, 2))
    return {
        "prefix": prefix(Opcode.EXECUTE, mark=mark, signal_next=bool(mark % 2)),
        "barrier": int(barrier),
        "maximum": int(rng.integers(0, 2)),
        "raw": int(raw),
        "interleaved": int(interleaved),
        "row_phase": int(rng.integers(0, 2)),
        "column_phase": int(rng.integers(0, 2)),
        "tabulated": int(config.tables and rng.integers(0, 2)),
        "table": int(rng.integers(0, max(config.tables, 1))),
        "slot_base": begin,
        "slot_count": length,
        "parameter_base": (
            config.parameter_depth - config.lanes
            if raw
            else int(rng.integers(0, config.parameter_depth - 2 * config.lanes))
        ),
        "tile_base": source_base - placement.base,
        "tile_rows": -(-output.height // placement.bank_rows),
        "tile_columns": -(-output.width // placement.bank_columns),
        "row_begin": 0,
        "pitch": placement.pitch,
        "log2_bank_columns": placement.log2_bank_columns,
        "input_height": placement.height,
        "input_width": placement.width,
        "output_height": output.height,
        "output_width": output.width,
        "output": output.fields(0),
        "pad": int(rng.integers(-128, 128)),
        "zero": 0 if raw else int(rng.integers(-128, 128)),
        "low": -128 if raw else low,
        "high": 127 if raw else high,
    }


def _fill_offsets(stream, placement):
    dy, dx = stream.dy.astype(int), stream.dx.astype(int)
    rows, columns = dy // placement.bank_rows, dx // placement.bank_columns
    stream.offset[:] = (placement.base + rows * placement.pitch + columns) % 4096


def _execute_naively(execute, memories, config, *, placement):
    """Update the banks; return the words written, in order: (bank, address, lanes...)."""
    stream = memories.stream
    records = slice(execute["parameter_base"], execute["parameter_base"] + config.lanes)
    lane_parameters = {name: values[records] for name, values in memories.parameters.items()}
    bank_rows, bank_columns = placement.bank_rows, placement.bank_columns
    written = []

    def tabulate(word):
        return memories.tables[execute["table"]][word + 128] if execute["tabulated"] else word

    for tile_row in range(execute["tile_rows"]):
        for tile_column in range(execute["tile_columns"]):
            for number in range(config.columns):
                y = tile_row * bank_rows + number // bank_columns
                x = tile_column * bank_columns + number % bank_columns
                sums, largest, word = 0, np.full(config.lanes, -129), None
                for slot in range(execute["slot_count"]):
                    at = execute["slot_base"] + slot
                    if stream.new_block[at]:
                        sy, sx = y + stream.dy[at], x + stream.dx[at]
                        inside_y = 0 <= sy < placement.height - stream.short_row[at]
                        inside_x = 0 <= sx < placement.width - stream.short_column[at]
                        word = np.full(config.lanes, execute["pad"])
                        if inside_y and inside_x:
                            place = placement.fields(0)
                            bank, address = locate(place, sy, sx, columns=config.columns)
                            address = address + execute["tile_base"]
                            word = memories.banks[bank, address].astype(int)
                    channel = word[stream.index[at]]
                    product = stream.weight[at].astype(int) * channel
                    larger = channel > largest
                    sums = np.where(larger, product, sums) if execute["maximum"] else sums + product
                    largest = np.where(larger, channel, largest)
                if execute["interleaved"]:
                    y, x = 2 * y + execute["row_phase"], 2 * x + execute["column_phase"]
                inside = y < execute["output_height"] and x < execute["output_width"]
                if inside and execute["raw"]:
                    raw = sums.astype("<i4").view(np.int8).reshape(config.lanes, RAW_WORDS)
                    bank, address = locate(execute["output"], y, x, columns=config.columns)
                    for byte in range(RAW_WORDS):
                        at = int(address) + byte * execute["output"]["plane_words"]
                        word = tabulate(raw[:, byte].astype(int))
                        written.append((int(bank), at, *map(int, word)))
                elif inside:
                    output = arithmetic.requantize(
                        sums.astype(np.int64),
                        **lane_parameters,
                        zero=execute["zero"],
                        low=execute["low"],
                        high=execute["high"],
                    )
                    bank, address = locate(execute["output"], y, x, columns=config.columns)
                    written.append((int(bank), int(address), *map(int, tabulate(output))))
    for bank, address, *word in written:
        memories.banks[bank, address] = word
    return written


def _fill_memories(ctx, dut, memories, config):
    """Write all memories through the unit's ports, a word a cycle."""

    async def fill():
        size = slot_bytes(config.lanes)
        image = pack_slots(memories.stream, lanes=config.lanes)
        records = np.frombuffer(pack_parameters(**memories.parameters), "<u8")
        for address in range(len(memories.stream)):
            slot = int.from_bytes(image[address * size : (address + 1) * size], "little")
            ctx.set(dut.slot_write.payload, {"address": address, "slot": slot})
            ctx.set(dut.slot_write.valid, 1)
            await ctx.tick()
        ctx.set(dut.slot_write.valid, 0)
        for address, record in enumerate(records):
            ctx.set(dut.parameter_write.payload, {"address": address, "record": int(record)})
            ctx.set(dut.parameter_write.valid, 1)
            await ctx.tick()
        ctx.set(dut.parameter_write.valid, 0)
        for table, values in enumerate(memories.tables):
            for value in range(-128, 128):
                address = 256 * table + value % 256
                write = {"address": address, "byte": int(values[value + 128]) % 256}
                ctx.set(dut.table_write.payload, write)
                ctx.set(dut.table_write.valid, 1)
                await ctx.tick()
        ctx.set(dut.table_write.valid, 0)
        for bank in range(config.columns):
            for address in range(config.activation_depth):
                word = int.from_bytes(memories.banks[bank, address].tobytes(), "little")
                place = {"bank": bank, "address": address, "word": word}
                ctx.set(dut.pixel_write.payload, place)
                ctx.set(dut.pixel_write.valid, 1)
                await ctx.tick()
        ctx.set(dut.pixel_write.valid, 0)

    return fill()


@pytest.mark.parametrize(
    ("lanes", "columns", "log2_bank_columns", "tables"),
    [(8, 4, 1, 8), (16, 4, 2, 2), (8, 2, 0, 1), (8, 8, 2, 0), (8, 16, 2, 4)],
)
def test_runs_random_instructions_as_the_naive_model(lanes, columns, log2_bank_columns, tables):
    config = AcceleratorConfig(
        lanes=lanes,
        columns=columns,
        activation_depth=192,
        slot_depth=64,
        parameter_depth=64,
        tables=tables,
    )
    rng = np.random.default_rng([lanes, columns])
    dut = ExecuteUnit(config)
    memories = _random_memories(rng, config, slots=40)
    height, width = (9, 6) if columns < 8 else (13, 11)
    placement = Placement(1, height, width, columns, 0, log2_bank_columns, base=0)
    copy = replace(placement, base=placement.words)
    free = copy.base + copy.words
    outputs = [
        Placement(1, height, width, columns, 1, 0, base=free),
        Placement(1, height - 2, width - 2, columns, 0, config.log2_columns, base=free),
        copy,
    ]
    _fill_offsets(memories.stream, placement)
    executes = []
    for number in range(9):
        # Every third one writes what the next one reads, which has to wait for it.
        follows = number % 3 == 0 and number > 0
        executes.append(
            _instruction(
                rng,
                config,
                memories,
                placement=placement,
                source_base=copy.base if follows else 0,
                output=outputs[number % 3],
                barrier=follows,
                mark=number,
                raw=number in (4, 7),
                interleaved=number in (1, 5, 7),
            )
        )
    observed, completions = [], []

    async def watch(ctx):
        while True:
            await ctx.tick()
            if ctx.get(dut.observe.valid):
                payload = dut.observe.payload
                raw = ctx.get(payload.word).to_bytes(lanes, "little")
                word = np.frombuffer(raw, np.int8).tolist()
                observed.append((ctx.get(payload.bank), ctx.get(payload.address), *word))
            assert not ctx.get(dut.error)

    async def take_completions(ctx):
        while True:
            ctx.set(dut.completion.ready, int(rng.integers(0, 2)))
            valid, ready = ctx.get(dut.completion.valid), ctx.get(dut.completion.ready)
            if valid and ready:
                completions.append(ctx.get(dut.completion.payload.mark))
            await ctx.tick()

    async def bench(ctx):
        await _fill_memories(ctx, dut, memories, config)
        for execute in executes:
            ctx.set(dut.instruction.payload, execute)
            ctx.set(dut.instruction.valid, 1)
            while not ctx.get(dut.instruction.ready):
                await ctx.tick()
            await ctx.tick()
            ctx.set(dut.instruction.valid, 0)
            for _ in range(int(rng.integers(0, 20))):
                await ctx.tick()
        for _ in range(20000):
            if not ctx.get(dut.busy) and len(completions) == len(executes):
                break
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(watch, background=True)
    simulator.add_testbench(take_completions, background=True)
    simulator.add_testbench(bench)
    simulator.run()

    expected = []
    for execute in executes:
        expected += _execute_naively(execute, memories, config, placement=placement)
    assert completions == list(range(len(executes)))
    assert len(observed) == len(expected)
    wrong = [number for number in range(len(expected)) if observed[number] != expected[number]]
    assert not wrong, f"word {wrong[0]}: {observed[wrong[0]]}, not {expected[wrong[0]]}"


@pytest.mark.parametrize("barrier", [0, 12])
def test_second_tile_behind_a_barrier_comes_after_all_earlier_words(barrier):
    """A barrier for fewer tiles lets the first tile begin early, but not the second one."""
    config = AcceleratorConfig(
        lanes=8, columns=8, activation_depth=192, slot_depth=64, parameter_depth=64
    )
    rng = np.random.default_rng(0)
    dut = ExecuteUnit(config)
    memories = _random_memories(rng, config, slots=4)
    memories.stream.new_block[:] = True
    placement = Placement(1, 8, 8, 8, 0, 2, base=0)
    common = {
        "placement": placement,
        "source_base": 0,
        "output": replace(placement, base=placement.words),
        "raw": False,
        "interleaved": False,
    }
    before, after = (
        {
            **_instruction(rng, config, memories, barrier=own, mark=mark, **common),
            "slot_base": 0,
            "slot_count": 2,
        }
        for mark, own in enumerate((0, barrier))
    )
    tiles = before["tile_rows"] * before["tile_columns"]
    slots, words = [], []

    async def watch(ctx):
        cycle = 0
        while True:
            await ctx.tick()
            cycle += 1
            if ctx.get(dut.slot_issued):
                slots.append(cycle)
            if ctx.get(dut.observe.valid):
                words.append(cycle)

    async def bench(ctx):
        await _fill_memories(ctx, dut, memories, config)
        ctx.set(dut.completion.ready, 1)
        for execute in (before, after):
            ctx.set(dut.instruction.payload, execute)
            ctx.set(dut.instruction.valid, 1)
            while not ctx.get(dut.instruction.ready):
                await ctx.tick()
            await ctx.tick()
        ctx.set(dut.instruction.valid, 0)
        while ctx.get(dut.busy):
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(watch, background=True)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(slots) == 2 * 2 * tiles
    assert len(words) == 2 * 64
    # Of the second instruction the first slot, and the last one of its first tile.
    first, last = slots[2 * tiles], slots[2 * tiles + 1]
    written = words[63]
    assert first < written
    assert (last > written) == (barrier > 0)
