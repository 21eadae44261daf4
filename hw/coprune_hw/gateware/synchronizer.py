"""Dependency tokens between LOAD, EXECUTE and STORE."""

from itertools import pairwise

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract.instructions import MARK_BITS, Execute, Load, Store

from .interfaces import completion_signature

UNITS = {"load": Load, "execute": Execute, "store": Store}
"""The units in the order of data: each exchanges tokens with its neighbours."""

TOKEN_BITS = 8
"""Width of a token counter."""


class Synchronizer(wiring.Component):
    """Hold an instruction back until the tokens it waits for are there; pass on new ones.

    Four counters hold the tokens that LOAD and EXECUTE, and EXECUTE and STORE, sent each other. An
    instruction takes the tokens it waits for when it goes to its unit; its completion sends those
    it signals. Tokens for a neighbour that a unit does not have are neither waited for nor sent.
    Counters wrap after 255.

    Members
    -------
    load_queue, execute_queue, store_queue : In(stream)
        Heads of the queues.
    load, execute, store : Out(stream)
        Instructions that may start.
    load_completions, execute_completions, store_completions : In(stream(Prefix))
    load_busy, execute_busy, store_busy : In(1)
        From the cycle after the unit accepted an instruction until its completion is valid.
    halt : In(1)
        Let no instruction pass.
    dispatch_blocked : In(1)
        No instruction can enter the queues until one leaves.
    marks : Out(stream(mark), always ready)
        Layer marks of completions, in the cycle in which the completion is accepted.
    load_waits, execute_waits : Out(1)
        The unit would take the instruction at the head of its queue, but for a token.
    taken, completed, waiting : Out(3)
        For verification, a bit for each unit, LOAD first: it takes an instruction in this cycle; it
        completes one; it would take one, but for a token.
    units_idle : Out(1)
        No unit is busy or has a completion to report.
    deadlock : Out(1)
        Units are idle, and no instruction can ever start.

    Notes
    -----
    Instructions pass combinationally; a token is there `TOKEN_LATENCY` cycles after the
    completion. One mark a cycle: of completions with marks EXECUTE goes first, then LOAD, then
    STORE. A deadlock is reported once it has lasted `DEADLOCK_CYCLES` cycles.
    """

    TOKEN_LATENCY = 1
    DEADLOCK_CYCLES = 16

    def __init__(self):
        members = {
            "halt": In(1),
            "dispatch_blocked": In(1),
            "marks": Out(stream.Signature(MARK_BITS, always_ready=True)),
            "load_waits": Out(1),
            "execute_waits": Out(1),
            "taken": Out(len(UNITS)),
            "completed": Out(len(UNITS)),
            "waiting": Out(len(UNITS)),
            "units_idle": Out(1),
            "deadlock": Out(1),
        }
        for unit, layout in UNITS.items():
            members[f"{unit}_queue"] = In(stream.Signature(layout))
            members[unit] = Out(stream.Signature(layout))
            members[f"{unit}_completions"] = In(completion_signature())
            members[f"{unit}_busy"] = In(1)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        units = list(UNITS)
        queues = {unit: getattr(self, f"{unit}_queue") for unit in units}
        completions = {unit: getattr(self, f"{unit}_completions") for unit in units}
        done = {unit: Signal(name=f"{unit}_done") for unit in units}
        started = {unit: Signal(name=f"{unit}_started") for unit in units}
        granted = {unit: Signal(name=f"{unit}_granted") for unit in units}

        # Tokens from one unit to its neighbour, by (sender, receiver).
        has_token = {}
        for first, second in pairwise(units):
            for sender, receiver in ((first, second), (second, first)):
                to = "next" if sender == first else "previous"
                back = "previous" if sender == first else "next"
                tokens = Signal(TOKEN_BITS, name=f"{sender}_to_{receiver}")
                tokens_soon = Signal.like(tokens, name=f"{sender}_to_{receiver}_soon")
                has_any = Signal(name=f"{sender}_to_{receiver}_any")
                has_token[sender, receiver] = has_any
                sent = done[sender] & completions[sender].payload[f"signal_{to}"]
                used = started[receiver] & queues[receiver].payload.prefix[f"wait_{back}"]
                m.d.comb += tokens_soon.eq(tokens + sent - used)
                m.d.sync += [tokens.eq(tokens_soon), has_any.eq(tokens_soon.any())]

        for index, unit in enumerate(units):
            queue, output = queues[unit], getattr(self, unit)
            prefix = queue.payload.prefix
            waits = Const(0)
            if index > 0:
                waits |= prefix.wait_previous & ~has_token[units[index - 1], unit]
            if index < len(units) - 1:
                waits |= prefix.wait_next & ~has_token[units[index + 1], unit]
            m.d.comb += [
                granted[unit].eq(~waits),
                output.payload.eq(queue.payload),
                output.valid.eq(queue.valid & granted[unit] & ~self.halt),
                queue.ready.eq(output.ready & granted[unit] & ~self.halt),
                started[unit].eq(queue.valid & queue.ready),
                done[unit].eq(completions[unit].valid & completions[unit].ready),
            ]
        m.d.comb += [
            self.taken.eq(Cat(started.values())),
            self.completed.eq(Cat(done.values())),
            self.waiting.eq(
                Cat(
                    queues[unit].valid & ~granted[unit] & getattr(self, unit).ready
                    for unit in units
                )
            ),
            self.load_waits.eq(self.waiting[units.index("load")]),
            self.execute_waits.eq(self.waiting[units.index("execute")]),
        ]

        mark_taken = Const(0)
        for unit in ("execute", "load", "store"):
            completion = completions[unit]
            has_mark = completion.valid & completion.payload.mark_valid
            m.d.comb += completion.ready.eq(~(completion.payload.mark_valid & mark_taken))
            with m.If(has_mark & ~mark_taken):
                m.d.comb += [self.marks.valid.eq(1), self.marks.payload.eq(completion.payload.mark)]
            mark_taken = mark_taken | has_mark

        m.d.comb += self.units_idle.eq(
            ~Cat(getattr(self, f"{unit}_busy") | completions[unit].valid for unit in units).any()
        )
        has_head = Cat(queue.valid for queue in queues.values()).any()
        can_start = Cat(queues[unit].valid & granted[unit] for unit in units).any()
        stuck_cycles = Signal(range(self.DEADLOCK_CYCLES + 1))
        with m.If(self.halt | ~self.units_idle | ~has_head | can_start | ~self.dispatch_blocked):
            m.d.sync += stuck_cycles.eq(0)
        with m.Elif(~self.deadlock):
            m.d.sync += stuck_cycles.eq(stuck_cycles + 1)
        m.d.comb += self.deadlock.eq(stuck_cycles == self.DEADLOCK_CYCLES)
        return m
