"""Tests of the SDRAM controller that run inside the simulator; test_sdram.py starts them."""

import json
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge

from .bus_driver import BusDriver, Contents, ReadBurst, WriteBurst

CLOCK_NS = 10
OKAY, DECERR = 0, 3
BOUNDARY_BYTES = 4096
SETTINGS = ("load", "dump", "latency", "write_latency", "stall_level", "error_enable")


async def start(dut, **options) -> BusDriver:
    """Reset the controller; returns what drives its bus."""
    for name in SETTINGS:
        getattr(dut, name).value = 0
    driver = BusDriver(dut, **options)
    dut.rst.value = 1
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    await ClockCycles(dut.clk, 3)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    return driver


def geometry() -> dict:
    """`bus_bytes`, `size_bytes`, `row_bytes` and `word_bytes`, as the pytest side wrote them."""
    return json.loads((Path(cocotb.plusargs["folder"]) / "geometry.json").read_text())


def report(**figures) -> None:
    """Leave figures for the pytest side."""
    (Path(cocotb.plusargs["folder"]) / "figures.json").write_text(json.dumps(figures))


def random_address(source: random.Random, *, beats: int) -> int:
    """Of a burst in one of few rows of all banks, often of the same bank, within 4 KiB."""
    shape = geometry()
    row_span = 4 * shape["row_bytes"]
    row = source.choice([0, 1, 2, 3, shape["size_bytes"] // row_span - 1])
    bank = source.choice([0, 0, 0, 1, 2, 3])
    offset = source.randrange(0, shape["row_bytes"], shape["bus_bytes"])
    address = row * row_span + bank * shape["row_bytes"] + offset
    last = address // BOUNDARY_BYTES * BOUNDARY_BYTES + BOUNDARY_BYTES
    return min(address, last - beats * shape["bus_bytes"])


def random_write(source: random.Random, *, beats: int, full: bool = False) -> WriteBurst:
    bus_bytes = geometry()["bus_bytes"]
    strobes = [(1 << 8 * bus_bytes // 8) - 1] * beats
    if not full:
        strobes = [source.choice([strobe, source.getrandbits(bus_bytes), 0]) for strobe in strobes]
    data = [source.getrandbits(8 * bus_bytes) for _ in range(beats)]
    return WriteBurst(random_address(source, beats=beats), data, strobes)


def random_beats(source: random.Random) -> int:
    return source.choice([1, 1, 2, 3, 8, 9, 16, 16, 16, 40, 256])


async def check_random_bursts(driver: BusDriver, *, rounds: int) -> None:
    """Writes change the bytes that they name and no others, beside reads and other writes."""
    source = random.Random(1)
    contents = Contents(geometry()["bus_bytes"])
    for _ in range(rounds):
        writes = [random_write(source, beats=random_beats(source)) for _ in range(6)]
        # Reads of what the writes change are unordered with them, so of what is not changed only.
        changed = {
            address
            for burst in writes
            for address in range(burst.address, burst.address + 8 * 2 * len(burst.data))
        }
        reads = []
        while len(reads) < 6:
            beats = random_beats(source)
            address = random_address(source, beats=beats)
            if changed.isdisjoint(range(address, address + beats * contents.bus_bytes)):
                reads.append(ReadBurst(address, beats))
        await driver.run(reads, writes)
        for burst in reads:
            contents.check(burst)
            assert burst.responses == [OKAY] * burst.beats
        for burst in writes:
            contents.write(burst)
            assert burst.response == OKAY
        again = [ReadBurst(burst.address, len(burst.data)) for burst in writes]
        await driver.run(again)
        for burst in again:
            contents.check(burst)


@cocotb.test()
async def random_bursts_without_pauses(dut):
    await check_random_bursts(await start(dut), rounds=12)


@cocotb.test()
async def random_bursts_with_pauses(dut):
    await check_random_bursts(await start(dut, stall=0.4, seed=3), rounds=8)


@cocotb.test()
async def a_confirmed_write_is_read(dut):
    source, driver = random.Random(2), await start(dut)
    bus_bytes = geometry()["bus_bytes"]
    contents = Contents(bus_bytes)
    for _ in range(60):
        burst = random_write(source, beats=source.choice([1, 2, 16]))
        await driver.run(writes=[burst])
        contents.write(burst)
        read = ReadBurst(burst.address, len(burst.data))
        await driver.run([read])
        contents.check(read)


@cocotb.test()
async def bursts_outside_the_chip_are_refused(dut):
    source, driver = random.Random(3), await start(dut, stall=0.1)
    shape = geometry()
    contents = Contents(shape["bus_bytes"])
    inside = random_write(source, beats=16, full=True)
    inside.address = shape["size_bytes"] - 16 * shape["bus_bytes"]
    outside = random_write(source, beats=16, full=True)
    outside.address = inside.address + shape["size_bytes"]
    await driver.run(writes=[inside, outside])
    contents.write(inside)
    assert (inside.response, outside.response) == (OKAY, DECERR)
    reads = [
        ReadBurst(inside.address, 16),
        ReadBurst(shape["size_bytes"], 9),
        ReadBurst(inside.address, 16),
        ReadBurst(1 << 31, 1),
    ]
    await driver.run(reads)
    for burst, response in zip(reads, (OKAY, DECERR, OKAY, DECERR), strict=True):
        assert burst.responses == [response] * burst.beats, f"{burst.address:#x}"
        if response == OKAY:
            contents.check(burst)


@cocotb.test()
async def reads_pass_writes_whose_data_wait_for_them(dut):
    source, driver = random.Random(4), await start(dut)
    writes = [random_write(source, beats=16) for _ in range(4)]
    reads = [ReadBurst(random_address(source, beats=40), 40) for _ in range(4)]
    await driver.run(reads, writes, holds_data_until_read=True)


@cocotb.test()
async def reads_and_writes_take_turns(dut):
    """Beside an endless stream of the other kind, a burst waits for few of its bursts."""
    source, driver = random.Random(5), await start(dut)
    reads = [ReadBurst(random_address(source, beats=16), 16) for _ in range(60)]
    writes = [random_write(source, beats=16) for _ in range(60)]
    await driver.run(reads, writes)
    read_ends = [burst.beat_cycles[-1] for burst in reads]
    write_ends = [burst.response_cycle for burst in writes]
    for name, ends, others in (
        ("reads", read_ends, write_ends),
        ("writes", write_ends, read_ends),
    ):
        for number, end in enumerate(ends):
            done = sum(other <= end for other in others)
            assert abs(done - number) <= 4, f"{done} others were done before {number} of the {name}"


@cocotb.test()
async def measure(dut):
    """Bandwidth of sequential bursts of 16 beats, and latency of reads one at a time."""
    source, driver = random.Random(6), await start(dut)
    shape = geometry()
    bus_bytes, beats = shape["bus_bytes"], 16
    beat_words = bus_bytes // shape["word_bytes"]
    count = 400

    def sequence(base: int) -> list[int]:
        return [base + index * beats * bus_bytes for index in range(count)]

    await driver.run([ReadBurst(0, 1)])  # initialization
    reads = [ReadBurst(address, beats) for address in sequence(0)]
    await driver.run(reads)
    read_cycles = reads[-1].beat_cycles[-1] - reads[0].beat_cycles[0] + beat_words

    def writes(base: int) -> list[WriteBurst]:
        full = (1 << bus_bytes) - 1
        return [
            WriteBurst(address, [source.getrandbits(8 * bus_bytes)] * beats, [full] * beats)
            for address in sequence(base)
        ]

    written = writes(0)
    await driver.run(writes=written)
    write_cycles = written[-1].response_cycle - written[0].response_cycle
    write_words = (count - 1) * beats * beat_words
    begin = driver.cycle
    await driver.run([ReadBurst(address, beats) for address in sequence(0)], writes(1 << 20))
    both_cycles = driver.cycle - begin

    latencies = {"open row": [], "closed bank": [], "other row": [], "random": []}

    async def read_once(address: int) -> int:
        burst = ReadBurst(address, 1)
        await driver.run([burst])
        return burst.beat_cycles[0] - burst.asked_cycle

    row_bytes = shape["row_bytes"]
    for index in range(40):
        await read_once(index * 8 * row_bytes)
        latencies["open row"].append(await read_once(index * 8 * row_bytes + 64))
        latencies["other row"].append(await read_once(index * 8 * row_bytes + 4 * row_bytes))
        address = source.randrange(0, shape["size_bytes"], bus_bytes)
        latencies["random"].append(await read_once(address))
    words = count * beats * beat_words
    report(
        read=words / read_cycles,
        write=write_words / write_cycles,
        both=2 * words / both_cycles,
        latencies={
            name: [min(values), sorted(values)[len(values) // 2], max(values)]
            for name, values in latencies.items()
            if values
        },
    )


@cocotb.test()
async def traffic(dut):
    """Every spacing of commands that there is, for models that find it too tight."""
    source, driver = random.Random(7), await start(dut)
    await driver.run(
        [ReadBurst(random_address(source, beats=4), 4) for _ in range(40)],
        [random_write(source, beats=4) for _ in range(40)],
    )
    for _ in range(20):
        await driver.run([ReadBurst(random_address(source, beats=1), 1)])
        await driver.run(writes=[random_write(source, beats=1)])
    report(broken=int(dut.broken.value))
