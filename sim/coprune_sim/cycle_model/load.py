"""The LOAD unit: when it asks for bursts, takes beats, writes and completes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.instructions import LoadKind
from coprune_hw.contract.planes import locate
from coprune_hw.contract.work import chunks_of, transfer_beats
from coprune_hw.gateware.chunker import Chunker
from coprune_hw.gateware.load import Loader
from coprune_hw.gateware.load_plan import LoadPlanner
from coprune_hw.gateware.raster_walk import RasterWalk
from coprune_hw.gateware.read_burst import BurstReader

from .events import LAST, EventQueue
from .execute import ExecuteUnit
from .read_bus import ReadBus


class LoadUnit:
    """Carries out LOAD instructions in order.

    Parameters
    ----------
    drain_delay : int or None
        By how much the drain delays the write of every pixel; None finds it out.

    Attributes
    ----------
    ready : int or None
        Cycle from which on it can take the next instruction; None while that is not known.
    beats : list of (int, int)
        First and last cycle of beats that it took one a cycle.
    on_ready : callable
        Called when `ready` becomes known.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        events: EventQueue,
        bus: ReadBus,
        execute: ExecuteUnit,
        drain_delay: int | None,
    ) -> None:
        self._config = config
        self._events = events
        self._bus = bus
        self._drain_delay = drain_delay
        self._execute = execute
        self.ready: int | None = 0
        self.beats: list[tuple[int, int]] = []
        self.on_ready: Callable[[], None] = lambda: None
        # The address side: a job that is planned, and the one whose bursts are asked for.
        self._planned: _Job | None = None
        self._planned_at = 0
        self._reading: _Job | None = None
        self._bursts: deque[int] = deque()
        self._reader_idle = 0
        self._next_issue = 0
        self._is_issuing = False
        self._issued = 0
        self._ended: list[int] = []
        # The data side: when it took each job, and from when on it can take another.
        self._jobs = 0
        self._taken: list[int] = []
        self._writer_idle = 0

    def start(self, load: dict, *, complete: Callable[[int], None]) -> None:
        """Take an instruction now; `complete` is told when it will complete."""
        self.ready = None
        self._planned = _Job(
            load,
            config=self._config,
            execute=self._execute,
            drain_delay=self._drain_delay,
            complete=complete,
        )
        self._planned_at = self._events.now + LoadPlanner.LATENCY
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the planned job to reader and writer, once both can take it."""
        waited_for = self._jobs - Loader.AHEAD
        if self._planned is None or self._reading is not None or waited_for >= len(self._taken):
            return
        cycle = max(self._planned_at, self._reader_idle)
        if waited_for >= 0:
            cycle = max(cycle, self._taken[waited_for] + 1)
        self._jobs += 1
        self._reading, self._planned = self._planned, None
        self._reading.handed_over = cycle
        self._bursts = deque(self._reading.bursts())
        self._next_issue = cycle + BurstReader.LATENCY
        self._issue_when_possible()
        self.ready = cycle + 1
        self.on_ready()

    def _issue_when_possible(self) -> None:
        if self._is_issuing or not self._bursts:
            return
        cycle = self._issue_cycle()
        if cycle is not None:
            self._is_issuing = True
            self._events.at(cycle, self._issue, order=LAST)

    def _issue_cycle(self) -> int | None:
        """When the next burst is asked for; None while that is not known."""
        waited_for = self._issued - self._config.outstanding_bursts
        if waited_for < 0:
            return self._next_issue
        if waited_for >= len(self._ended):
            return None
        return max(self._next_issue, self._ended[waited_for] + 1)

    def _issue(self) -> None:
        """Ask for bursts, up to the next event of any other unit."""
        cycle = self._events.now
        while True:
            if self._bus.fetch_granted == cycle:
                self._events.at(cycle + 1, self._issue, order=LAST)
                return
            job = self._reading
            beats = self._bursts.popleft()
            self._issued += 1
            self._next_issue = cycle + BurstReader.INTERVAL
            if not self._bursts:
                self._reading = None
                self._reader_idle = cycle + 1
            self._bus.grant(
                cycle, beats=beats, take=lambda first, n, job=job: self._take(job, first, n)
            )
            if not self._bursts:
                self._is_issuing = False
                self._hand_over()
                return
            cycle = self._issue_cycle()
            if cycle is None:
                self._is_issuing = False
                return
            if cycle >= self._events.next_cycle():
                self._events.at(cycle, self._issue, order=LAST)
                return

    def _take(self, job: _Job, first: int, beats: int) -> int | None:
        """Take the beats of a burst; see `read_bus.Take`."""
        if job.active is None:
            taken = max(job.handed_over + Loader.JOB_LATENCY, self._writer_idle)
            job.active = taken + 1
            self._taken.append(taken)
            self._hand_over()
        last = job.take(max(first, job.active), beats, record=self._record)
        if last is None:
            self._events.at(self._execute.drains_known_at(job.waits_for), self._bus.serve)
            return None
        if job.written is not None:
            self._writer_idle = job.written + 1
            cycle = job.written + Loader.COMPLETION_LATENCY
            job.complete(cycle)
        self._ended.append(last)
        self._issue_when_possible()
        return last

    def _record(self, first: int, last: int) -> None:
        self.beats.append((first, last))


class _Job:
    """A LOAD on its way.

    Attributes
    ----------
    handed_over : int
        When reader and writer got it.
    active : int or None
        Cycle from which on its beats are taken; None until that is known.
    written : int or None
        Cycle of its last write; None until all is written.
    waits_for : int
        Where `take` gave None: the cycle of which it must know what the drain writes.
    """

    def __init__(
        self,
        load: dict,
        *,
        config: AcceleratorConfig,
        execute: ExecuteUnit,
        drain_delay: int | None,
        complete: Callable[[int], None],
    ) -> None:
        self._config = config
        self._execute = execute
        self._drain_delay = drain_delay
        self.complete = complete
        self._source = load["source"]
        self._is_pixels = load["kind"] == LoadKind.PIXELS
        self._banks: list[int] = []
        if self._is_pixels:
            window = load["window"]
            y, x = np.indices((window["rows"], window["width"])).reshape(2, -1)
            banks, _ = locate(load["place"], window["row_begin"] + y, x, columns=config.columns)
            self._banks = banks.tolist()
        self._size, self._chunks = chunks_of(load, config)
        if not self._chunks:
            raise ValueError("a LOAD must load something")
        self._beats_left = transfer_beats(load, config)
        self._steps: Iterator[int | None] | None = None
        self._beats_taken = 0
        self._chunks_written = 0
        self._last_write = 0
        # When each pixel set out for its address, and was written; the last `RasterWalk.AHEAD`.
        self._set_out = 0
        self._writes: deque[int] = deque(maxlen=RasterWalk.AHEAD)
        self.handed_over = 0
        self.active: int | None = None
        self.written: int | None = None
        self.waits_for = 0

    def bursts(self) -> Iterator[int]:
        """Beats of its bursts: none crosses a multiple of the longest burst."""
        longest = self._config.burst_beats
        position = self._source // self._config.bus_bytes % longest
        left = self._beats_left
        while left:
            beats = min(left, longest - position)
            yield beats
            left -= beats
            position = 0

    def take(self, first: int, beats: int, *, record: Callable[[int, int], None]) -> int | None:
        """Take a burst; see `read_bus.Take`."""
        if self._size >= self._config.bus_bytes and not self._is_pixels:
            # At most one chunk a beat, and each is written at once.
            last = first + beats - 1
            record(first, last)
            self._last_write = last + Chunker.LATENCY
        else:
            if self._steps is None:
                self._steps = self._take_steps(first, beats, record=record)
            last = next(self._steps)
            if last is None:
                return None
            self._steps = None
        self._beats_left -= beats
        if not self._beats_left:
            self.written = self._last_write
        return last

    def _take_steps(self, first: int, beats: int, *, record) -> Iterator[int | None]:
        """Take a burst beat by beat; gives None while a write's cycle is not known."""
        cycle = first
        for _ in range(beats):
            # A beat waits until no whole chunk is left behind that on the output.
            cycle = max(cycle, self._last_write)
            record(cycle, cycle)
            self._beats_taken += 1
            whole = min(self._beats_taken * self._config.bus_bytes // self._size, self._chunks)
            for chunk in range(self._chunks_written, whole):
                write = max(self._last_write + 1, cycle + Chunker.LATENCY)
                if self._is_pixels:
                    write = max(write, self._locate_next())
                    if self._drain_delay is not None:
                        write += self._drain_delay
                    else:
                        while True:
                            while write >= self._execute.drains_known_until():
                                self.waits_for = write
                                yield None
                            if self._execute.drain_bank(write) != self._banks[chunk]:
                                break
                            write += 1
                    self._writes.append(write)
                self._last_write = write
            self._chunks_written = whole
            cycle += 1
        yield cycle - 1

    def _locate_next(self) -> int:
        """Cycle in which the next pixel's address is there."""
        set_out = self._set_out + 1 if self._set_out else self.active
        if len(self._writes) == RasterWalk.AHEAD:
            set_out = max(set_out, self._writes[0] + 1)
        self._set_out = set_out
        return set_out + RasterWalk.LATENCY - 1
