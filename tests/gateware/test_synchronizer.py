"""Tokens, marks and deadlocks of the synchronizer."""

import random
from functools import partial

import pytest

from coprune_hw.contract.instructions import Opcode, prefix
from coprune_hw.gateware.synchronizer import UNITS, Synchronizer

from .streams import simulate, stream_get, stream_put
from .test_program import instruction

NAMES = list(UNITS)


def head(unit: str, **tokens) -> dict:
    opcode = Opcode[unit.upper()]
    return instruction(opcode, prefix=prefix(opcode, **tokens))


def partners(unit: str, tokens: dict, action: str) -> list[str]:
    index = NAMES.index(unit)
    names = []
    if tokens[f"{action}_previous"] and index > 0:
        names.append(NAMES[index - 1])
    if tokens[f"{action}_next"] and index < 2:
        names.append(NAMES[index + 1])
    return names


def random_programs(seed: int, steps: int) -> dict[str, list[dict]]:
    """Instructions per unit that can all be carried out, by running them in some order."""
    generator = random.Random(seed)
    tokens = {(a, b): 0 for a in NAMES for b in NAMES}
    programs = {unit: [] for unit in NAMES}
    for _ in range(steps):
        unit = generator.choice(NAMES)
        flags = {}
        for side, neighbour in (("previous", -1), ("next", 1)):
            index = NAMES.index(unit) + neighbour
            flags[f"signal_{side}"] = generator.random() < 0.6
            available = 0 <= index < 3 and tokens[NAMES[index], unit] > 0
            # Waits for neighbours that do not exist are ignored.
            flags[f"wait_{side}"] = (available or not 0 <= index < 3) and generator.random() < 0.7
        for sender in partners(unit, flags, "wait"):
            tokens[sender, unit] -= 1
        for receiver in partners(unit, flags, "signal"):
            tokens[unit, receiver] += 1
        programs[unit].append(flags)
    return programs


@pytest.mark.parametrize("seed", range(4))
def test_every_instruction_starts_after_those_it_depends_on(seed):
    dut = Synchronizer()
    programs = random_programs(seed, 120)
    tokens = {(a, b): 0 for a in NAMES for b in NAMES}
    generator = random.Random(seed)

    async def source(ctx, unit):
        heads = [head(unit, **flags) for flags in programs[unit]]
        await stream_put(ctx, getattr(dut, f"{unit}_queue"), heads, stall=0.2, seed=seed)

    async def work(ctx, unit):
        for flags in programs[unit]:
            (got,) = await stream_get(ctx, getattr(dut, unit), 1, stall=0.2, seed=seed)
            assert got.prefix.opcode == Opcode[unit.upper()]
            for sender in partners(unit, flags, "wait"):
                tokens[sender, unit] -= 1
                assert tokens[sender, unit] >= 0, (unit, sender)
            ctx.set(getattr(dut, f"{unit}_busy"), 1)
            await ctx.tick().repeat(generator.randrange(1, 20))
            # The model's token is there before the hardware's, which the completion brings.
            for receiver in partners(unit, flags, "signal"):
                tokens[unit, receiver] += 1
            completion = prefix(Opcode[unit.upper()], **flags)
            await stream_put(ctx, getattr(dut, f"{unit}_completions"), [completion])
            ctx.set(getattr(dut, f"{unit}_busy"), 0)

    simulate(
        dut,
        *(partial(work, unit=unit) for unit in NAMES),
        background=[partial(source, unit=unit) for unit in NAMES],
    )


