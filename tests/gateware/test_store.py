"""STORE against a model that writes the window's words to an image."""

import gc
from functools import partial

import numpy as np
import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import Opcode, prefix
from coprune_hw.contract.planes import locate
from coprune_hw.contract.registers import ErrorCode
from coprune_hw.gateware.store import Storer

from .axi_memory import AxiMemory
from .streams import simulate, stall_pattern, stream_get, stream_put

BASE = 0x8000_0000
IMAGE_BYTES = 4096
PLACE = {"base": 3, "plane_words": 9, "pitch": 3, "log2_stride": 0, "log2_bank_columns": 1}


def store(*, destination, rows, width, row_begin=0, mark=0, **place):
    return {
        "prefix": prefix(Opcode.STORE, mark=mark),
        "destination": destination,
        "place": {**PLACE, **place},
        "window": {"row_begin": row_begin, "rows": rows, "width": width},
    }


class Banks:
    """Activation memory that answers `read_latency` cycles after a request, with random stalls."""

    def __init__(self, config, *, read_latency, stall=0.0, seed=0):
        generator = np.random.default_rng(seed)
        shape = (config.columns, config.activation_depth, config.lanes)
        self.words = generator.integers(0, 256, shape, np.uint8)
        self.read_latency, self.stall, self.seed = read_latency, stall, seed
        self.first_request = None

    async def serve(self, ctx, port):
        pauses = stall_pattern(self.stall, seed=self.seed)
        answers = [None] * (self.read_latency - 1)
        cycle = 0
        while True:
            ready = not next(pauses)
            ctx.set(port.request.ready, ready)
            _, _, valid, place = await ctx.tick().sample(port.request.valid, port.request.payload)
            taken = valid and ready
            if taken and self.first_request is None:
                self.first_request = cycle
            answers.append(self.words[place.bank, place.address] if taken else None)
            answer = answers.pop(0)
            ctx.set(port.response.valid, answer is not None)
            if answer is not None:
                ctx.set(port.response.payload, int.from_bytes(answer.tobytes(), "little"))
            cycle += 1


def run_stores(config, stores, *, read_latency=3, stall=0.0, latency=4, seed=0):
    dut = Storer(config, read_latency=read_latency)
    banks = Banks(config, read_latency=read_latency, stall=stall, seed=seed)
    before = np.random.default_rng(seed + 1).bytes(IMAGE_BYTES)
    memory = AxiMemory(
        before,
        base=BASE,
        bus_bytes=config.bus_bytes,
        burst_beats=config.burst_beats,
        latency=latency,
        stall=stall,
        seed=seed,
    )
    expected = np.frombuffer(before, np.uint8).copy()
    for instruction in stores:
        window = instruction["window"]
        y, x = np.indices((window["rows"], window["width"])).reshape(2, -1)
        place = instruction["place"]
        bank, address = locate(place, y + window["row_begin"], x, columns=config.columns)
        words = banks.words[bank, address].ravel()
        expected[instruction["destination"] :][: len(words)] = words

    async def source(ctx):
        ctx.set(dut.program_address, BASE)
        ctx.set(dut.program_bytes, IMAGE_BYTES)
        await stream_put(ctx, dut.instructions, stores, stall=stall, seed=seed + 2)

    async def sink(ctx):
        done = await stream_get(ctx, dut.completions, len(stores), stall=stall, seed=seed + 3)
        assert [p.mark for p in done] == [i["prefix"]["mark"] for i in stores]
        assert not ctx.get(dut.busy)
        assert not ctx.get(dut.bus_busy)

    serve = partial(memory.serve_writes, bus=dut.bus)
    read = partial(banks.serve, port=dut.pixels)
    cycles = simulate(dut, sink, background=[source, serve, read])
    return np.frombuffer(bytes(memory.image), np.uint8), expected, cycles, banks, memory


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize(("stall", "read_latency"), [(0.0, 1), (0.0, 6), (0.4, 3)])
def test_writes_the_words_and_nothing_else(lanes, bus_bits, stall, read_latency):
    config = AcceleratorConfig(lanes=lanes, columns=8, bus_bits=bus_bits, burst_beats=8)
    bus_bytes = config.bus_bytes
    stores = [
        store(destination=bus_bytes * 5, rows=3, width=5, mark=1),
        store(destination=1024, rows=4, width=6, row_begin=2, mark=2, log2_stride=1),
        store(destination=2048 - bus_bytes, rows=1, width=1, mark=3),
        store(destination=IMAGE_BYTES - 8 * lanes, rows=2, width=4, mark=4, log2_bank_columns=3),
    ]
    got, expected, _, _, _ = run_stores(
        config, stores, stall=stall, read_latency=read_latency, seed=bus_bits
    )
    assert np.array_equal(got, expected), np.flatnonzero(got != expected)[:8]


