"""What happens when: events in the order of their cycles."""

from __future__ import annotations

import heapq
from collections.abc import Callable

NEVER = 1 << 62
"""Later than every cycle."""

FIRST, ORDINARY, LAST = range(3)
"""Order within a cycle."""


class EventQueue:
    """Actions to take at given cycles, taken in order.

    Attributes
    ----------
    now : int
        Cycle of the action under way.
    """

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, cycle: int, action: Callable[[], None], *, order: int = ORDINARY) -> None:
        """Take an action at a cycle, which is not before `now`."""
        self._count += 1
        heapq.heappush(self._heap, (cycle, order, self._count, action))

    def next_cycle(self) -> int:
        """Cycle of the next action, or `NEVER`."""
        return self._heap[0][0] if self._heap else NEVER

    def run(self) -> None:
        """Take all actions, and those that they bring."""
        heap = self._heap
        while heap:
            self.now, _, _, action = heapq.heappop(heap)
            action()