def test_records_one_mark_a_cycle_execute_first():
    dut = Synchronizer()
    marks, completed = [], []

    async def complete(ctx, unit, mark):
        completion = prefix(Opcode[unit.upper()], mark=mark)
        await stream_put(ctx, getattr(dut, f"{unit}_completions"), [completion] * 2)

    async def watch(ctx):
        for _ in range(8):
            signals = (dut.marks.valid, dut.marks.payload, dut.completed)
            _, _, valid, mark, units_completed = await ctx.tick().sample(*signals)
            if valid:
                marks.append(mark)
                completed.append(units_completed)

    units = [partial(complete, unit=unit, mark=7 + i) for i, unit in enumerate(NAMES)]
    simulate(dut, watch, background=units)
    assert marks == [8, 8, 7, 7, 9, 9]
    load, execute, store = 0b001, 0b010, 0b100
    assert completed == [execute, execute, load, load, store, store]


@pytest.mark.parametrize("unit", NAMES)
def test_tells_when_a_unit_waits_for_a_token_and_when_it_takes_an_instruction(unit):
    dut = Synchronizer()
    bit = 1 << NAMES.index(unit)
    neighbour, token, signal = {
        "load": ("execute", "wait_next", "signal_previous"),
        "execute": ("load", "wait_previous", "signal_next"),
        "store": ("execute", "wait_previous", "signal_next"),
    }[unit]
    queue, output = getattr(dut, f"{unit}_queue"), getattr(dut, unit)
    completions = getattr(dut, f"{neighbour}_completions")
    opcode = Opcode[neighbour.upper()]

    async def bench(ctx):
        def activity():
            return ctx.get(dut.waiting), ctx.get(dut.taken)

        ctx.set(queue.payload, head(unit, **{token: True}))
        ctx.set(queue.valid, 1)
        assert activity() == (0, 0)  # busy with another instruction
        ctx.set(output.ready, 1)
        assert activity() == (bit, 0)
        ctx.set(completions.payload, prefix(opcode, **{signal: True}))
        ctx.set(completions.valid, 1)
        assert activity() == (bit, 0)
        await ctx.tick()
        ctx.set(completions.valid, 0)
        assert activity() == (0, bit)
        ctx.set(output.ready, 0)
        assert activity() == (0, 0)

    simulate(dut, bench)


def stuck_cycles(*, blocked=1, busy=0, halt=0, **waits) -> int | None:
    """Cycles until a deadlock is reported, with an EXECUTE at the head of its queue."""
    dut = Synchronizer()
    reported = None

    async def bench(ctx):
        nonlocal reported
        ctx.set(dut.dispatch_blocked, blocked)
        ctx.set(dut.load_busy, busy)
        ctx.set(dut.halt, halt)
        ctx.set(dut.execute_queue.payload, head("execute", **waits))
        ctx.set(dut.execute_queue.valid, 1)
        for cycle in range(60):
            if ctx.get(dut.deadlock):
                reported = cycle
                break
            await ctx.tick()

    simulate(dut, bench)
    return reported


def test_reports_a_deadlock_and_nothing_else():
    assert stuck_cycles(wait_previous=True) == Synchronizer.DEADLOCK_CYCLES
    assert stuck_cycles(wait_next=True) == Synchronizer.DEADLOCK_CYCLES
    assert stuck_cycles(wait_previous=True, busy=1) is None
    assert stuck_cycles(wait_previous=True, blocked=0) is None
    assert stuck_cycles(wait_previous=True, halt=1) is None
    assert stuck_cycles() is None


def test_counts_a_stall_only_while_the_unit_would_take_the_instruction():
    dut = Synchronizer()

    async def bench(ctx):
        ctx.set(dut.load_queue.payload, head("load", wait_next=True))
        ctx.set(dut.load_queue.valid, 1)
        assert not ctx.get(dut.load_waits)
        ctx.set(dut.load.ready, 1)
        assert ctx.get(dut.load_waits)
        assert not ctx.get(dut.load.valid)
        assert not ctx.get(dut.load_queue.ready)
        completion = prefix(Opcode.EXECUTE, signal_previous=True)
        await stream_put(ctx, dut.execute_completions, [completion])
        assert not ctx.get(dut.load_waits)
        assert ctx.get(dut.load.valid)

    simulate(dut, bench)
