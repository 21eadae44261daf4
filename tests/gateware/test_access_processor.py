"""Whole programs on the access processor, with a stand-in for the EXECUTE unit."""

from functools import partial

import numpy as np
import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import (
    INSTRUCTION_BYTES,
    LoadKind,
    Opcode,
    encode_instruction,
    prefix,
)
from coprune_hw.contract.registers import COUNTERS, ErrorCode, State, address_of
from coprune_hw.gateware.access_processor import AccessProcessor

from .axi_memory import AxiMemory
from .streams import simulate, stall_pattern
from .test_program import header, instruction
from .test_registers import read_register, write_register

BASE = 0x1000_0000
IMAGE_BYTES = 8192
INPUT, OUTPUT, ROWS, WIDTH = 2048, 4096, 3, 5
READ_LATENCY = 4
CONFIG = AcceleratorConfig(columns=8, burst_beats=8)
PLACE = {"base": 1, "plane_words": 4, "pitch": 2, "log2_stride": 0, "log2_bank_columns": 2}
WINDOW = {"row_begin": 0, "rows": ROWS, "width": WIDTH}


def copy_program(config=CONFIG, **changes) -> list[dict]:
    """Bring an image on chip, execute, and store it; `changes` replace fields by opcode."""
    program = [
        header(config),
        instruction(
            Opcode.LOAD,
            prefix=prefix(Opcode.LOAD, signal_next=True, mark=0),
            kind=LoadKind.PIXELS,
            source=INPUT,
            place=PLACE,
            window=WINDOW,
            pixel_bytes=16,
        ),
        instruction(
            Opcode.EXECUTE,
            prefix=prefix(
                Opcode.EXECUTE, wait_previous=True, signal_next=True, signal_previous=True, mark=1
            ),
        ),
        instruction(
            Opcode.LOAD, prefix=prefix(Opcode.LOAD, wait_next=True), kind=LoadKind.SLOTS, count=5
        ),
        instruction(
            Opcode.STORE,
            prefix=prefix(Opcode.STORE, wait_previous=True, mark=2),
            destination=OUTPUT,
            place=PLACE,
            window=WINDOW,
        ),
        instruction(Opcode.END),
    ]
    for values in program:
        values.update(changes.get(Opcode(values["prefix"]["opcode"]).name.lower(), {}))
    return program


