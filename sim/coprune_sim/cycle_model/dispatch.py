"""Instruction fetch, and the queues of the three units."""

from __future__ import annotations

from collections.abc import Callable

from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.instructions import INSTRUCTION_BITS, Opcode
from coprune_hw.gateware.dispatch import Dispatcher
from coprune_hw.gateware.fetch import Fetcher
from coprune_hw.gateware.read_burst import BurstReader

from .events import FIRST, EventQueue
from .read_bus import ReadBus


class InstructionQueue:
    """A queue between dispatcher and unit; its output is a register.

    Parameters
    ----------
    depth : int
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._entered: list[int] = []
        self._heads: list[int] = []
        self._left: list[int] = []
        self.on_head: Callable[[], None] = lambda: None
        """Called when an instruction's `head` becomes known."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when `free_at` may have become known."""

    def free_at(self) -> int | None:
        """First cycle in which one more instruction can enter; None while that is not known."""
        blocking = len(self._entered) - self._depth + 1
        if blocking < 0:
            return 0
        return self._heads[blocking] if blocking < len(self._heads) else None

    def enter(self, cycle: int) -> None:
        """An instruction enters."""
        self._entered.append(cycle)
        self._find_head()

    def head(self) -> int | None:
        """Cycle from which on the next instruction stands at the head; None while not known."""
        taken = len(self._left)
        return self._heads[taken] if taken < len(self._heads) else None

    def leave(self, cycle: int) -> None:
        """The instruction at the head is taken."""
        self._left.append(cycle)
        self._find_head()

    def _find_head(self) -> None:
        index = len(self._heads)
        if index < len(self._entered) and index <= len(self._left):
            before = self._left[index - 1] + 1 if index else 0
            self._heads.append(max(self._entered[index] + Dispatcher.QUEUE_LATENCY, before))
            self.on_head()
            self.on_room()


class Dispatch:
    """Fetches the instructions and puts them into the queues.

    Parameters
    ----------
    opcodes : list of Opcode
        Of the program, HEADER to END.
    queues : dict
        Opcode of a unit to its `InstructionQueue`.
    image_bytes : int
        Beats behind END are fetched, too, as far as there is room.
    """

    def __init__(
        self,
        opcodes: list[Opcode],
        *,
        queues: dict[Opcode, InstructionQueue],
        image_bytes: int,
        config: AcceleratorConfig,
        events: EventQueue,
        bus: ReadBus,
    ) -> None:
        self._opcodes = opcodes
        self._queues = queues
        self._events = events
        self._bus = bus
        self._outstanding = config.outstanding_bursts
        self._beats = INSTRUCTION_BITS // config.bus_bits
        self._buffer_beats = Fetcher.buffer_beats(config)
        self._burst_beats = Fetcher.burst_beats(config)
        self._unasked = image_bytes // config.bus_bytes
        self._asked = 0
        # Of every burst: when it was issued (the last one), and its last beat.
        self._issued = BurstReader.LATENCY - BurstReader.INTERVAL
        self._burst_count = 0
        self._burst_ends: list[int] = []
        self._is_issuing = False
        # Of every beat: when it came, and when it left the buffer for the instruction register.
        self._arrived: list[int] = []
        self._shifted: list[int] = []
        # Instructions handed on, and when the last one was.
        self._index = 0
        self._handed_on = 0
        self._is_handing_on = False
        self.ended: int | None = None
        """Cycle in which END was taken."""
        for queue in queues.values():
            queue.on_room = self.advance

    def start(self) -> None:
        """Begin to fetch, in cycle 0."""
        self._issue_when_possible()

    def _issue_when_possible(self) -> None:
        if self._is_issuing or not self._unasked:
            return
        cycle = self._issued + BurstReader.INTERVAL
        shifted_needed = self._asked + self._burst_beats - self._buffer_beats
        if shifted_needed > 0:
            if shifted_needed > len(self._shifted):
                return
            cycle = max(cycle, self._shifted[shifted_needed - 1] + 1)
        ended_needed = self._burst_count - self._outstanding
        if ended_needed >= 0:
            if ended_needed >= len(self._burst_ends):
                return
            cycle = max(cycle, self._burst_ends[ended_needed] + 1)
        self._is_issuing = True
        self._events.at(cycle, self._issue, order=FIRST)

    def _issue(self) -> None:
        beats = min(self._burst_beats, self._unasked)
        self._is_issuing = False
        self._issued = self._events.now
        self._burst_count += 1
        self._unasked -= beats
        self._asked += beats
        self._bus.fetch_granted = self._issued
        self._bus.grant(self._issued, beats=beats, take=self._take)
        self._issue_when_possible()

    def _take(self, first: int, beats: int) -> int:
        """Take a burst's beats, one a cycle."""
        last = first + beats - 1
        self._arrived.extend(range(first, last + 1))
        self._burst_ends.append(last)
        self.advance()
        self._issue_when_possible()
        return last

    def advance(self) -> None:
        """Shift beats into the instruction register, and hand on what is whole."""
        if self._is_handing_on:
            return
        arrived, shifted = self._arrived, self._shifted
        needed = (self._index + 1) * self._beats
        before = len(shifted)
        while len(shifted) < min(needed, len(arrived)):
            earliest = max(self._handed_on, shifted[-1] + 1 if shifted else 0)
            shifted.append(max(arrived[len(shifted)] + 1, earliest))
        if len(shifted) == needed and self.ended is None:
            self._hand_on_from(shifted[-1] + 1)
        if len(shifted) > before:
            self._issue_when_possible()

    def _hand_on_from(self, whole: int) -> None:
        queue = self._queues.get(self._opcodes[self._index])
        if queue is not None:
            free = queue.free_at()
            if free is None:
                return
            whole = max(whole, free)
        self._is_handing_on = True
        self._events.at(whole, self._hand_on)

    def _hand_on(self) -> None:
        now = self._events.now
        opcode = self._opcodes[self._index]
        self._is_handing_on = False
        self._index += 1
        self._handed_on = now
        if opcode == Opcode.END:
            self.ended = now
        elif opcode in self._queues:
            self._queues[opcode].enter(now)
        self.advance()
