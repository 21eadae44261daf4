"""Memory on the chip against a byte array."""

import random
from functools import partial

import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import AxiResponse
from coprune_hw.system.on_chip_memory import PAGE_BYTES, OnChipMemory

from ..gateware.streams import simulate, stream_get, stream_put
from .axi_master import read_burst, write_burst

SIZE = 2 * PAGE_BYTES


def draw_burst(generator, config):
    """Address and beats of a burst within a page."""
    page_beats = PAGE_BYTES // config.bus_bytes
    beats = generator.choice([1, 2, 7, 16, min(256, page_beats)])
    first = generator.randrange(page_beats - beats + 1)
    return generator.randrange(SIZE // PAGE_BYTES) * PAGE_BYTES + first * config.bus_bytes, beats


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_keeps_what_is_written_byte_by_byte(bus_bits, stall):
    config = AcceleratorConfig(bus_bits=bus_bits)
    generator = random.Random(bus_bits)
    dut = OnChipMemory(config, size_bytes=SIZE)
    image = bytearray(SIZE)

    async def bench(ctx):
        for number in range(12):
            address, beats = draw_burst(generator, config)
            words = [generator.getrandbits(bus_bits) for _ in range(beats)]
            strobes = [generator.getrandbits(config.bus_bytes) for _ in range(beats)]
            options = {"stall": stall, "seed": 9 * number}
            response = await write_burst(
                ctx, dut.bus.write, address, words, strobes=strobes, **options
            )
            assert response == AxiResponse.OKAY
            for index, (word, strobe) in enumerate(zip(words, strobes, strict=True)):
                for byte in range(config.bus_bytes):
                    if strobe >> byte & 1:
                        image[address + index * config.bus_bytes + byte] = word >> 8 * byte & 255
            for begin, count in ((address, beats), draw_burst(generator, config)):
                got, responses = await read_burst(ctx, dut.bus.read, begin, count, **options)
                found = b"".join(word.to_bytes(config.bus_bytes, "little") for word in got)
                assert found == image[begin : begin + len(found)]
                assert set(responses) == {AxiResponse.OKAY}

    simulate(dut, bench)


def test_a_response_comes_when_the_word_can_be_read():
    dut = OnChipMemory(AcceleratorConfig(), size_bytes=SIZE)

    async def bench(ctx):
        for word in range(1, 6):
            await write_burst(ctx, dut.bus.write, 8 * word, [word])
            assert (await read_burst(ctx, dut.bus.read, 8 * word, 1))[0] == [word]

    simulate(dut, bench)


@pytest.mark.parametrize("address", [SIZE, 4 * SIZE, (1 << 32) - PAGE_BYTES])
def test_refuses_what_lies_beyond_it_and_changes_nothing(address):
    dut = OnChipMemory(AcceleratorConfig(), size_bytes=SIZE)

    async def bench(ctx):
        assert await write_burst(ctx, dut.bus.write, 0, [1, 2, 3]) == AxiResponse.OKAY
        assert await write_burst(ctx, dut.bus.write, address, [7, 8, 9]) == AxiResponse.DECERR
        _, responses = await read_burst(ctx, dut.bus.read, address, 3)
        assert responses == 3 * [AxiResponse.DECERR]
        words, responses = await read_burst(ctx, dut.bus.read, 0, 3)
        assert (words, responses) == ([1, 2, 3], 3 * [AxiResponse.OKAY])
        words, responses = await read_burst(ctx, dut.bus.read, SIZE - 8, 1)
        assert (words, responses) == ([0], [AxiResponse.OKAY])

    simulate(dut, bench)


def test_reads_and_writes_a_beat_a_cycle_at_the_same_time():
    config = AcceleratorConfig()
    dut = OnChipMemory(config, size_bytes=SIZE)
    bursts = [{"address": 256 * number, "length": 31} for number in range(10)]
    beats = 32 * len(bursts)
    spans = {}

    async def watch(ctx, *, valid, ready, name):
        cycles, cycle = [], 0
        while True:
            _, _, is_valid, is_ready = await ctx.tick().sample(valid, ready)
            if is_valid and is_ready:
                cycles.append(cycle)
                spans[name] = cycles
            cycle += 1

    async def ask(ctx, *, channel):
        await stream_put(ctx, channel, bursts)

    async def send(ctx):
        words = [
            {"data": number, "strobe": 255, "last": number % 32 == 31} for number in range(beats)
        ]
        await stream_put(ctx, dut.bus.write.write_data, words)

    async def collect(ctx):
        await stream_get(ctx, dut.bus.read.read_data, beats)

    async def confirm(ctx):
        await stream_get(ctx, dut.bus.write.write_response, len(bursts))

    reads, writes = dut.bus.read, dut.bus.write
    channels = {
        "read_address": reads.read_address,
        "read_data": reads.read_data,
        "write_address": writes.write_address,
        "write_data": writes.write_data,
        "write_response": writes.write_response,
    }
    background = [
        partial(watch, valid=channel.valid, ready=channel.ready, name=name)
        for name, channel in channels.items()
    ]
    background += [
        partial(ask, channel=channel) for channel in (reads.read_address, writes.write_address)
    ]
    simulate(dut, collect, confirm, background=[*background, send])
    first = spans["read_address"][0] + OnChipMemory.READ_LATENCY
    assert spans["read_data"] == list(range(first, first + beats))
    first = spans["write_address"][0] + 1
    assert spans["write_data"] == list(range(first, first + beats))
    assert spans["write_response"] == [
        spans["write_data"][32 * number + 31] + OnChipMemory.WRITE_LATENCY
        for number in range(len(bursts))
    ]
    # As many addresses as the machine sends ahead are accepted at once.
    ahead = 2 * config.outstanding_bursts
    assert spans["read_address"][:ahead] == list(range(ahead))
    ahead = config.outstanding_bursts
    assert spans["write_address"][:ahead] == list(range(ahead))


@pytest.mark.parametrize("size", [0, 100, -PAGE_BYTES, (1 << 32) + PAGE_BYTES])
def test_refuses_a_size_that_bursts_could_cross(size):
    with pytest.raises(ValueError, match=f"size_bytes must be a multiple of 4096 .*, not {size}"):
        OnChipMemory(AcceleratorConfig(), size_bytes=size)
