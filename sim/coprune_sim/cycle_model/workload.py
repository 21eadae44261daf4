"""What the cycle model walks: a program's instructions, and where blocks begin in its slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coprune_hw.contract.config import AcceleratorConfig
from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.program import LayerRecord, MachineProgram
from coprune_hw.contract.slots import begins_block, slot_bytes
from coprune_hw.contract.work import transfer_beats


@dataclass(frozen=True)
class Workload:
    """A program as the cycle model sees it: nothing of its weights but where blocks begin.

    Parameters
    ----------
    config : AcceleratorConfig
    instructions : list of dict
        HEADER to END, as `coprune_hw.contract.instructions.decode_instruction` gives them.
    layers : tuple of LayerRecord
    image_bytes : int
        Of the memory image.
    find_blocks : callable
        From a LOAD of slots to a bool array, one for every slot: it begins a block.
    """

    config: AcceleratorConfig
    instructions: list[dict]
    layers: tuple[LayerRecord, ...]
    image_bytes: int
    find_blocks: Callable[[dict], np.ndarray]

    @classmethod
    def from_program(cls, program: MachineProgram) -> Workload:
        """The workload of a packed program."""
        lanes = program.config.lanes

        def find_blocks(load: dict) -> np.ndarray:
            size = load["count"] * slot_bytes(lanes)
            return begins_block(program.image[load["source"] :][:size], lanes=lanes)

        return cls(
            config=program.config,
            instructions=program.instructions(),
            layers=program.layers,
            image_bytes=len(program.image),
            find_blocks=find_blocks,
        )

    def of_unit(self, unit: Opcode) -> list[dict]:
        """A unit's instructions, in order."""
        return [
            instruction
            for instruction in self.instructions
            if instruction["prefix"]["opcode"] == unit
        ]

    def beats(self, unit: Opcode) -> int:
        """Beats that all LOAD or all STORE instructions move on the bus."""
        return sum(transfer_beats(instruction, self.config) for instruction in self.of_unit(unit))

    @cached_property
    def _slot_loads(self) -> list[dict]:
        """For every EXECUTE the LOAD of its slots: the last one before it to its address."""
        loads: dict[int, dict] = {}
        found = []
        for instruction in self.instructions:
            opcode = instruction["prefix"]["opcode"]
            if opcode == Opcode.LOAD and instruction["kind"] == LoadKind.SLOTS:
                loads[instruction["place"]["base"]] = instruction
            elif opcode == Opcode.EXECUTE:
                found.append(loads[instruction["slot_base"]])
        return found

    def blocks_of(self, execute: int) -> np.ndarray:
        """Which slots of an EXECUTE begin a block, counted among all EXECUTE instructions."""
        return self.find_blocks(self._slot_loads[execute])
