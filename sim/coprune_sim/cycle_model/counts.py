"""Counters at layer marks, and why the array waits: from what the units did."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np

from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.work import UNITS, transfer_beats
from coprune_hw.gateware.sequencer import Sequencer

from .attribution import attribute
from .execute import ExecuteTimes
from .machine import Machine
from .result import WAIT_CAUSES, InstructionTiming, LayerTiming, ProgramTiming
from .workload import Workload

LOAD_CAUSES = {
    LoadKind.SLOTS: "weights",
    LoadKind.PARAMETERS: "weights",
    LoadKind.TABLES: "weights",
    LoadKind.PIXELS: "input",
}
"""What EXECUTE waits for while LOAD brings it."""


class Spans:
    """Cycles in which something happens: spans that do not overlap, in order.

    Parameters
    ----------
    begins, ends : sequences of int
        A span holds the cycles ``begin .. end - 1``; it may be empty.
    """

    def __init__(self, begins: Sequence[int], ends: Sequence[int]) -> None:
        self._begins = np.asarray(begins, np.int64)
        self._lengths = np.maximum(np.asarray(ends, np.int64) - self._begins, 0)
        self._before = np.concatenate([[0], np.cumsum(self._lengths)])

    def before(self, cycle: int) -> int:
        """How many of the cycles come before `cycle`."""
        index = int(np.searchsorted(self._begins, cycle)) - 1
        if index < 0:
            return 0
        return int(self._before[index] + min(self._lengths[index], cycle - self._begins[index]))


class SlotCount:
    """Slots, and cycles in which a tile's last slot waits for the drain.

    Parameters
    ----------
    times : list of ExecuteTimes
    """

    def __init__(self, times: list[ExecuteTimes]) -> None:
        self._times = times
        self._begins = [each.started + 1 for each in times]
        self._slots = np.concatenate([[0], np.cumsum([each.tiles * each.slots for each in times])])
        self._waits = np.concatenate(
            [[0], np.cumsum([each.last - each.started - each.tiles * each.slots for each in times])]
        )

    def before(self, cycle: int) -> tuple[int, int]:
        """How many slots and waits come before `cycle`."""
        index = bisect_left(self._begins, cycle) - 1
        if index < 0:
            return 0, 0
        times = self._times[index]
        elapsed = min(cycle - self._begins[index], times.last - times.started)
        slots = _slots_before(times, cycle)
        return int(self._slots[index]) + slots, int(self._waits[index]) + elapsed - slots


def _slots_before(times: ExecuteTimes, cycle: int) -> int:
    """Slots of an EXECUTE that are issued before a cycle, which is after it started."""
    if cycle > times.last:
        return times.tiles * times.slots
    if cycle <= times.first_last:
        return min(cycle - times.started, times.slots) - 1
    tiles, elapsed = divmod(cycle - 1 - times.first_last, times.period)
    return (1 + tiles) * times.slots + min(elapsed, times.slots - 1)


class Counts:
    """The RTL's counters as functions of the cycle."""

    def __init__(self, machine: Machine, workload: Workload) -> None:
        executes, loads = machine.times[Opcode.EXECUTE], machine.times[Opcode.LOAD]
        begins, ends = [], []
        for index, times in enumerate(machine.execute.times):
            begins += [executes.ready[index], times.accepted + Sequencer.START_LATENCY]
            ends += [executes.begin[index], times.started]
        self.slots = SlotCount(machine.execute.times)
        self._loads = [LOAD_CAUSES[load["kind"]] for load in workload.of_unit(Opcode.LOAD)]
        self._load_ends = loads.end
        self._token_stalls = Spans(begins, ends)
        self._load_stalls = Spans(loads.ready, loads.begin)
        beats = np.asarray(machine.load.beats, np.int64).reshape(-1, 2)
        self._load_beats = Spans(beats[:, 0], beats[:, 1] + 1)
        sent = np.asarray(machine.store.beats, np.int64)
        self._store_beats = Spans(sent, sent + 1)

    def before(self, cycle: int) -> dict[str, int]:
        """What the counters show at a mark in `cycle`."""
        slots, drain_stalls = self.slots.before(cycle)
        return {
            "cycles": cycle,
            "slots": slots,
            "token_stalls": self._token_stalls.before(cycle),
            "drain_stalls": drain_stalls,
            "load_beats": self._load_beats.before(cycle),
            "load_stalls": self._load_stalls.before(cycle),
            "store_beats": self._store_beats.before(cycle),
        }

    def load_causes(self, begin: int, end: int) -> Counter[str]:
        """What LOAD brings from `begin` to `end`, while EXECUTE waits for it: cycles by cause."""
        causes: Counter[str] = Counter()
        number = bisect_left(self._load_ends, begin)
        while begin < end:
            until = min(self._load_ends[number] + 1, end)
            causes[self._loads[number]] += until - begin
            begin, number = until, number + 1
        return causes


