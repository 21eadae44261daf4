"""LOAD against a model that slices the memory image."""

from functools import partial

import numpy as np
import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import LoadKind, Opcode, prefix
from coprune_hw.contract.planes import locate
from coprune_hw.contract.registers import ErrorCode
from coprune_hw.contract.slots import slot_bytes
from coprune_hw.gateware.load import Loader

from .axi_memory import AxiMemory
from .streams import simulate, stall_pattern, stream_get, stream_put

BASE = 0x4000_0000
NO_PLACE = {"base": 0, "plane_words": 0, "pitch": 0, "log2_stride": 0, "log2_bank_columns": 0}
NO_WINDOW = {"row_begin": 0, "rows": 0, "width": 0}


def load(kind, *, source, count=0, place=None, window=None, pixel_bytes=0, mark=None, **tokens):
    return {
        "prefix": prefix(Opcode.LOAD, mark=mark, **tokens),
        "kind": kind,
        "source": source,
        "count": count,
        "place": {**NO_PLACE, **(place or {})},
        "window": {**NO_WINDOW, **(window or {})},
        "pixel_bytes": pixel_bytes,
    }


def random_loads(generator, config, image_bytes, count):
    loads = []
    for index in range(count):
        kind = LoadKind(int(generator.integers(0, len(LoadKind))))
        source = int(generator.integers(0, image_bytes // 2 // config.bus_bytes))
        options = {"source": source * config.bus_bytes, "mark": index}
        if kind == LoadKind.PIXELS:
            rows, width, size = (int(v) for v in generator.integers(1, (5, 9, config.lanes + 1)))
            options["place"] = {
                "base": int(generator.integers(0, 20)),
                "plane_words": 12,
                "pitch": 3,
                "log2_stride": int(generator.integers(0, 3)),
                "log2_bank_columns": int(generator.integers(0, config.log2_columns + 1)),
            }
            options["window"] = {"row_begin": index, "rows": rows, "width": width}
            options["pixel_bytes"] = size
        else:
            options["count"] = int(generator.integers(0, 40))
            options["place"] = {"base": int(generator.integers(0, 100))}
        loads.append(load(kind, **options))
    return loads


def expected_writes(image, loads, config):
    """Writes of each kind, in order."""
    writes = {kind: [] for kind in LoadKind}
    sizes = {LoadKind.SLOTS: slot_bytes(config.lanes), LoadKind.PARAMETERS: 8, LoadKind.TABLES: 1}
    for instruction in loads:
        place, window = instruction["place"], instruction["window"]
        source = instruction["source"]
        if instruction["kind"] == LoadKind.PIXELS:
            size = instruction["pixel_bytes"]
            y, x = np.indices((window["rows"], window["width"])).reshape(2, -1)
            bank, address = locate(place, y + window["row_begin"], x, columns=config.columns)
            for i in range(len(bank)):
                data = image[source + i * size : source + (i + 1) * size]
                pixel = (bank[i], address[i], int.from_bytes(data, "little"))
                writes[LoadKind.PIXELS].append(pixel)
        else:
            kind = instruction["kind"]
            size = sizes[kind]
            for i in range(instruction["count"]):
                data = image[source + i * size : source + (i + 1) * size]
                writes[kind].append((place["base"] + i, int.from_bytes(data, "little")))
    return writes


def run_loads(config, loads, *, stall=0.0, latency=20, seed=0, image_bytes=8192):
    """Carry out loads; return their writes, the expected ones, cycles and the memory."""
    generator = np.random.default_rng(seed)
    image = generator.bytes(image_bytes)
    dut = Loader(config)
    memory = AxiMemory(
        image,
        base=BASE,
        bus_bytes=config.bus_bytes,
        burst_beats=config.burst_beats,
        latency=latency,
        stall=stall,
        seed=seed,
    )
    got = {kind: [] for kind in LoadKind}

    async def source(ctx):
        ctx.set(dut.program_address, BASE)
        ctx.set(dut.program_bytes, image_bytes)
        await stream_put(ctx, dut.instructions, loads, stall=stall, seed=seed + 1)

    async def watch(ctx):
        pauses = stall_pattern(stall, seed=seed + 2)
        while True:
            ready = not next(pauses)
            ctx.set(dut.pixels.ready, ready)
            (
                _,
                _,
                slot_valid,
                slot,
                parameter_valid,
                parameter,
                table_valid,
                table,
                pixel_valid,
                pixel,
            ) = await ctx.tick().sample(
                *(dut.slots.valid, dut.slots.payload),
                *(dut.parameters.valid, dut.parameters.payload),
                *(dut.tables.valid, dut.tables.payload),
                *(dut.pixels.valid, dut.pixels.payload),
            )
            if slot_valid:
                got[LoadKind.SLOTS].append((slot.address, slot.slot))
            if parameter_valid:
                got[LoadKind.PARAMETERS].append((parameter.address, parameter.record))
            if table_valid:
                got[LoadKind.TABLES].append((table.address, table.byte))
            if pixel_valid and ready:
                got[LoadKind.PIXELS].append((pixel.bank, pixel.address, pixel.word))

    async def sink(ctx):
        done = await stream_get(ctx, dut.completions, len(loads), stall=stall, seed=seed + 3)
        assert [p.mark for p in done] == [i["prefix"]["mark"] for i in loads]
        assert not ctx.get(dut.busy)
        assert ctx.get(dut.error) == ErrorCode.NONE

    serve = partial(memory.serve_reads, bus=dut.bus)
    cycles = simulate(dut, sink, background=[source, serve, watch])
    return got, expected_writes(image, loads, config), cycles, memory


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_writes_what_the_image_holds(lanes, bus_bits, stall):
    config = AcceleratorConfig(lanes=lanes, columns=8, bus_bits=bus_bits, burst_beats=8)
    generator = np.random.default_rng(lanes + bus_bits)
    loads = random_loads(generator, config, 8192, 14)
    got, expected, _, _ = run_loads(config, loads, stall=stall, seed=bus_bits)
    for kind in LoadKind:
        assert got[kind] == expected[kind], kind.name


@pytest.mark.parametrize("latency", [1, 20])
def test_takes_the_documented_time(latency):
    config = AcceleratorConfig()
    for count in (1, 40):
        beats = -(-count * slot_bytes(16) // config.bus_bytes)
        loads = [load(LoadKind.SLOTS, source=64, count=count, mark=0)]
        _, _, cycles, memory = run_loads(config, loads, latency=latency)
        # The instruction is accepted in cycle 0.
        assert memory.read_cycles[0] == Loader.REQUEST_LATENCY
        first_beat = Loader.REQUEST_LATENCY + latency
        assert memory.beat_cycles[0] == first_beat
        assert cycles == first_beat + beats + Loader.COMPLETION_LATENCY + 1


def test_asks_for_the_next_load_before_this_one_ends():
    config = AcceleratorConfig()
    loads = [load(LoadKind.PARAMETERS, source=512 * i, count=16, mark=i) for i in range(8)]
    _, _, cycles, memory = run_loads(config, loads, latency=20)
    first_beat = Loader.REQUEST_LATENCY + 20
    # 16 beats each: with the turnaround, the bus stands still for so many cycles in between.
    assert cycles <= first_beat + 8 * (16 + Loader.TURNAROUND) + 2
    assert memory.beat_cycles[-1] - memory.beat_cycles[0] == 127 + 7 * (Loader.TURNAROUND - 1)


FAULTS = {
    "source off the bus width": load(LoadKind.SLOTS, source=4, count=1),
    "source behind the program": load(LoadKind.PARAMETERS, source=8184, count=2),
    "slots behind their memory": load(LoadKind.SLOTS, source=0, count=9, place={"base": 2040}),
    "parameters behind theirs": load(LoadKind.PARAMETERS, source=0, count=1, place={"base": 1024}),
    "tables behind theirs": load(LoadKind.TABLES, source=0, count=256, place={"base": 1793}),
    "pixels without bytes": load(LoadKind.PIXELS, source=0, window={"rows": 1, "width": 1}),
    "pixels of too many bytes": load(
        LoadKind.PIXELS, source=0, window={"rows": 1, "width": 1}, pixel_bytes=17
    ),
    "no pixels": load(LoadKind.PIXELS, source=0, window={"rows": 0, "width": 1}, pixel_bytes=1),
    "pixels behind the bank": load(
        LoadKind.PIXELS,
        source=0,
        window={"rows": 1, "width": 1},
        pixel_bytes=1,
        place={"base": 512},
    ),
    "a stride of 8": load(
        LoadKind.PIXELS,
        source=0,
        window={"rows": 1, "width": 1},
        pixel_bytes=1,
        place={"log2_stride": 3},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_and_writes_nothing(fault):
    _stops_with(FAULTS[fault], ErrorCode.ADDRESS)


def test_accepts_what_ends_exactly_at_the_limits():
    config = AcceleratorConfig()
    loads = [
        load(LoadKind.PARAMETERS, source=8176, count=2, place={"base": 1022}, mark=0),
        load(LoadKind.SLOTS, source=0, count=8, place={"base": 2040}, mark=1),
        load(LoadKind.SLOTS, source=8192, count=0, place={"base": 2048}, mark=2),
        load(LoadKind.TABLES, source=7936, count=256, place={"base": 1792}, mark=4),
        load(
            LoadKind.PIXELS,
            source=8176,
            place={"base": 511, "log2_bank_columns": 4},
            window={"rows": 1, "width": 1},
            pixel_bytes=16,
            mark=3,
        ),
    ]
    got, expected, _, _ = run_loads(config, loads)
    assert got == expected


def _stops_with(instruction, code):
    config = AcceleratorConfig()
    dut = Loader(config)
    memory = AxiMemory(bytes(8192), base=BASE, bus_bytes=8, burst_beats=32)

    async def bench(ctx):
        ctx.set(dut.program_address, BASE)
        ctx.set(dut.program_bytes, 8192)
        ctx.set(dut.pixels.ready, 1)
        ctx.set(dut.completions.ready, 1)
        await stream_put(ctx, dut.instructions, [instruction])
        for _ in range(60):
            _, _, *written = await ctx.tick().sample(
                dut.slots.valid, dut.parameters.valid, dut.pixels.valid, dut.completions.valid
            )
            assert not any(written)
        assert ctx.get(dut.error) == code
        assert ctx.get(dut.busy)

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.bus)])
