"""Bursts of reads: their limits, their order, their number, and how two clients share the bus."""

from functools import partial

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.read_arbiter import ReadArbiter
from coprune_hw.gateware.read_burst import BurstReader

from .axi_memory import AxiMemory
from .streams import simulate, stream_get, stream_put


def words_of(image: bytes, address: int, beats: int, bus_bytes: int) -> list[int]:
    begins = range(address, address + beats * bus_bytes, bus_bytes)
    return [int.from_bytes(image[i : i + bus_bytes], "little") for i in begins]


def random_transfers(generator, config, image_bytes, count):
    transfers = []
    for beats in generator.integers(0, 3 * config.burst_beats, count):
        last = image_bytes // config.bus_bytes - beats
        address = int(generator.integers(0, last)) * config.bus_bytes
        transfers.append({"address": address, "beats": int(beats)})
    return transfers


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
@pytest.mark.parametrize(("stall", "latency"), [(0.0, 20), (0.4, 3)])
def test_reads_transfers_in_order_within_the_limits(bus_bits, stall, latency):
    config = AcceleratorConfig(bus_bits=bus_bits, burst_beats=8, outstanding_bursts=3)
    generator = np.random.default_rng(bus_bits)
    image = generator.bytes(1 << 13)
    transfers = random_transfers(generator, config, len(image), 12)
    expected = [
        word for t in transfers for word in words_of(image, **t, bus_bytes=config.bus_bytes)
    ]
    memory = AxiMemory(
        image, bus_bytes=config.bus_bytes, burst_beats=8, latency=latency, stall=stall, seed=1
    )
    dut = BurstReader(config)

    async def source(ctx):
        await stream_put(ctx, dut.transfer, transfers, stall=stall, seed=2)

    async def sink(ctx):
        got = await stream_get(ctx, dut.beats, len(expected), stall=stall, seed=3)
        assert got == expected
        await ctx.tick()
        assert not ctx.get(dut.busy)

    simulate(dut, sink, background=[source, partial(memory.serve_reads, bus=dut.bus)])
    assert memory.in_flight_max == 3 or stall
    assert memory.in_flight_max <= 3


def test_issues_its_first_burst_after_its_latency_and_no_burst_without_room():
    config = AcceleratorConfig(burst_beats=8)
    dut = BurstReader(config)

    async def bench(ctx):
        ctx.set(dut.transfer.payload, {"address": 0, "beats": 16})
        ctx.set(dut.transfer.valid, 1)
        ctx.set(dut.bus.read_address.ready, 1)
        await ctx.tick()
        ctx.set(dut.transfer.valid, 0)
        await ctx.tick().repeat(dut.LATENCY - 1)
        assert ctx.get(dut.bus.read_address.valid)
        await ctx.tick()
        ctx.set(dut.room, 0)
        for _ in range(10):
            assert not ctx.get(dut.bus.read_address.valid)
            await ctx.tick()
        ctx.set(dut.room, 1)
        assert ctx.get(dut.bus.read_address.valid)
        assert ctx.get(dut.bus.read_address.payload.address) == 8 * config.bus_bytes

    simulate(dut, bench)


class SharedBus:
    """Two burst readers behind an arbiter."""

    def __init__(self, config):
        self.module = Module()
        self.module.submodules.arbiter = self.arbiter = ReadArbiter(config)
        self.module.submodules.fetch = self.fetch = BurstReader(config)
        self.module.submodules.load = self.load = BurstReader(config)
        connect(self.module, self.fetch.bus, self.arbiter.first)
        connect(self.module, self.load.bus, self.arbiter.second)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_brings_every_beat_to_the_client_that_asked(stall):
    config = AcceleratorConfig(burst_beats=8, outstanding_bursts=2)
    generator = np.random.default_rng(5)
    image = generator.bytes(1 << 12)
    dut = SharedBus(config)
    memory = AxiMemory(image, bus_bytes=8, burst_beats=8, latency=7, stall=stall, seed=4)
    sources, sinks = [partial(memory.serve_reads, bus=dut.arbiter.bus)], []
    for seed, client in enumerate((dut.fetch, dut.load)):
        transfers = random_transfers(generator, config, len(image), 10)
        expected = [word for t in transfers for word in words_of(image, **t, bus_bytes=8)]

        async def source(ctx, client=client, transfers=transfers, seed=seed):
            await stream_put(ctx, client.transfer, transfers, stall=stall, seed=seed)

        async def sink(ctx, client=client, expected=expected, seed=seed):
            got = await stream_get(ctx, client.beats, len(expected), stall=stall, seed=9 + seed)
            assert got == expected

        sources.append(source)
        sinks.append(sink)
    simulate(dut.module, *sinks, background=sources)


def test_halted_it_swallows_what_still_comes_and_is_quiet():
    config = AcceleratorConfig(burst_beats=8)
    dut = SharedBus(config)
    memory = AxiMemory(bytes(4096), bus_bytes=8, burst_beats=8, latency=9, stall=0.3, seed=1)

    async def bench(ctx):
        await stream_put(ctx, dut.load.transfer, [{"address": 0, "beats": 100}])
        await ctx.tick().repeat(8)
        assert ctx.get(dut.arbiter.busy)
        ctx.set(dut.arbiter.halt, 1)
        bursts = len(memory.read_bursts)
        await ctx.tick().repeat(200)
        assert not ctx.get(dut.arbiter.busy)
        assert len(memory.read_bursts) <= bursts + 1

    serve = partial(memory.serve_reads, bus=dut.arbiter.bus)
    simulate(dut.module, bench, background=[serve])


def test_reports_an_error_response_once():
    config = AcceleratorConfig(burst_beats=8)
    dut = SharedBus(config)
    memory = AxiMemory(bytes(4096), bus_bytes=8, burst_beats=8, error_address=24)
    errors = 0

    async def bench(ctx):
        nonlocal errors
        ctx.set(dut.load.beats.ready, 1)
        await stream_put(ctx, dut.load.transfer, [{"address": 0, "beats": 20}])
        for _ in range(40):
            _, _, error = await ctx.tick().sample(dut.arbiter.error)
            errors += error

    serve = partial(memory.serve_reads, bus=dut.arbiter.bus)
    simulate(dut.module, bench, background=[serve])
    assert errors == 1
