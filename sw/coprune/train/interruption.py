"""Ctrl-C, held back until a step is done."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Inside, the first Ctrl-C or SIGTERM only sets `asked`; the second one stops at once.

    In other threads than the main one, where Python allows no handlers, nothing is held back.
    """

    def __init__(self) -> None:
        self.asked = False
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
