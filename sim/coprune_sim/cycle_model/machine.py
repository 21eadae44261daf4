"""All units together: the cycles of every instruction of a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from coprune_hw.contract.instructions import Opcode
from coprune_hw.contract.work import UNITS, token_partners
from coprune_hw.gateware.dispatch import Dispatcher
from coprune_hw.gateware.synchronizer import Synchronizer

from .contention import BlockDelay, Contention, FetchWait, longest_drain_run
from .dispatch import Dispatch, InstructionQueue
from .events import EventQueue
from .execute import ExecuteUnit
from .load import LoadUnit
from .memory import MemoryModel, Pauses
from .read_bus import ReadBus
from .store import StoreUnit
from .workload import Workload


@dataclass
class UnitTimes:
    """Cycles of a unit's instructions, in its order.

    Parameters
    ----------
    ready, begin, end : list of int
        As in `InstructionTiming`.
    fed : list of int
        Cycle from which on the instruction had the token of the unit before, or needed none.
    """

    ready: list[int] = field(default_factory=list)
    begin: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    fed: list[int] = field(default_factory=list)


class Machine:
    """All units, their queues and tokens; `run` finds every cycle.

    Attributes
    ----------
    times : dict
        Opcode of a unit to its `UnitTimes`.
    load, execute, store
        The units, with their own records.
    cycles : int
        From start to interrupt.
    """

    def __init__(
        self,
        workload: Workload,
        memory: MemoryModel,
        *,
        pauses: Pauses | None = None,
        contention: Contention = Contention.EXACT,
    ) -> None:
        config = workload.config
        pauses = pauses or Pauses()
        self._events = EventQueue()
        load_bus = fetch_bus = ReadBus(memory, pauses=pauses)
        drain_delay = block_delay = None
        if contention == Contention.NONE:
            fetch_bus = ReadBus(memory, pauses=pauses)
            drain_delay, block_delay = 0, BlockDelay()
        elif contention == Contention.WORST:
            wait = FetchWait(workload, pauses)
            fetch_bus = ReadBus(
                memory,
                pauses=pauses,
                extra_latency=lambda: wait.next_burst(
                    is_loading_pixels=self._is_loading(wait.last_pixels)
                ),
            )
            drain_delay, block_delay = longest_drain_run(workload), BlockDelay.worst(workload)
        opcodes = [instruction["prefix"]["opcode"] for instruction in workload.instructions]
        self._waiting = {unit: workload.of_unit(unit) for unit in UNITS}
        self._queues = {unit: InstructionQueue(config.queue_depth) for unit in UNITS}
        self._dispatch = Dispatch(
            opcodes,
            queues=self._queues,
            image_bytes=workload.image_bytes,
            config=config,
            events=self._events,
            bus=fetch_bus,
        )
        self.execute = ExecuteUnit(
            config,
            count=len(self._waiting[Opcode.EXECUTE]),
            blocks_of=workload.blocks_of,
            events=self._events,
        )
        self.load = LoadUnit(
            config,
            events=self._events,
            bus=load_bus,
            execute=self.execute,
            drain_delay=drain_delay,
        )
        self.store = StoreUnit(
            config,
            events=self._events,
            memory=memory,
            pauses=pauses,
            execute=self.execute,
            block_delay=block_delay,
        )
        self._units = {
            Opcode.LOAD: self.load,
            Opcode.EXECUTE: self.execute,
            Opcode.STORE: self.store,
        }
        self._is_starting = dict.fromkeys(UNITS, False)
        # Cycles in which tokens were sent, and how many of them are taken, by sender and receiver.
        pairs = [(a, b) for a in UNITS for b in UNITS if abs(UNITS.index(a) - UNITS.index(b)) == 1]
        self._sent: dict[tuple[Opcode, Opcode], list[int]] = {pair: [] for pair in pairs}
        self._taken = dict.fromkeys(pairs, 0)
        self.times = {unit: UnitTimes() for unit in UNITS}
        for unit in UNITS:
            self._queues[unit].on_head = partial(self._start_when_possible, unit)
        for unit in (Opcode.LOAD, Opcode.STORE):
            self._units[unit].on_ready = partial(self._start_when_possible, unit)

    def run(self) -> None:
        """Run the program.

        Raises
        ------
        ValueError
            It does not end: an instruction waits for a token that nobody sends.
        """
        self._dispatch.start()
        self._events.run()
        stuck = [
            unit.name for unit in UNITS if len(self.times[unit].end) < len(self._waiting[unit])
        ]
        if stuck or self._dispatch.ended is None:
            raise ValueError(
                f"the program does not end: {', '.join(stuck) or 'it'} waits for a token that "
                "nobody sends"
            )
        last = max((times.end[-1] for times in self.times.values() if times.end), default=0)
        idle = max(self._dispatch.ended, last) + 1
        # The cycle in which the machine sees that it is done is counted, too.
        self.cycles = idle + Dispatcher.DONE_LATENCY + 1

    def _is_loading(self, number: int) -> bool:
        """Whether a LOAD has not completed yet."""
        ends = self.times[Opcode.LOAD].end
        return number >= 0 and (number >= len(ends) or ends[number] >= self._events.now)

    def _start_when_possible(self, unit: Opcode) -> None:
        index = len(self.times[unit].begin)
        head, ready = self._queues[unit].head(), self._units[unit].ready
        if self._is_starting[unit] or head is None or ready is None:
            return
        ready = fed = cycle = max(head, ready)
        prefix = self._waiting[unit][index]["prefix"]
        senders = token_partners(prefix, action="wait")
        for sender in senders:
            sent, taken = self._sent[sender, unit], self._taken[sender, unit]
            if taken >= len(sent):
                return
            token = sent[taken] + Synchronizer.TOKEN_LATENCY
            cycle = max(cycle, token)
            if sender < unit:
                fed = max(fed, token)
        for sender in senders:
            self._taken[sender, unit] += 1
        self._is_starting[unit] = True
        times = self.times[unit]
        times.ready.append(ready)
        times.fed.append(fed)
        self._events.at(cycle, partial(self._start, unit))

    def _start(self, unit: Opcode) -> None:
        now = self._events.now
        times = self.times[unit]
        index = len(times.begin)
        times.begin.append(now)
        instruction = self._waiting[unit][index]
        self._queues[unit].leave(now)
        self._units[unit].start(
            instruction, complete=partial(self._complete_later, unit, instruction["prefix"])
        )
        self._is_starting[unit] = False
        self._start_when_possible(unit)

    def _complete_later(self, unit: Opcode, prefix: dict, cycle: int) -> None:
        self.times[unit].end.append(cycle)
        receivers = token_partners(prefix, action="signal")
        if receivers:
            self._events.at(cycle, partial(self._send_tokens, unit, receivers, cycle))

    def _send_tokens(self, unit: Opcode, receivers: list[Opcode], cycle: int) -> None:
        for receiver in receivers:
            self._sent[unit, receiver].append(cycle)
            self._start_when_possible(receiver)
