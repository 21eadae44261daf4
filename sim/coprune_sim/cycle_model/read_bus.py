"""The read channels of the bus: who asks when, and when the beats come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from coprune_hw.gateware.read_arbiter import ReadArbiter

from .memory import MemoryModel

Take = Callable[[int, int], int | None]
"""Takes the beats of a burst: from the first beat's cycle and their number to the last one's cycle.

None stands for: cannot be said yet.
"""


class ReadBus:
    """Grants bursts, and brings their beats in the order of the grants.

    A client that does not take its beats holds up those behind.

    Attributes
    ----------
    fetch_granted : int
        Cycle of fetch's latest burst; in that cycle LOAD is not granted one.
    """

    def __init__(self, memory: MemoryModel) -> None:
        self._latency = ReadArbiter.ADDRESS_LATENCY + max(memory.latency_cycles, 1)
        self._free = 0
        self._waiting: deque[tuple[int, int, Take]] = deque()
        self.fetch_granted = -1

    def grant(self, cycle: int, *, beats: int, take: Take) -> None:
        """Let a client read a burst."""
        self._waiting.append((cycle + self._latency, beats, take))
        self.serve()

    def serve(self) -> None:
        """Bring the beats of all bursts of which that can be said."""
        waiting = self._waiting
        while waiting:
            earliest, beats, take = waiting[0]
            last = take(max(earliest, self._free), beats)
            if last is None:
                return
            self._free = last + 1
            waiting.popleft()
