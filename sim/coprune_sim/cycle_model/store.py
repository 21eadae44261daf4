"""The STORE unit: when it reads words, sends bursts and completes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil

from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.work import transfer_beats
from coprune_hw.gateware.activation_memory import ActivationMemory
from coprune_hw.gateware.raster_walk import RasterWalk
from coprune_hw.gateware.store import Storer
from coprune_hw.gateware.stream_fifo import StreamFifo
from coprune_hw.gateware.word_reader import WordReader
from coprune_hw.gateware.write_burst import BurstWriter

from .contention import BlockDelay
from .events import EventQueue
from .execute import ExecuteUnit
from .memory import MemoryModel, Pauses


class StoreUnit:
    """Carries out STORE instructions, one after the other.

    Parameters
    ----------
    block_delay : BlockDelay or None
        By how much EXECUTE delays the read of every word; None finds it out.

    Attributes
    ----------
    ready : int or None
        Cycle from which on it can take the next instruction; None while that is not known.
    beats : list of int
        Cycles in which it sent a beat.
    on_ready : callable
        Called when `ready` becomes known.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        events: EventQueue,
        memory: MemoryModel,
        pauses: Pauses,
        execute: ExecuteUnit,
        block_delay: BlockDelay | None,
    ) -> None:
        self._config = config
        self._events = events
        self._memory = memory
        self._pauses = pauses
        self._block_delay = block_delay
        self._execute = execute
        self.ready: int | None = 0
        self.beats: list[int] = []
        self.on_ready: Callable[[], None] = lambda: None

    def start(self, store: dict, *, complete: Callable[[int], None]) -> None:
        """Take an instruction now; `complete` is told when it will complete."""
        self.ready = None
        job = _Job(
            store,
            accepted=self._events.now,
            config=self._config,
            memory=self._memory,
            pauses=self._pauses,
            block_delay=self._block_delay,
        )
        steps = job.store_words(self._execute)

        def go_on() -> None:
            # It waits until it is known what EXECUTE does.
            for cycle in steps:
                self._events.at(cycle, go_on)
                return
            self.beats += job.sent
            complete(job.completed)
            self.ready = job.completed + 1
            self.on_ready()

        go_on()


class _Job:
    """A STORE on its way, word by word and beat by beat."""

    def __init__(
        self,
        store: dict,
        *,
        accepted: int,
        config: AcceleratorConfig,
        memory: MemoryModel,
        pauses: Pauses,
        block_delay: BlockDelay | None,
    ) -> None:
        self._config = config
        self._block_delay = block_delay
        self._beat_cycles, self._delay = pauses.beat_cycles, pauses.delay_cycles
        self._handshake_delay = ceil(pauses.delay_cycles + pauses.beat_cycles - 1)
        self._response_latency = max(memory.write_latency_cycles, 1) + self._handshake_delay
        self._words = store["window"]["rows"] * store["window"]["width"]
        if not self._words:
            raise ValueError("a STORE must store something")
        self._position = store["destination"] // config.bus_bytes % config.burst_beats
        self._first_location = accepted + Storer.REQUEST_LATENCY
        self._read_latency = ActivationMemory.store_latency(config)
        self._beats = transfer_beats(store, config)
        # Beats: when each entered the buffer, stood at its output, was sent.
        self._entered: list[int] = []
        self._heads: list[int] = []
        self.sent: list[int] = []
        self._paced = 0.0
        # Bursts: when each could be gathered at the earliest, and what remains of it.
        self._gather = accepted + Storer.WRITE_LATENCY + BurstWriter.PLAN_LATENCY
        self._burst_end = 0
        self._confirmed: list[int] = []
        self.completed = 0

    def store_words(self, execute: ExecuteUnit) -> Iterator[int]:
        """Store all words; where it must know more of EXECUTE, it gives the cycle to go on in."""
        depth = WordReader.depth(self._read_latency)
        asked: list[int] = []
        left: list[int] = []
        set_out = self._first_location - RasterWalk.LATENCY
        for word in range(self._words):
            if word >= RasterWalk.AHEAD:
                set_out = max(set_out, asked[word - RasterWalk.AHEAD])
            set_out += 1
            ask = max(set_out + RasterWalk.LATENCY - 1, asked[-1] + 1 if asked else 0)
            if word >= depth:
                ask = max(ask, left[word - depth] + 1)
            if self._block_delay is not None:
                ask += self._block_delay.next_word()
            else:
                while True:
                    while ask >= execute.blocks_known_until():
                        yield execute.blocks_known_at(ask)
                    if not execute.reads_block(ask):
                        break
                    ask += 1
            asked.append(ask)
            there = max(ask + self._read_latency + StreamFifo.LATENCY, left[-1] + 1 if left else 0)
            left.append(self._pack(word, there))
        self.completed = self._confirmed[-1] + BurstWriter.IDLE_LATENCY + Storer.COMPLETION_LATENCY

    def _pack(self, word: int, there: int) -> int:
        """Turn a word into beats, or a part of one; returns when the word has left."""
        parts = self._config.lanes // self._config.bus_bytes
        if parts:
            for _ in range(parts):
                there = self._enter_buffer(there) + 1
            return there - 1
        # A joined beat stands in a register, which takes a word while a beat leaves it.
        leaves = max(there, self._entered[-1] if self._entered else 0)
        words = self._config.bus_bytes // self._config.lanes
        if (word + 1) % words == 0 or word == self._words - 1:
            self._enter_buffer(leaves + 1)
        return leaves

    def _enter_buffer(self, cycle: int) -> int:
        """Put a beat into the buffer of bursts, from `cycle` on; returns when it got in."""
        beat = len(self._entered)
        blocking = beat - 2 * self._config.burst_beats + 1
        if blocking >= 0:
            cycle = max(cycle, self._heads[blocking])
        self._entered.append(cycle)
        if self._burst_end == beat:
            self._begin_burst()
        if beat == self._burst_end - 1:
            self._send_burst()
        return cycle

    def _begin_burst(self) -> None:
        left = self._beats - len(self._entered) + 1
        self._burst_end += min(left, self._config.burst_beats - self._position)
        self._position = 0

    def _send_burst(self) -> None:
        """All beats of the burst are in the buffer."""
        gathered = max(self._gather, self._entered[-1] + 1)
        waited_for = len(self._confirmed) - self._config.outstanding_bursts
        if waited_for >= 0:
            gathered = max(gathered, self._confirmed[waited_for] + 1)
        addressed = gathered + 1 + self._handshake_delay
        self._gather = addressed + BurstWriter.PLAN_LATENCY
        for beat in range(len(self.sent), self._burst_end):
            there = self._entered[beat] + StreamFifo.BUFFERED_LATENCY
            self._heads.append(max(there, self.sent[-1] + 1 if self.sent else 0))
            self._paced = max(self._paced, there, addressed + 1) + self._beat_cycles
            self.sent.append(ceil(self._paced + self._delay) - 1)
        before = self._confirmed[-1] + 1 if self._confirmed else 0
        self._confirmed.append(max(self.sent[-1] + self._response_latency, before))