def test_keeps_the_bus_full():
    config = AcceleratorConfig(columns=8, burst_beats=16, bus_bits=64)
    stores = [store(destination=0, rows=8, width=16, pitch=8)]
    got, expected, _, banks, memory = run_stores(config, stores)
    assert np.array_equal(got, expected)
    assert banks.first_request == Storer.REQUEST_LATENCY
    assert memory.beat_cycles[-1] - memory.beat_cycles[0] == 255


def _stops(instruction, code, *, error_address=None):
    config = AcceleratorConfig(columns=8, burst_beats=8)
    dut = Storer(config, read_latency=2)
    banks = Banks(config, read_latency=2)
    memory = AxiMemory(
        bytes(IMAGE_BYTES), base=BASE, bus_bytes=8, burst_beats=8, error_address=error_address
    )

    async def bench(ctx):
        ctx.set(dut.program_address, BASE)
        ctx.set(dut.program_bytes, IMAGE_BYTES)
        ctx.set(dut.completions.ready, 1)
        await stream_put(ctx, dut.instructions, [instruction])
        for _ in range(150):
            _, _, completed = await ctx.tick().sample(dut.completions.valid)
            assert not completed
        assert ctx.get(dut.error) == code

    serve = partial(memory.serve_writes, bus=dut.bus)
    simulate(dut, bench, background=[serve, partial(banks.serve, port=dut.pixels)])
    return memory


FAULTS = {
    "destination off the bus width": store(destination=4, rows=1, width=1),
    "words behind the program": store(destination=IMAGE_BYTES - 8, rows=1, width=1),
    "no words": store(destination=0, rows=1, width=0),
    "a pixel behind the bank": store(destination=0, rows=1, width=1, base=512),
    "a stride of 8": store(destination=0, rows=1, width=1, log2_stride=3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_and_writes_nothing(fault):
    assert _stops(FAULTS[fault], ErrorCode.ADDRESS).write_bursts == []


def test_reports_an_error_response():
    _stops(store(destination=0, rows=4, width=4), ErrorCode.AXI_WRITE, error_address=BASE + 64)


def test_halted_it_finishes_its_bursts_and_begins_none():
    config = AcceleratorConfig(columns=8, burst_beats=8)
    dut = Storer(config, read_latency=2)
    banks = Banks(config, read_latency=2)
    memory = AxiMemory(bytes(IMAGE_BYTES), base=BASE, bus_bytes=8, burst_beats=8, stall=0.3)

    async def bench(ctx):
        ctx.set(dut.program_address, BASE)
        ctx.set(dut.program_bytes, IMAGE_BYTES)
        await stream_put(ctx, dut.instructions, [store(destination=0, rows=8, width=8)])
        while not ctx.get(dut.bus_busy):
            await ctx.tick()
        ctx.set(dut.halt, 1)
        await ctx.tick().repeat(100)
        assert not ctx.get(dut.bus_busy)
        assert ctx.get(dut.busy)
        assert len(memory.write_bursts) == 1
        assert len(memory.beat_cycles) == 8

    serve = partial(memory.serve_writes, bus=dut.bus)
    simulate(dut, bench, background=[serve, partial(banks.serve, port=dut.pixels)])


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_refuses_a_read_latency_of_none():
    with pytest.raises(ValueError, match=r"read_latency must be at least 1, not 0"):
        Storer(AcceleratorConfig(), read_latency=0)
    gc.collect()
