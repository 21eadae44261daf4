"""The instruction simulator: executes the packed memory image of a program, and nothing else.

It knows the contract and not the compiler. It is exact in what the machine computes and in the
order in which its drain writes; it says nothing about time.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coprune_hw.contract import CONTRACT_VERSION
from coprune_hw.contract.instructions import (
    INSTRUCTION_BYTES,
    LoadKind,
    Opcode,
    decode_instruction,
)
from coprune_hw.contract.program import DrainedWords, MachineProgram, collect_layers
from coprune_hw.contract.registers import ErrorCode
from coprune_hw.contract.work import UNITS, token_partners

from .execute import execute
from .memories import MachineError, Memories, require_address

__all__ = ["PREFERENCES", "MachineError", "MachineRun", "run"]

TOKEN_MASK = 0xFF
"""A token counter has 8 bits."""

PREFERENCES = {
    "load": (Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE),
    "execute": (Opcode.EXECUTE, Opcode.LOAD, Opcode.STORE),
    "store": (Opcode.STORE, Opcode.EXECUTE, Opcode.LOAD),
}
"""Which unit goes first where tokens let several start.

Between them they run every instruction as early, and every one as late, as tokens and queues allow.
"""


@dataclass(frozen=True)
class MachineRun:
    """What a program did.

    Parameters
    ----------
    program : MachineProgram
    output : int8 array [channels, height, width]
        The program's output region.
    drained : DrainedWords
        Every word that the drain wrote, in hardware order.
    instructions : int
        Instructions fetched, HEADER and END included.
    """

    program: MachineProgram
    output: np.ndarray
    drained: DrainedWords
    instructions: int

    @cached_property
    def layers(self) -> dict[str, np.ndarray]:
        """Every layer's output, int8 [channels, height, width], by the layer's name."""
        return collect_layers(self.program, self.drained)


def run(
    program: MachineProgram, inputs: np.ndarray, *, eager: str = "load", seed: int = 0
) -> MachineRun:
    """Execute a program's memory image.

    On-chip memories start with random bytes, and what one EXECUTE wrote reads wrong in the next as
    far as that has no `barrier` for it. With complete tokens and barriers the result is the same
    for every `eager` and `seed`; where one is missing, some of them give another result, or an
    error.

    Parameters
    ----------
    program : MachineProgram
    inputs : int8 array [channels, height, width]
        Placed in the program's input region.
    eager : str
        Which of `PREFERENCES` orders the units.
    seed : int
        Of the bytes that on-chip memories start with.

    Raises
    ------
    MachineError
        The machine stopped; `code` is what its status register would show.
    ValueError
        `inputs` is not what the input region holds, or `eager` is unknown.
    """
    if eager not in PREFERENCES:
        raise ValueError(f"eager must be one of {', '.join(PREFERENCES)}, not {eager!r}")
    memories = Memories.poisoned(program.image, config=program.config, seed=seed)
    pixels = np.frombuffer(program.input.pack(inputs), np.uint8)
    memories.dram[program.input.offset :][: len(pixels)] = pixels
    machine = _Machine(memories)
    machine.run(PREFERENCES[eager])
    result = memories.dram[program.output.offset :][: program.output.size_bytes]
    return MachineRun(
        program=program,
        output=program.output.unpack(result.tobytes()),
        drained=machine.drained_words(),
        instructions=machine.fetch_offset // INSTRUCTION_BYTES,
    )


class _Machine:
    """Fetch, three queues, tokens, and the units LOAD and STORE."""

    def __init__(self, memories: Memories) -> None:
        self.memories = memories
        self.config = memories.config
        self.fetch_offset = 0
        self.queues = {unit: deque() for unit in UNITS}
        self.tokens: Counter[tuple[Opcode, Opcode]] = Counter()
        self.drained: list[DrainedWords] = []

    def run(self, preference: tuple[Opcode, ...]) -> None:
        """Run from HEADER until END is fetched and all queues are empty."""
        self.fetched = self._fetch()
        while (unit := self._next_unit(preference)) is not None:
            self._step(unit)
        waiting = [unit.name for unit in UNITS if self.queues[unit]]
        if waiting:
            raise MachineError(
                ErrorCode.DEADLOCK, f"{', '.join(waiting)} must get tokens that nobody will send"
            )

    def drained_words(self) -> DrainedWords:
        """All words drained so far."""
        parts = self.drained or [
            DrainedWords(
                bank=np.zeros(0, np.int64),
                address=np.zeros(0, np.int64),
                word=np.zeros((0, self.config.lanes), np.int8),
            )
        ]
        return DrainedWords(
            bank=np.concatenate([part.bank for part in parts]),
            address=np.concatenate([part.address for part in parts]),
            word=np.concatenate([part.word for part in parts]),
        )

    def _fetch(self) -> dict:
        begin, end = self.fetch_offset, self.fetch_offset + INSTRUCTION_BYTES
        require_address(
            end <= len(self.memories.dram),
            message=f"instruction at {begin} must be within the program's "
            f"{len(self.memories.dram)} bytes",
        )
        self.fetch_offset = end
        try:
            instruction = decode_instruction(self.memories.dram[begin:end].tobytes())
        except ValueError as error:
            if begin == 0:
                raise MachineError(
                    ErrorCode.GEOMETRY, f"HEADER must come first: {error}"
                ) from error
            raise MachineError(ErrorCode.BAD_OPCODE, f"at {begin}: {error}") from error
        opcode = instruction["prefix"]["opcode"]
        if begin == 0 and opcode != Opcode.HEADER:
            raise MachineError(
                ErrorCode.GEOMETRY, f"HEADER must come first, not {Opcode(opcode).name}"
            )
        if opcode == Opcode.HEADER:
            self._check_header(instruction)
        return instruction

    def _check_header(self, instruction: dict) -> None:
        for name, expected in (
            ("version", CONTRACT_VERSION),
            ("geometry_hash", self.config.geometry_hash),
        ):
            if instruction[name] != expected:
                raise MachineError(
                    ErrorCode.GEOMETRY, f"{name} must be {expected}, not {instruction[name]}"
                )

    def _next_unit(self, preference: tuple[Opcode, ...]) -> Opcode | None:
        self._dispatch()
        for unit in preference:
            queue = self.queues[unit]
            if queue and all(
                self.tokens[sender, unit]
                for sender in token_partners(queue[0]["prefix"], action="wait")
            ):
                return unit
        return None

    def _dispatch(self) -> None:
        """Move on to the first instruction that no queue takes yet, or to END."""
        while (opcode := self.fetched["prefix"]["opcode"]) != Opcode.END:
            if opcode != Opcode.HEADER:
                if len(self.queues[opcode]) == self.config.queue_depth:
                    return
                self.queues[opcode].append(self.fetched)
            self.fetched = self._fetch()

    def _step(self, unit: Opcode) -> None:
        instruction = self.queues[unit].popleft()
        for sender in token_partners(instruction["prefix"], action="wait"):
            self.tokens[sender, unit] -= 1
        actions = {
            Opcode.LOAD: self._load,
            Opcode.EXECUTE: self._execute,
            Opcode.STORE: self._store,
        }
        actions[unit](instruction)
        for receiver in token_partners(instruction["prefix"], action="signal"):
            self.tokens[unit, receiver] = (self.tokens[unit, receiver] + 1) & TOKEN_MASK

    def _load(self, instruction: dict) -> None:
        if instruction["kind"] == LoadKind.PIXELS:
            self._load_pixels(instruction)
        elif instruction["kind"] == LoadKind.SLOTS:
            self._load_chunks(instruction, self.memories.slots)
        elif instruction["kind"] == LoadKind.PARAMETERS:
            self._load_chunks(instruction, self.memories.parameters)
        else:
            self._load_chunks(instruction, self.memories.tables)

    def _load_chunks(self, instruction: dict, memory: np.ndarray) -> None:
        base, count = instruction["place"]["base"], instruction["count"]
        depth, chunk_bytes = memory.shape
        require_address(
            base + count <= depth, message=f"LOAD must end at {depth}, not at {base + count}"
        )
        chunks = self.memories.dram_span(instruction["source"], size_bytes=count * chunk_bytes)
        memory[base : base + count] = chunks.reshape(count, chunk_bytes)

    def _load_pixels(self, instruction: dict) -> None:
        pixel_bytes, lanes = instruction["pixel_bytes"], self.config.lanes
        require_address(
            1 <= pixel_bytes <= lanes,
            message=f"pixel_bytes must be in 1..{lanes}, not {pixel_bytes}",
        )
        bank, address = self._locate_window(instruction)
        pixels = self.memories.dram_span(instruction["source"], size_bytes=len(bank) * pixel_bytes)
        words = np.zeros((len(bank), lanes), np.int8)
        words[:, :pixel_bytes] = pixels.view(np.int8).reshape(-1, pixel_bytes)
        self.memories.activation[bank, address] = words
        self.memories.unwritten[bank, address] = 0

    def _execute(self, instruction: dict) -> None:
        self.drained.append(execute(instruction, memories=self.memories))

    def _store(self, instruction: dict) -> None:
        bank, address = self._locate_window(instruction)
        words = self.memories.activation[bank, address]
        span = self.memories.dram_span(instruction["destination"], size_bytes=words.nbytes)
        span[:] = words.view(np.uint8).ravel()

    def _locate_window(self, instruction: dict) -> tuple[np.ndarray, np.ndarray]:
        """Bank and address of a window's pixels in raster order."""
        window = instruction["window"]
        require_address(
            window["rows"] >= 1 and window["width"] >= 1,
            message=f"a window must have pixels, not {window['rows']} rows of {window['width']}",
        )
        y, x = np.indices((window["rows"], window["width"])).reshape(2, -1)
        return self.memories.locate(instruction["place"], y=window["row_begin"] + y, x=x)
