"""The EXECUTE unit: when it issues slots, when the drain writes, when it completes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.planes import locate
from coprune_hw.contract.work import drain_cycles, output_pixel
from coprune_hw.gateware import execute as gateware
from coprune_hw.gateware.activation_memory import ActivationMemory
from coprune_hw.gateware.drain import Drain
from coprune_hw.gateware.sequencer import MOST_IN_FLIGHT, Sequencer
from coprune_hw.gateware.slot_memory import SlotMemory

from .events import NEVER, EventQueue


@dataclass(frozen=True)
class ExecuteTimes:
    """When an EXECUTE did what.

    Parameters
    ----------
    execute : dict
        The instruction.
    accepted, started : int
        Cycles in which it was taken, and in which its barrier let it pass.
    first_last : int
        Cycle of the first tile's last slot.
    tiles, slots, period : int
        Tiles, slots of each, and cycles from a tile's last slot to the next tile's.
    """

    execute: dict
    accepted: int
    started: int
    first_last: int
    tiles: int
    slots: int
    period: int

    @property
    def last(self) -> int:
        """Cycle of the last slot of all."""
        return self.first_last + (self.tiles - 1) * self.period

    @property
    def unhindered(self) -> int:
        """Cycle in which the first tile's last slot would have been issued at the earliest."""
        return self.started + self.slots


class ExecuteUnit:
    """Carries out EXECUTE instructions in order.

    Parameters
    ----------
    count : int
        EXECUTE instructions of the program.
    blocks_of : callable
        From an EXECUTE's number to a bool array, one for every slot: it begins a block.

    Attributes
    ----------
    ready : int
        Cycle from which on it can take the next instruction.
    times : list of ExecuteTimes
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        count: int,
        blocks_of: Callable[[int], np.ndarray],
        events: EventQueue,
    ) -> None:
        self._config = config
        self._count = count
        self._blocks_of = cache(blocks_of)
        self._events = events
        self._fill = gateware.ExecuteUnit.fill_latency(config)
        sums_latency = gateware.ExecuteUnit.sums_latency(config)
        self._parameters_latency = Drain.parameters_latency(config, sums_latency=sums_latency)
        # From a first tile's last slot to the cycle after the drain let go of its parameters.
        self._held_latency = sums_latency + Drain.held_latency(config) + 1
        # From a slot that begins a block to the cycle in which STORE cannot ask.
        self._block_latency = SlotMemory.LATENCY + ActivationMemory.BLOCKED_LATENCY
        self._drained: list[int] = []
        self.ready = 0
        self.times: list[ExecuteTimes] = []

    def start(self, execute: dict, *, complete: Callable[[int], None]) -> None:
        """Take an instruction now; `complete` is told when it will complete."""
        accepted = self._events.now
        started = accepted + Sequencer.START_LATENCY
        if execute["barrier"]:
            started = max(started, self._tile_written(execute["barrier"] - 1) + 1)
        slots = execute["slot_count"]
        tiles = execute["tile_rows"] * execute["tile_columns"]
        draining = drain_cycles(execute, self._config)
        period = max(slots, draining)
        job_seen = started + Drain.JOB_LATENCY
        first_last = started + slots
        if self.times:
            before = self.times[-1]
            job_seen = max(job_seen, before.first_last + self._held_latency)
            first_last = max(first_last, before.last + drain_cycles(before.execute, self._config))
            if execute["barrier"]:
                first_last = max(first_last, self._drained[-1] + 1)
        first_last = max(first_last, job_seen + self._parameters_latency)
        times = ExecuteTimes(execute, accepted, started, first_last, tiles, slots, period)
        self.times.append(times)
        self._drained.append(times.last + self._fill + draining - 1)
        self.ready = times.last + 1
        if len(self.times) >= MOST_IN_FLIGHT:
            self.ready = max(self.ready, self._drained[-MOST_IN_FLIGHT] + 1)
        complete(self._drained[-1] + Drain.COMPLETION_LATENCY)

    def _tile_written(self, later_tiles: int) -> int:
        """When the last word of the tile was written behind which so many others come; -1: none."""
        for times in reversed(self.times):
            if later_tiles < times.tiles:
                draining = drain_cycles(times.execute, self._config)
                return times.last - later_tiles * times.period + self._fill + draining - 1
            later_tiles -= times.tiles
        return -1

    def drains_known_until(self) -> int:
        """First cycle of which `drain_bank` cannot say yet what the drain writes."""
        return self._slots_known_until() + self._fill

    def drains_known_at(self, cycle: int) -> int:
        """From when on `drain_bank` can say it of a cycle, at the latest."""
        return cycle - self._fill - Sequencer.START_LATENCY

    def blocks_known_until(self) -> int:
        """First cycle of which `reads_block` cannot say yet whether EXECUTE reads the banks."""
        return self._slots_known_until() + self._block_latency

    def blocks_known_at(self, cycle: int) -> int:
        """From when on `reads_block` can say it of a cycle, at the latest."""
        return cycle - self._block_latency - Sequencer.START_LATENCY

    def drain_bank(self, cycle: int) -> int | None:
        """The bank that the drain writes in a cycle, if it writes."""
        columns = self._config.columns
        cycle -= self._fill
        for times in reversed(self.times):
            if times.first_last <= cycle:
                tile, word = divmod(cycle - times.first_last, times.period)
                draining = drain_cycles(times.execute, self._config)
                if tile >= times.tiles or word >= draining:
                    return None
                return self._bank(times.execute, tile, word * columns // draining)
        return None

    def reads_block(self, cycle: int) -> bool:
        """Whether STORE cannot ask in a cycle, as EXECUTE reads the banks."""
        cycle -= self._block_latency
        for index in reversed(range(len(self.times))):
            times = self.times[index]
            if times.started < cycle:
                slot = _slot_at(times, cycle)
                return slot is not None and bool(self._blocks_of(index)[slot])
        return False

    def _slots_known_until(self) -> int:
        if len(self.times) == self._count:
            return NEVER
        # An instruction that is taken now or later issues its first slot so much later.
        return max(self._events.now, self.ready) + Sequencer.START_LATENCY + 1

    def _bank(self, execute: dict, tile: int, column: int) -> int | None:
        """Bank of a tile's pixel, if that is inside the output."""
        log2_bank_columns = execute["log2_bank_columns"]
        bank_rows = self._config.columns >> log2_bank_columns
        tile_row, tile_column = divmod(tile, execute["tile_columns"])
        y = execute["row_begin"] + tile_row * bank_rows + (column >> log2_bank_columns)
        x = (tile_column << log2_bank_columns) + (column & ((1 << log2_bank_columns) - 1))
        y, x = output_pixel(execute, y, x)
        if y >= execute["output_height"] or x >= execute["output_width"]:
            return None
        return locate(execute["output"], y, x, columns=self._config.columns)[0]


def _slot_at(times: ExecuteTimes, cycle: int) -> int | None:
    """The slot that is issued in a cycle, counted within its tile; None where none is."""
    if cycle <= times.first_last:
        tile_begin, last = times.started + 1, times.first_last
    else:
        tile = -(-(cycle - times.first_last) // times.period)
        if tile >= times.tiles:
            return None
        last = times.first_last + tile * times.period
        tile_begin = last - times.period + 1
    if cycle == last:
        return times.slots - 1
    slot = cycle - tile_begin
    return slot if slot < times.slots - 1 else None