class Machine:
    """An access processor, memory, and stand-ins for the EXECUTE unit and its banks."""

    def __init__(self, program, *, stall=0.0, seed=0, config=CONFIG):
        self.config, self.stall, self.seed = config, stall, seed
        self.dut = AccessProcessor(config, read_latency=READ_LATENCY)
        self.memory = AxiMemory(
            np.random.default_rng(seed).bytes(IMAGE_BYTES),
            base=BASE,
            bus_bytes=config.bus_bytes,
            burst_beats=config.burst_beats,
            latency=10,
            stall=stall,
            seed=seed,
        )
        self.place(program)
        self.banks = np.zeros((config.columns, config.activation_depth), object)
        self.execute_error = ErrorCode.NONE
        self.executed = 0

    def place(self, program):
        """Put a program at the beginning of the image."""
        code = b"".join(encode_instruction(values) for values in program)
        self.memory.image[: len(code)] = code

    async def serve_banks(self, ctx):
        pauses = stall_pattern(self.stall, seed=self.seed)
        write, read = self.dut.pixel_writes, self.dut.pixel_reads
        answers = [None] * (READ_LATENCY - 1)
        while True:
            write_ready, read_ready = not next(pauses), not next(pauses)
            ctx.set(write.ready, write_ready)
            ctx.set(read.request.ready, read_ready)
            _, _, written, pixel, asked, place = await ctx.tick().sample(
                write.valid, write.payload, read.request.valid, read.request.payload
            )
            if written and write_ready:
                self.banks[pixel.bank, pixel.address] = pixel.word
            asked = asked and read_ready
            answers.append(self.banks[place.bank, place.address] if asked else None)
            answer = answers.pop(0)
            ctx.set(read.response.valid, answer is not None)
            ctx.set(read.response.payload, answer or 0)

    async def execute(self, ctx):
        dut = self.dut
        while True:
            ctx.set(dut.execute.ready, 1)
            _, _, valid, payload, cleared = await ctx.tick().sample(
                dut.execute.valid, dut.execute.payload, dut.clear
            )
            if valid and not cleared:
                ctx.set(dut.execute.ready, 0)
                ctx.set(dut.execute_busy, 1)
                ctx.set(dut.slot_issued, 1)
                await ctx.tick().repeat(9)
                ctx.set(dut.slot_issued, 0)
                ctx.set(dut.execute_error, self.execute_error != ErrorCode.NONE)
                ctx.set(dut.execute_error_code, self.execute_error)
                ctx.set(dut.execute_completions.payload, payload.prefix)
                ctx.set(dut.execute_completions.valid, 1)
                _, _, ready = await ctx.tick().sample(dut.execute_completions.ready)
                assert ready
                ctx.set(dut.execute_completions.valid, 0)
                ctx.set(dut.execute_error, 0)
                ctx.set(dut.execute_busy, 0)
                self.executed += 1

    async def read(self, ctx, name):
        return (await read_register(ctx, self.dut.host, address_of(name)))[0]

    async def write(self, ctx, name, value):
        await write_register(ctx, self.dut.host, address_of(name), value)

    async def start(self, ctx, *, program_bytes=IMAGE_BYTES):
        await self.write(ctx, "program_address", BASE)
        await self.write(ctx, "program_bytes", program_bytes)
        await self.write(ctx, "interrupt_enable", 1)
        await self.write(ctx, "control", 1)

    async def wait(self, ctx, *, limit=3000):
        """Wait for the interrupt; return state and error."""
        for _ in range(limit):
            if ctx.get(self.dut.interrupt):
                status = await self.read(ctx, "status")
                return State(status & 3), ErrorCode(status >> 8 & 0xFF)
            await ctx.tick()
        raise AssertionError("the machine hangs")

    async def reset(self, ctx):
        await self.write(ctx, "control", 2)
        for _ in range(200):
            if await self.read(ctx, "status") == State.IDLE:
                return
        raise AssertionError("the bus does not become quiet")

    def simulate(self, bench):
        dut, memory = self.dut, self.memory
        return simulate(
            dut,
            bench,
            background=[
                partial(memory.serve_reads, bus=dut.memory.read),
                partial(memory.serve_writes, bus=dut.memory.write),
                self.serve_banks,
                self.execute,
            ],
        )

    def assert_copied(self):
        size = ROWS * WIDTH * self.config.lanes
        image = np.frombuffer(bytes(self.memory.image), np.uint8)
        assert np.array_equal(image[OUTPUT:][:size], image[INPUT:][:size])


@pytest.mark.parametrize(("bus_bits", "stall"), [(32, 0.4), (64, 0.0), (128, 0.4)])
def test_runs_a_program_twice(bus_bits, stall):
    config = AcceleratorConfig(columns=8, burst_beats=8, bus_bits=bus_bits)
    machine = Machine(copy_program(config), stall=stall, config=config)
    cycles = []

    async def bench(ctx):
        for run in range(2):
            await machine.start(ctx)
            assert await machine.wait(ctx) == (State.DONE, ErrorCode.NONE)
            machine.assert_copied()
            assert machine.executed == run + 1
            machine.memory.image[OUTPUT : OUTPUT + 1024] = bytes(1024)
            await machine.write(ctx, "control", 4)
            assert not ctx.get(machine.dut.interrupt)
            cycles.append(await machine.read(ctx, "cycles"))

    machine.simulate(bench)
    if not stall:
        assert cycles[0] == cycles[1]


