"""The host's side: registers over AXI4-Lite, counters and the state machine."""

import itertools

import pytest

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.registers import (
    COUNTERS,
    IDENTITY,
    REGISTERS,
    ErrorCode,
    State,
    address_of,
)
from coprune_hw.gateware.controller import Controller
from coprune_hw.gateware.counters import Counters
from coprune_hw.gateware.interfaces import AxiResponse
from coprune_hw.gateware.registers import RegisterFile

from .streams import simulate, stream_get, stream_put

CONFIG = AcceleratorConfig()


async def read_register(ctx, bus, address: int):
    """Data and response."""
    await stream_put(ctx, bus.read_address, [{"address": address}])
    (answer,) = await stream_get(ctx, bus.read_data, 1)
    return answer.data, answer.response


async def write_register(ctx, bus, address: int, value: int, *, strobe=0xF, order="together"):
    """Response."""
    channels = {
        "address": (bus.write_address, {"address": address}),
        "data": (bus.write_data, {"data": value, "strobe": strobe}),
    }
    if order == "together":
        for stream, payload in channels.values():
            ctx.set(stream.payload, payload)
            ctx.set(stream.valid, 1)
        await ctx.tick()
        for stream, _ in channels.values():
            ctx.set(stream.valid, 0)
    else:
        for name in order:
            await stream_put(ctx, channels[name][0], [channels[name][1]])
            await ctx.tick()
    (answer,) = await stream_get(ctx, bus.write_response, 1)
    return answer.response


def test_shows_identity_and_state():
    dut = RegisterFile(CONFIG)

    async def bench(ctx):
        counters = {name: 3 + i for i, name in enumerate(COUNTERS)}
        marks = {name: 1000 + i for i, name in enumerate(COUNTERS)}
        ctx.set(dut.counters, counters)
        ctx.set(dut.mark_counters, marks)
        ctx.set(dut.state, State.ERROR)
        ctx.set(dut.error_code, ErrorCode.DEADLOCK)
        ctx.set(dut.bus_busy, 1)
        expected = {
            "identity": IDENTITY,
            "version": CONTRACT_VERSION,
            "geometry": 16 | 16 << 8 | 8 << 16,
            "geometry_hash": CONFIG.geometry_hash,
            "control": 0,
            "status": State.ERROR | 1 << 3 | ErrorCode.DEADLOCK << 8,
            **counters,
            **{f"mark_{name}": value for name, value in marks.items()},
        }
        for name, value in expected.items():
            answer = await read_register(ctx, dut.bus, address_of(name))
            assert answer == (value, AxiResponse.OKAY), name
        end = REGISTERS.size // 8
        for address in (end, 252):
            assert await read_register(ctx, dut.bus, address) == (0, AxiResponse.SLVERR)
            assert await write_register(ctx, dut.bus, address, 1) == AxiResponse.SLVERR

    simulate(dut, bench)


@pytest.mark.parametrize("order", ["together", ("address", "data"), ("data", "address")])
def test_takes_address_and_data_in_any_order(order):
    dut = RegisterFile(CONFIG)

    async def bench(ctx):
        for name, value, shown in (
            ("program_address", 0xABCDE123, 0xABCDE000),
            ("program_bytes", 0x12345678, 0x12345678),
            ("mark_select", 0x1FF, 0xFF),
            ("interrupt_enable", 3, 1),
            ("identity", 5, IDENTITY),
        ):
            address = address_of(name)
            response = await write_register(ctx, dut.bus, address, value, order=order)
            assert response == AxiResponse.OKAY
            assert (await read_register(ctx, dut.bus, address))[0] == shown, name

    simulate(dut, bench)


def test_obeys_strobes():
    dut = RegisterFile(CONFIG)
    starts = 0

    async def bench(ctx):
        address = address_of("program_bytes")
        await write_register(ctx, dut.bus, address, 0x11223344)
        await write_register(ctx, dut.bus, address, 0xAABBCCDD, strobe=0b0101)
        assert (await read_register(ctx, dut.bus, address))[0] == 0x11BB33DD
        await write_register(ctx, dut.bus, address_of("control"), 7, strobe=0b1110)

    async def watch(ctx):
        nonlocal starts
        async for _, _, start in ctx.tick().sample(dut.start):
            starts += start

    simulate(dut, bench, background=[watch])
    assert starts == 0


def test_control_bits_are_pulses_of_one_cycle():
    dut = RegisterFile(CONFIG)
    pulses = []

    async def bench(ctx):
        for value in (1, 2, 4, 6):
            await write_register(ctx, dut.bus, address_of("control"), value)

    async def watch(ctx):
        async for _, _, *bits in ctx.tick().sample(dut.start, dut.reset, dut.acknowledge):
            if any(bits):
                pulses.append(tuple(bits))

    simulate(dut, bench, background=[watch])
    assert pulses == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]