def describe(machine: Machine, workload: Workload) -> ProgramTiming:
    """Say what a machine that ran a workload did, layer by layer."""
    counts = Counts(machine, workload)
    instructions = _list_instructions(machine, workload)
    marks = find_marks(machine, workload)
    moved = _count_bytes(workload, instructions)
    layers = []
    begin = 0
    for index, record in enumerate(workload.layers):
        end = marks[record.mark]
        executes = [machine.execute.times[number] for number in record.executes]
        slots = counts.slots.before(end)[0] - counts.slots.before(begin)[0]
        layers.append(
            LayerTiming(
                name=record.name,
                begin=begin,
                end=end,
                marks=counts.before(end),
                slots=slots,
                tiles=sum(times.tiles for times in executes),
                drain_bound_tiles=sum(
                    times.tiles for times in executes if times.slots < times.period
                ),
                waits=_find_waits(machine, counts, record.executes, begin=begin, end=end),
                load_bytes=moved[index, Opcode.LOAD],
                store_bytes=moved[index, Opcode.STORE],
            )
        )
        begin = end
    return ProgramTiming(
        layers=tuple(layers),
        instructions=instructions,
        counters=counts.before(machine.cycles),
    )


def _list_instructions(machine: Machine, workload: Workload) -> tuple[InstructionTiming, ...]:
    layers = attribute(workload.instructions, workload.layers)
    numbers = dict.fromkeys(UNITS, 0)
    timings = []
    for index, (instruction, layer) in enumerate(zip(workload.instructions, layers, strict=True)):
        opcode = instruction["prefix"]["opcode"]
        if opcode in numbers:
            times, number = machine.times[opcode], numbers[opcode]
            numbers[opcode] += 1
            timings.append(
                InstructionTiming(
                    index=index,
                    opcode=Opcode(opcode),
                    layer=layer,
                    ready=times.ready[number],
                    begin=times.begin[number],
                    end=times.end[number],
                )
            )
    return tuple(timings)


def find_marks(machine: Machine, workload: Workload) -> dict[int, int]:
    """The cycle of every layer mark."""
    return {
        instruction["prefix"]["mark"]: end
        for unit in UNITS
        for instruction, end in zip(workload.of_unit(unit), machine.times[unit].end, strict=True)
        if instruction["prefix"]["mark_valid"]
    }


def _count_bytes(
    workload: Workload, timings: Sequence[InstructionTiming]
) -> Counter[tuple[int, Opcode]]:
    """Bytes on the bus, by layer and unit."""
    moved: Counter[tuple[int, Opcode]] = Counter()
    for timing in timings:
        if timing.opcode != Opcode.EXECUTE:
            beats = transfer_beats(workload.instructions[timing.index], workload.config)
            moved[timing.layer, timing.opcode] += beats * workload.config.bus_bytes
    return moved


def _find_waits(
    machine: Machine, counts: Counts, executes: Sequence[int], *, begin: int, end: int
) -> dict[str, int]:
    """The cycles from `begin` to `end` without a slot, by the causes of `WAIT_CAUSES`."""
    waits = dict.fromkeys(WAIT_CAUSES, 0)
    first_slots, first_drains = counts.slots.before(begin)
    slots, drains = (
        after - before
        for after, before in zip(counts.slots.before(end), (first_slots, first_drains), strict=True)
    )
    waits["drain"] = drains
    # Behind the layer's last slot other instructions may issue theirs.
    computed = max(machine.execute.times[executes[-1]].last + 1, begin)
    late = [
        after - before
        for after, before in zip(
            counts.slots.before(end), counts.slots.before(computed), strict=True
        )
    ]
    waits["finish"] = end - computed - sum(late)
    times = machine.times[Opcode.EXECUTE]
    for number in executes:
        ready, fed = max(times.ready[number], begin), max(times.fed[number], begin)
        for cause, cycles in counts.load_causes(ready, fed).items():
            waits[cause] += cycles
        waits["store"] += max(times.begin[number], begin) - fed
    waits["issue"] = end - begin - slots - sum(waits.values())
    return waits
