"""Host and machine on one memory, each against its own half of a byte array."""

import random
from functools import partial
from itertools import pairwise

import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import AxiResponse
from coprune_hw.system.bus_arbiter import BusArbiter

from ..gateware.axi_memory import AxiMemory
from ..gateware.streams import simulate, stream_get, stream_put
from .axi_master import read_burst, write_burst

CONFIG = AcceleratorConfig(burst_beats=8, outstanding_bursts=2)
BUS_BYTES = CONFIG.bus_bytes
HALF = 2048
LATENCY = 3


def serve(dut, **options):
    """A memory behind an arbiter, and what serves it."""
    memory = AxiMemory(
        bytes(2 * HALF), bus_bytes=BUS_BYTES, burst_beats=8, latency=LATENCY, **options
    )
    return memory, [
        partial(memory.serve_reads, bus=dut.bus.read),
        partial(memory.serve_writes, bus=dut.bus.write),
    ]


async def use(ctx, bus, *, base, beats, bursts, stall, seed):
    """Write and read bursts of up to `beats` in a half, and compare with what was written."""
    generator = random.Random(seed)
    words = [0] * (HALF // BUS_BYTES)
    for number in range(bursts):
        count = generator.randint(1, beats)
        begin = generator.randrange(len(words) // beats) * beats
        written = [generator.getrandbits(CONFIG.bus_bits) for _ in range(count)]
        options = {"stall": stall, "seed": seed + 9 * number}
        address = base + BUS_BYTES * begin
        assert await write_burst(ctx, bus.write, address, written, **options) == AxiResponse.OKAY
        words[begin : begin + count] = written
        begin = generator.randrange(len(words) // beats) * beats
        address = base + BUS_BYTES * begin
        got, _ = await read_burst(ctx, bus.read, address, count, **options)
        assert got == words[begin : begin + count]


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_each_client_finds_what_it_wrote(stall):
    dut = BusArbiter(CONFIG)
    memory, background = serve(dut, stall=stall, seed=1)

    async def host(ctx):
        await use(ctx, dut.host, base=0, beats=1, bursts=60, stall=stall, seed=2)

    async def machine(ctx):
        await use(ctx, dut.machine, base=HALF, beats=8, bursts=40, stall=stall, seed=3)

    simulate(dut, host, machine, background=background)
    owners = [address < HALF for address, _ in memory.write_bursts]
    changes = sum(before != after for before, after in pairwise(owners))
    assert changes > 20, "the clients must have been active at the same time"


def test_the_host_is_served_between_bursts_of_a_machine_that_never_rests():
    dut = BusArbiter(CONFIG)
    memory, background = serve(dut)
    bursts = 40

    async def addresses(ctx, *, channel):
        await stream_put(ctx, channel, bursts * [{"address": HALF, "length": 7}])

    async def data(ctx):
        beats = [{"data": 0, "strobe": 255, "last": index == 7} for index in range(8)]
        await stream_put(ctx, dut.machine.write.write_data, bursts * beats)

    async def beats(ctx):
        await stream_get(ctx, dut.machine.read.read_data, 8 * bursts)

    async def responses(ctx):
        await stream_get(ctx, dut.machine.write.write_response, bursts)

    async def host(ctx):
        for number in range(5):
            await write_burst(ctx, dut.host.write, 8 * number, [number])
            assert await read_burst(ctx, dut.host.read, 8 * number, 1) == (
                [number],
                [AxiResponse.OKAY],
            )

    machine = dut.machine
    background += [
        partial(addresses, channel=machine.read.read_address),
        partial(addresses, channel=machine.write.write_address),
        data,
    ]
    simulate(dut, beats, responses, host, background=background)
    for list_of_bursts in (memory.read_bursts, memory.write_bursts):
        assert len(list_of_bursts) == bursts + 5
        last_of_host = max(
            index for index, (address, _) in enumerate(list_of_bursts) if address < HALF
        )
        assert last_of_host < bursts, "the host must not wait for the machine's end"


def test_an_error_reaches_the_client_that_caused_it():
    dut = BusArbiter(CONFIG)
    _, background = serve(dut, error_address=HALF)

    async def machine(ctx):
        for _ in range(5):
            assert await write_burst(ctx, dut.machine.write, HALF, [1, 2]) == AxiResponse.SLVERR
            _, responses = await read_burst(ctx, dut.machine.read, HALF, 2)
            assert responses == [AxiResponse.SLVERR, AxiResponse.OKAY]

    async def host(ctx):
        for _ in range(5):
            assert await write_burst(ctx, dut.host.write, 0, [1]) == AxiResponse.OKAY
            assert (await read_burst(ctx, dut.host.read, 0, 1))[1] == [AxiResponse.OKAY]

    simulate(dut, machine, host, background=background)


async def watch(ctx, channel, cycles):
    """Note the cycles in which a channel's payloads are taken."""
    cycle = 0
    while True:
        _, _, valid, ready = await ctx.tick().sample(channel.valid, channel.ready)
        if valid and ready:
            cycles.append(cycle)
        cycle += 1


def test_latencies_are_what_it_says():
    dut = BusArbiter(CONFIG)
    _, background = serve(dut)
    reads, writes = dut.machine.read, dut.machine.write
    seen = {}
    for name, channel in {
        "read_address": reads.read_address,
        "read_data": reads.read_data,
        "write_data": writes.write_data,
        "write_response": writes.write_response,
    }.items():
        seen[name] = []
        background.append(partial(watch, channel=channel, cycles=seen[name]))

    async def machine(ctx):
        # What takes payloads is there before they come.
        ctx.set(writes.write_response.ready, 1)
        await write_burst(ctx, writes, 0, [1, 2, 3])
        ctx.set(reads.read_data.ready, 1)
        await read_burst(ctx, reads, 0, 3)

    simulate(dut, machine, background=background)
    first = seen["read_address"][0] + LATENCY + BusArbiter.READ_LATENCY
    assert seen["read_data"] == [first, first + 1, first + 2]
    begin, last = seen["write_data"][0], seen["write_data"][-1]
    assert last == begin + 2
    assert seen["write_response"] == [last + LATENCY + BusArbiter.WRITE_LATENCY]
