"""The read channels of the bus: who asks when, and when the beats come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

from coprune_hw.gateware.read_arbiter import ReadArbiter

from .memory import MemoryModel, Pauses

Take = Callable[[int, int], int | None]
"""Takes the beats of a burst: from the first beat's cycle and their number to the last one's cycle.

None stands for: cannot be said yet.
"""


class ReadBus:
    """Grants bursts, and brings their beats in the order of the grants.

    A client that does not take its beats holds up those behind. With pauses all comes as late as it
    can.

    Parameters
    ----------
    memory : MemoryModel
    pauses : Pauses
    extra_latency : callable
        Cycles of latency that the bursts of a client have besides, asked for with every burst.

    Attributes
    ----------
    fetch_granted : int
        Cycle of fetch's latest burst; in that cycle LOAD is not granted one.
    """

    def __init__(
        self,
        memory: MemoryModel,
        *,
        pauses: Pauses,
        extra_latency: Callable[[], int] = lambda: 0,
    ) -> None:
        self._latency = ReadArbiter.ADDRESS_LATENCY + max(memory.latency_cycles, 1)
        self._latency += ceil(pauses.delay_cycles + pauses.beat_cycles - 1)
        self._beat_cycles, self._delay = pauses.beat_cycles, pauses.delay_cycles
        self._extra_latency = extra_latency
        self._free = 0.0
        self._waiting: deque[tuple[int, int, Take]] = deque()
        self.fetch_granted = -1

    def grant(self, cycle: int, *, beats: int, take: Take) -> None:
        """Let a client read a burst."""
        self._waiting.append((cycle + self._latency + self._extra_latency(), beats, take))
        self.serve()

    def serve(self) -> None:
        """Bring the beats of all bursts of which that can be said."""
        waiting = self._waiting
        while waiting:
            earliest, beats, take = waiting[0]
            end = max(earliest, self._free) + beats * self._beat_cycles
            first = ceil(end + self._delay) - beats
            last = take(first, beats)
            if last is None:
                return
            self._free = end if last == first + beats - 1 else last + 1
            waiting.popleft()