def test_counts_and_records_layer_marks():
    machine = Machine(copy_program())

    async def bench(ctx):
        await machine.start(ctx)
        await machine.wait(ctx)
        end = {name: await machine.read(ctx, name) for name in COUNTERS}
        words = ROWS * WIDTH * 2
        assert end["slots"] == 9
        assert end["load_beats"] == words + -(-5 * 27 // 8)
        assert end["store_beats"] == words
        records = []
        for mark in range(3):
            await machine.write(ctx, "mark_select", mark)
            records.append({name: await machine.read(ctx, f"mark_{name}") for name in COUNTERS})
        assert [record["slots"] for record in records] == [0, 9, 9]
        assert records[0]["load_beats"] == words
        # From the token of LOAD: one cycle to pass, then ten in the stand-in.
        assert records[1]["cycles"] - records[0]["cycles"] == 11
        assert records[0]["token_stalls"] > words
        assert records[2]["store_beats"] == words
        assert records[2]["cycles"] < end["cycles"]

    machine.simulate(bench)


def missing_tokens(count: int) -> list[dict]:
    wait = instruction(Opcode.LOAD, prefix=prefix(Opcode.LOAD, wait_next=True))
    return [header(CONFIG), *[wait] * count, instruction(Opcode.END)]


FAULTS = {
    "another geometry": (copy_program(header={"geometry_hash": 7}), {}, ErrorCode.GEOMETRY),
    "no END": (copy_program(), {"program_bytes": 4 * INSTRUCTION_BYTES}, ErrorCode.ADDRESS),
    "a load behind the program": (copy_program(load={"source": 8184}), {}, ErrorCode.ADDRESS),
    "a store behind it": (copy_program(store={"destination": 8184}), {}, ErrorCode.ADDRESS),
    "a missing token": (missing_tokens(1), {}, ErrorCode.DEADLOCK),
    "a full queue of them": (missing_tokens(12), {}, ErrorCode.DEADLOCK),
    "a read error of fetch": (copy_program(), {"error_address": BASE}, ErrorCode.AXI_READ),
    "a read error of LOAD": (
        copy_program(),
        {"error_address": BASE + INPUT + 128},
        ErrorCode.AXI_READ,
    ),
    "a write error": (
        copy_program(),
        {"error_address": BASE + OUTPUT + 64},
        ErrorCode.AXI_WRITE,
    ),
    "an error of EXECUTE": (
        copy_program(),
        {"execute_error": ErrorCode.ADDRESS},
        ErrorCode.ADDRESS,
    ),
}


@pytest.mark.parametrize("reset", [True, False])
def test_stops_with_an_error_and_runs_again(reset):
    machine = Machine([], stall=0.2, seed=1)

    async def bench(ctx):
        for fault, (program, options, code) in FAULTS.items():
            machine.place(program)
            machine.memory.error_address = options.get("error_address")
            machine.execute_error = options.get("execute_error", ErrorCode.NONE)
            await machine.start(ctx, program_bytes=options.get("program_bytes", IMAGE_BYTES))
            assert await machine.wait(ctx) == (State.ERROR, code), fault
            stopped = await machine.read(ctx, "cycles")
            assert await machine.read(ctx, "cycles") == stopped, fault
            if reset:
                await machine.reset(ctx)
            else:
                await machine.write(ctx, "control", 4)
            machine.memory.error_address = None
            machine.execute_error = ErrorCode.NONE
            machine.place(copy_program())
            await machine.start(ctx)
            assert await machine.wait(ctx) == (State.DONE, ErrorCode.NONE), fault
            machine.assert_copied()
            await machine.write(ctx, "control", 4)

    machine.simulate(bench)


def test_can_be_reset_at_any_time():
    machine = Machine(copy_program(), stall=0.3, seed=5)

    async def bench(ctx):
        for cycle in (5, 25, 45, 65, 85, 110, 140, 170):
            await machine.start(ctx)
            await ctx.tick().repeat(cycle)
            await machine.reset(ctx)
            await machine.start(ctx)
            assert await machine.wait(ctx) == (State.DONE, ErrorCode.NONE), cycle
            machine.assert_copied()
            await machine.write(ctx, "control", 4)

    machine.simulate(bench)
