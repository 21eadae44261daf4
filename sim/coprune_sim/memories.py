"""What the units of the instruction simulator share: the memories, and the way that they fail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import TABLE_BYTES
from coprune_hw.contract.parameters import PARAMETER_BYTES, unpack_parameters
from coprune_hw.contract.planes import locate
from coprune_hw.contract.registers import ErrorCode
from coprune_hw.contract.slots import SlotStream, slot_bytes, unpack_slots

MAX_LOG2_STRIDE = 2
"""Planes are split into phases for strides up to 4."""


class MachineError(Exception):
    """The machine stopped.

    Parameters
    ----------
    code : ErrorCode
        What the status register would show.
    message : str
        What was expected and what came.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code


def require_address(condition: bool, *, message: str) -> None:
    """Stop the machine with `ErrorCode.ADDRESS` unless `condition` holds."""
    if not condition:
        raise MachineError(ErrorCode.ADDRESS, message)


@dataclass(frozen=True)
class Memories:
    """DRAM and on-chip memories, changed in place.

    Parameters
    ----------
    config : AcceleratorConfig
    dram : uint8 array [bytes]
        The program image.
    activation : int8 array [columns, activation_depth, lanes]
    unwritten : int array [columns, activation_depth]
        For words that EXECUTEs since the last barrier wrote, and which may still be on their way:
        their tile, counted from the last of all, which is 1. 0 elsewhere.
    slots : uint8 array [slot_depth, bytes of a slot word]
    parameters : uint8 array [parameter_depth, bytes of a record]
    tables : uint8 array [tables * TABLE_BYTES, 1]
    """

    config: AcceleratorConfig
    dram: np.ndarray
    activation: np.ndarray
    unwritten: np.ndarray
    slots: np.ndarray
    parameters: np.ndarray
    tables: np.ndarray

    @classmethod
    def poisoned(cls, image: bytes, *, config: AcceleratorConfig, seed: int) -> Memories:
        """DRAM that holds `image`, and on-chip memories full of random bytes.

        A program that reads what it has not written then gives a wrong result, not a lucky one.
        """
        rng = np.random.default_rng(seed)
        words = (config.columns, config.activation_depth)
        return cls(
            config=config,
            dram=np.frombuffer(image, np.uint8).copy(),
            activation=rng.integers(-128, 128, (*words, config.lanes), np.int8),
            unwritten=np.zeros(words, np.int64),
            slots=rng.integers(0, 256, (config.slot_depth, slot_bytes(config.lanes)), np.uint8),
            parameters=rng.integers(0, 256, (config.parameter_depth, PARAMETER_BYTES), np.uint8),
            tables=rng.integers(0, 256, (config.tables * TABLE_BYTES, 1), np.uint8),
        )

    def dram_span(self, offset: int, *, size_bytes: int) -> np.ndarray:
        """A view of `size_bytes` bytes of DRAM, for LOAD and STORE."""
        bus_bytes = self.config.bus_bytes
        require_address(
            offset % bus_bytes == 0,
            message=f"DRAM offset must be a multiple of {bus_bytes}, not {offset}",
        )
        require_address(
            offset + size_bytes <= len(self.dram),
            message=f"DRAM bytes {offset}..{offset + size_bytes - 1} must be below the program's "
            f"{len(self.dram)}",
        )
        return self.dram[offset : offset + size_bytes]

    def slot_stream(self, base: int, *, count: int) -> SlotStream:
        """Decode `count` slot words from `base` on."""
        return unpack_slots(self.slots[base : base + count].tobytes(), lanes=self.config.lanes)

    def channel_parameters(self, base: int) -> dict[str, np.ndarray]:
        """Decode the records of `lanes` channels from `base` on."""
        return unpack_parameters(self.parameters[base : base + self.config.lanes].tobytes())

    def table(self, number: int) -> np.ndarray:
        """The int8 values of an activation function, ordered by the argument's byte."""
        begin = number * TABLE_BYTES
        return self.tables[begin : begin + TABLE_BYTES, 0].view(np.int8)

    def locate(self, place: dict, *, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bank and address of pixels in a `Place`; stop where one is outside the memory."""
        columns, depth = self.config.columns, self.config.activation_depth
        check_bank_columns(place["log2_bank_columns"], columns=columns)
        require_address(
            place["log2_stride"] <= MAX_LOG2_STRIDE,
            message=f"a place's stride must be 1, 2 or 4, not {1 << place['log2_stride']}",
        )
        bank, address = locate(place, y, x, columns=columns)
        require_address(
            not (address >= depth).any(),
            message=f"activation address must be below {depth}, not {address.max(initial=0)}",
        )
        return bank, address


def check_bank_columns(log2_bank_columns: int, *, columns: int) -> None:
    """Stop the machine where a grid of banks is wider than the accelerator."""
    require_address(
        1 << log2_bank_columns <= columns,
        message=f"bank columns must be at most {columns}, not {1 << log2_bank_columns}",
    )
