"""Fetch and dispatch of a program, and its errors."""

from functools import partial

import pytest
from amaranth.lib import data

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.instructions import (
    INSTRUCTION_BYTES,
    LAYOUTS,
    Opcode,
    decode_instruction,
    encode_instruction,
    prefix,
)
from coprune_hw.contract.registers import ErrorCode
from coprune_hw.gateware.dispatch import Dispatcher
from coprune_hw.gateware.fetch import PREFETCH_INSTRUCTIONS, Fetcher

from .axi_memory import AxiMemory
from .streams import simulate, stream_get, stream_put

BASE = 0x0010_0000
CONFIG = AcceleratorConfig()


def zeros(layout) -> dict:
    """Fields of a structure, all 0."""
    values = {}
    for name, field in data.Layout.cast(layout):
        is_struct = isinstance(field.shape, type) and issubclass(field.shape, data.Struct)
        values[name] = zeros(field.shape) if is_struct else 0
    return values


def instruction(opcode: Opcode, **fields) -> dict:
    """An instruction whose fields are 0 where they are not given."""
    return {**zeros(LAYOUTS[opcode]), "prefix": prefix(opcode), **fields}


def header(config=CONFIG, **fields) -> dict:
    values = {"version": CONTRACT_VERSION, "geometry_hash": config.geometry_hash}
    return instruction(Opcode.HEADER, **{**values, **fields})


def raw(values: dict) -> int:
    return int.from_bytes(encode_instruction(values), "little")


def run_fetch(config, image, *, count, stall=0.0, program_bytes=None, idle_cycles=100):
    """Take `count` instructions, then none; return them, the memory and `exhausted`."""
    dut = Fetcher(config)
    memory = AxiMemory(
        image + bytes(4096),
        base=BASE,
        bus_bytes=config.bus_bytes,
        burst_beats=config.burst_beats,
        latency=6,
        stall=stall,
        seed=3,
    )
    got, exhausted = [], False

    async def bench(ctx):
        nonlocal exhausted
        ctx.set(dut.program_address, BASE)
        ctx.set(dut.program_bytes, len(image) if program_bytes is None else program_bytes)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        payloads = await stream_get(ctx, dut.instructions, count, stall=stall, seed=4)
        got.extend(payload.raw.to_bytes(INSTRUCTION_BYTES, "little") for payload in payloads)
        await ctx.tick().repeat(idle_cycles)
        exhausted = bool(ctx.get(dut.exhausted))

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.bus)])
    return b"".join(got), memory, exhausted


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_fetches_all_instructions_in_order(bus_bits, stall):
    config = AcceleratorConfig(bus_bits=bus_bits, burst_beats=4)
    image = b"".join(bytes([i] * INSTRUCTION_BYTES) for i in range(1, 31))
    got, _, exhausted = run_fetch(config, image, count=30, stall=stall)
    assert got == image
    assert exhausted


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
def test_reads_ahead_a_bounded_number_of_instructions(bus_bits):
    config = AcceleratorConfig(bus_bits=bus_bits)
    image = bytes(100 * INSTRUCTION_BYTES)
    _, memory, exhausted = run_fetch(config, image, count=5)
    beats = sum(beats for _, beats in memory.read_bursts)
    assert beats * config.bus_bytes <= (5 + PREFETCH_INSTRUCTIONS + 1) * INSTRUCTION_BYTES
    assert not exhausted


@pytest.mark.parametrize("program_bytes", [0, 4, 40, 128])
def test_reads_nothing_beyond_the_program(program_bytes):
    whole = program_bytes // INSTRUCTION_BYTES
    _, memory, exhausted = run_fetch(CONFIG, bytes(4096), count=whole, program_bytes=program_bytes)
    assert sum(beats for _, beats in memory.read_bursts) == program_bytes // 8
    assert exhausted


