"""What the units do to each other: exactly, or bounds of it."""

from __future__ import annotations

from enum import Enum
from math import ceil

import numpy as np

from coprune_hw.contract.instructions import INSTRUCTION_BITS, LoadKind, Opcode
from coprune_hw.contract.planes import locate
from coprune_hw.contract.work import chunks_of, drain_cycles, output_pixel, transfer_beats
from coprune_hw.gateware.fetch import PREFETCH_INSTRUCTIONS, Fetcher
from coprune_hw.gateware.load import Loader
from coprune_hw.gateware.raster_walk import RasterWalk

from .memory import Pauses
from .workload import Workload

_SETUP_CYCLES = Loader.TURNAROUND + RasterWalk.LATENCY + 1
"""Between the beats of one LOAD and the next."""


class Contention(Enum):
    """How the model takes it that two units want one thing in the same cycle.

    Fetch and LOAD share the read channels, the drain and LOAD a bank's write port, EXECUTE and
    STORE the banks' read ports. Without contention, and with the worst of it at all times, every
    cycle is a sum or a maximum of others and so never comes earlier where another comes later: a
    faster memory gives a lower bound, a slower one an upper bound.
    """

    NONE = 0
    EXACT = 1
    WORST = 2


class FetchWait:
    """How long the bursts of fetch may wait for the beats of LOAD, at the worst.

    Parameters
    ----------
    workload : Workload
    pauses : Pauses

    Attributes
    ----------
    last_pixels : int
        The last LOAD of pixels, counted among the LOAD instructions; -1 if there is none.
    """

    def __init__(self, workload: Workload, pauses: Pauses) -> None:
        config = workload.config
        self._delay = pauses.delay_cycles
        self._burst_instructions = Fetcher.burst_beats(config) * config.bus_bits / INSTRUCTION_BITS
        self._bursts = 0
        pixel_writes = 1 + longest_drain_run(workload)
        self.last_pixels = -1
        slowest = {False: pauses.beat_cycles, True: pauses.beat_cycles}
        loads = 0
        # Of all instructions before: cycles in which their LOADs take beats.
        self._loaded = [0.0]
        for instruction in workload.instructions:
            cycles = 0.0
            if instruction["prefix"]["opcode"] == Opcode.LOAD:
                is_pixels = instruction["kind"] == LoadKind.PIXELS
                size, _ = chunks_of(instruction, config)
                writes = -(-config.bus_bytes // size) * (pixel_writes if is_pixels else 1)
                beat_cycles = max(pauses.beat_cycles, writes)
                slowest[True] = max(slowest[True], beat_cycles)
                if is_pixels:
                    self.last_pixels = loads
                else:
                    slowest[False] = max(slowest[False], beat_cycles)
                loads += 1
                cycles = transfer_beats(instruction, config) * beat_cycles + _SETUP_CYCLES
            self._loaded.append(self._loaded[-1] + cycles)
        self._longest = {
            is_loading: config.outstanding_bursts * (config.burst_beats * cycles + _SETUP_CYCLES)
            for is_loading, cycles in slowest.items()
        }

    def next_burst(self, *, is_loading_pixels: bool) -> int:
        """The wait of the next burst, in cycles: only LOADs before it can be under way."""
        fetched = min(int(self._bursts * self._burst_instructions), len(self._loaded) - 1)
        self._bursts += 1
        wait = min(self._loaded[fetched], self._longest[is_loading_pixels])
        return ceil(wait + self._delay) if wait else 0


class BlockDelay:
    """By how much EXECUTE delays the words that STORE reads.

    Parameters
    ----------
    longest : int
        Most consecutive cycles in which EXECUTE reads a block: the delay of a word.
    total : int
        All cycles in which it does, while STORE reads.
    """

    def __init__(self, *, longest: int = 0, total: int = 0) -> None:
        self._longest = longest
        self._left = total

    @classmethod
    def worst(cls, workload: Workload) -> BlockDelay:
        """The delay if every word meets the longest run of blocks, as long as there are any."""
        longest = total = number = 0
        has_store = False
        for instruction in workload.instructions:
            opcode = instruction["prefix"]["opcode"]
            has_store |= opcode == Opcode.STORE
            if opcode == Opcode.EXECUTE:
                # A STORE waits for the EXECUTE before it, so only those behind it run beside it.
                if has_store:
                    tiles = instruction["tile_rows"] * instruction["tile_columns"]
                    blocks = workload.blocks_of(number)
                    longest = max(longest, _longest_run(np.tile(blocks, 2)))
                    if blocks.all():
                        longest = max(longest, tiles * len(blocks))
                    total += tiles * int(blocks.sum())
                number += 1
        return cls(longest=longest, total=total)

    def next_word(self) -> int:
        """The delay of the next word, in cycles."""
        delay = min(self._longest, self._left)
        self._left -= delay
        return delay


def _longest_run(flags: np.ndarray) -> int:
    """Most consecutive True values."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def longest_drain_run(workload: Workload) -> int:
    """Most consecutive words that the drain may write to one bank, while LOAD writes pixels."""
    longest = 0
    columns = workload.config.columns
    loads = [
        index
        for index, instruction in enumerate(workload.instructions)
        if instruction["prefix"]["opcode"] == Opcode.LOAD and instruction["kind"] == LoadKind.PIXELS
    ]
    # An EXECUTE may have been dispatched before a LOAD of pixels that is not done yet.
    before = workload.instructions[: loads[-1] + workload.config.queue_depth] if loads else []
    for execute in before:
        if execute["prefix"]["opcode"] == Opcode.EXECUTE:
            log2_bank_columns = execute["log2_bank_columns"]
            tile, column = np.divmod(
                np.arange(execute["tile_rows"] * execute["tile_columns"] * columns), columns
            )
            tile_row, tile_column = np.divmod(tile, execute["tile_columns"])
            y = tile_row * (columns >> log2_bank_columns) + (column >> log2_bank_columns)
            x = (tile_column << log2_bank_columns) + (column & ((1 << log2_bank_columns) - 1))
            y, x = output_pixel(execute, execute["row_begin"] + y, x)
            bank, _ = locate(execute["output"], y, x, columns=columns)
            ends = np.flatnonzero(np.diff(bank, append=-1))
            run = int(np.diff(ends, prepend=-1).max())
            longest = max(longest, run * drain_cycles(execute, workload.config) // columns)
    return longest


def stolen_cycles(workload: Workload, pauses: Pauses) -> int:
    """Cycles that all bursts of fetch together can take from LOAD."""
    config = workload.config
    instructions = len(workload.instructions) + PREFETCH_INSTRUCTIONS + 1
    beats = instructions * INSTRUCTION_BITS // config.bus_bits
    bursts = -(-beats // Fetcher.burst_beats(config))
    return ceil(beats * pauses.beat_cycles) + bursts