def test_raises_the_interrupt_only_where_enabled():
    dut = RegisterFile(CONFIG)

    async def bench(ctx):
        ctx.set(dut.interrupt_pending, 1)
        assert not ctx.get(dut.interrupt)
        await write_register(ctx, dut.bus, address_of("interrupt_enable"), 1)
        assert ctx.get(dut.interrupt)
        assert (await read_register(ctx, dut.bus, address_of("status")))[0] >> 2 & 1
        ctx.set(dut.interrupt_pending, 0)
        assert not ctx.get(dut.interrupt)

    simulate(dut, bench)


def test_counts_while_running_and_records_marks():
    config = AcceleratorConfig(mark_depth=5)
    dut = Counters(config)

    async def bench(ctx):
        ctx.set(dut.events, {name: i % 2 == 0 for i, name in enumerate(COUNTERS)})
        await ctx.tick().repeat(3)
        ctx.set(dut.running, 1)
        for mark in range(7):
            ctx.set(dut.marks.payload, mark)
            ctx.set(dut.marks.valid, 1)
            await ctx.tick()
        ctx.set(dut.running, 0)
        ctx.set(dut.marks.payload, 2)
        await ctx.tick()
        values = ctx.get(dut.values)
        assert [values[name] for name in COUNTERS] == [7, 0, 7, 0, 7, 0, 7]
        for mark in range(5):
            ctx.set(dut.mark_select, mark)
            await ctx.tick().repeat(2)
            record = ctx.get(dut.mark_values)
            assert [record[name] for name in COUNTERS] == [mark, 0] * 3 + [mark], mark
        ctx.set(dut.restart, 1)
        await ctx.tick()
        assert ctx.get(dut.values).cycles == 0

    simulate(dut, bench)


async def pulse(ctx, signal):
    ctx.set(signal, 1)
    await ctx.tick()
    ctx.set(signal, 0)


def run_controller(bench):
    dut = Controller()
    trace = []

    async def watch(ctx):
        signals = (dut.state, dut.halt, dut.clear, dut.begin)
        async for _, _, state, *bits in ctx.tick().sample(*signals):
            trace.append((state, *bits))

    simulate(dut, with_dut(bench, dut), background=[watch])
    return [key for key, _ in itertools.groupby(trace)]


def with_dut(bench, dut):
    async def run(ctx):
        await bench(ctx, dut)
        await ctx.tick()

    return run


def test_starts_runs_and_is_done():
    async def bench(ctx, dut):
        await pulse(ctx, dut.start)
        await ctx.tick().repeat(4)
        await pulse(ctx, dut.start)
        await pulse(ctx, dut.finished)
        assert ctx.get(dut.interrupt)
        await pulse(ctx, dut.acknowledge)
        assert not ctx.get(dut.interrupt)

    assert run_controller(bench) == [
        (State.IDLE, 1, 0, 0),
        (State.RUNNING, 1, 0, 0),
        (State.RUNNING, 1, 1, 0),
        (State.RUNNING, 0, 0, 1),
        (State.RUNNING, 0, 0, 0),
        (State.DONE, 1, 0, 0),
    ]


def test_keeps_the_first_error_until_reset_on_a_quiet_bus():
    async def bench(ctx, dut):
        await pulse(ctx, dut.start)
        await ctx.tick().repeat(3)
        ctx.set(dut.bus_busy, 1)
        ctx.set(dut.error, ErrorCode.ADDRESS)
        ctx.set(dut.finished, 1)
        await ctx.tick()
        ctx.set(dut.error, ErrorCode.DEADLOCK)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.error_code) == ErrorCode.ADDRESS
        assert ctx.get(dut.interrupt)
        await pulse(ctx, dut.reset)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.state) == State.ERROR
        ctx.set(dut.bus_busy, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.error_code) == ErrorCode.NONE
        assert not ctx.get(dut.interrupt)

    assert run_controller(bench)[-3:] == [
        (State.ERROR, 1, 0, 0),
        (State.ERROR, 1, 1, 0),
        (State.IDLE, 1, 0, 0),
    ]


def test_a_reset_stops_a_running_program():
    async def bench(ctx, dut):
        await pulse(ctx, dut.start)
        await ctx.tick().repeat(3)
        await pulse(ctx, dut.reset)
        await ctx.tick().repeat(3)

    assert run_controller(bench)[-4:] == [
        (State.RUNNING, 0, 0, 0),
        (State.RUNNING, 1, 0, 0),
        (State.RUNNING, 1, 1, 0),
        (State.IDLE, 1, 0, 0),
    ]