def run_dispatch(instructions, *, idle=1, cycles=40, exhausted=0, drain=True):
    """Feed raw instructions; return what came out of the queues, and the device's end state."""
    dut = Dispatcher(CONFIG)
    got = {"load": [], "execute": [], "store": []}
    end = {}

    async def source(ctx):
        await stream_put(ctx, dut.instructions, instructions)
        ctx.set(dut.exhausted, exhausted)

    async def sink(ctx, name):
        stream = getattr(dut, name)
        while True:
            got[name] += await stream_get(ctx, stream, 1, stall=0.3, seed=1)

    async def bench(ctx):
        ctx.set(dut.units_idle, idle)
        await ctx.tick().repeat(cycles)
        end.update(done=ctx.get(dut.done), error=ctx.get(dut.error), blocked=ctx.get(dut.blocked))

    sinks = [partial(sink, name=name) for name in got] if drain else []
    simulate(dut, bench, background=[source, *sinks])
    return got, end


def test_queues_instructions_by_unit_and_ends():
    program = [header()]
    for i in range(10):
        opcode = (Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE)[i * i % 3]
        program.append(instruction(opcode, prefix=prefix(opcode, mark=i)))
    program.append(instruction(Opcode.END))
    got, end = run_dispatch([raw(values) for values in program])
    for name, payloads in got.items():
        marks = [
            values["prefix"]["mark"]
            for values in program
            if values["prefix"]["opcode"] == Opcode[name.upper()]
        ]
        assert [payload.prefix.mark for payload in payloads] == marks
    assert end == {"done": 1, "error": ErrorCode.NONE, "blocked": 0}


def test_keeps_every_bit_of_an_instruction():
    values = instruction(Opcode.EXECUTE, slot_base=0xABCD, pad=-128, high=-1, pitch=1023)
    got, _ = run_dispatch([raw(header()), raw(values)])
    (payload,) = got["execute"]
    bits = payload.as_bits().to_bytes(INSTRUCTION_BYTES, "little")
    assert decode_instruction(bits) == values


def test_is_done_only_when_units_are_idle_and_queues_empty():
    program = [raw(header()), raw(instruction(Opcode.LOAD)), raw(instruction(Opcode.END))]
    assert run_dispatch(program, idle=0)[1]["done"] == 0
    assert run_dispatch(program, drain=False)[1]["done"] == 0
    assert run_dispatch(program)[1]["done"] == 1


def test_is_blocked_by_a_full_queue():
    loads = [raw(instruction(Opcode.LOAD))] * (CONFIG.queue_depth + 1)
    _, end = run_dispatch([raw(header()), *loads], drain=False)
    assert end == {"done": 0, "error": ErrorCode.NONE, "blocked": 1}
    _, end = run_dispatch([raw(header()), *loads[1:]], drain=False)
    assert end["blocked"] == 0


BAD_PROGRAMS = {
    "no header": ([instruction(Opcode.END)], ErrorCode.GEOMETRY),
    "another version": ([header(version=CONTRACT_VERSION + 1)], ErrorCode.GEOMETRY),
    "another geometry": ([header(geometry_hash=1)], ErrorCode.GEOMETRY),
    "another geometry later": ([header(), header(geometry_hash=1)], ErrorCode.GEOMETRY),
}


@pytest.mark.parametrize("fault", BAD_PROGRAMS)
def test_refuses_a_program_for_another_machine(fault):
    program, code = BAD_PROGRAMS[fault]
    assert run_dispatch([raw(values) for values in program])[1]["error"] == code


@pytest.mark.parametrize("opcode", [0, 6, 15])
def test_refuses_an_unknown_opcode(opcode):
    assert run_dispatch([raw(header()), opcode])[1]["error"] == ErrorCode.BAD_OPCODE
    assert run_dispatch([opcode])[1]["error"] == ErrorCode.GEOMETRY


def test_reports_a_program_without_end():
    program = [raw(header()), raw(instruction(Opcode.LOAD))]
    assert run_dispatch(program, exhausted=1)[1]["error"] == ErrorCode.ADDRESS
    assert run_dispatch([], exhausted=1)[1]["error"] == ErrorCode.ADDRESS
