"""The way to an accelerator on a Zynq, through PYNQ."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from pynq.buffer import PynqBuffer


class Mmio(Protocol):
    """What is needed of `pynq.MMIO`."""

    def read(self, offset: int) -> int:
        """Return a 32-bit register."""
        ...

    def write(self, offset: int, data: int) -> None:
        """Write a 32-bit register."""
        ...


class PynqBus:
    """Registers through a memory mapping, and a contiguous piece of the processors' memory.

    The processors cache that memory, and the accelerator does not see their caches: what is written
    is flushed, and what is read is invalidated before.

    Parameters
    ----------
    registers
        The `pynq.MMIO` of the accelerator: ``overlay.accelerator.mmio``.
    memory_bytes : int
        To allocate, from the kernel's contiguous memory.
    poll_seconds : float
        Between two looks at the machine's status.

    Raises
    ------
    ImportError
        PYNQ is not installed.
    RuntimeError
        There is not so much contiguous memory.

    Notes
    -----
    `wait` polls. An image takes milliseconds at most, and PYNQ's interrupts need an event loop of
    their own, while that of a notebook is running already.
    """

    def __init__(
        self, registers: Mmio, *, memory_bytes: int = 16 << 20, poll_seconds: float = 0.0001
    ) -> None:
        from pynq import allocate

        self._registers = registers
        self._buffer = allocate(shape=(memory_bytes,), dtype="u1", cacheable=True)
        self._poll_seconds = poll_seconds
        self.memory_address, self.memory_bytes = self._buffer.device_address, memory_bytes

    def close(self) -> None:
        """Free the memory."""
        self._buffer.freebuffer()

    def read_register(self, address: int) -> int:
        """Return the register at a byte address."""
        return self._registers.read(address)

    def write_register(self, address: int, value: int) -> None:
        """Write the register at a byte address."""
        self._registers.write(address, value)

    def read_memory(self, address: int, size: int) -> bytes:
        """Return bytes of the memory."""
        part = self._part(address, size)
        part.invalidate()
        return part.tobytes()

    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes of the memory."""
        part = self._part(address, len(content))
        part[:] = np.frombuffer(content, np.uint8)
        part.flush()

    def wait(self) -> None:
        """Wait a little."""
        time.sleep(self._poll_seconds)

    def _part(self, address: int, size: int) -> PynqBuffer:
        begin = address - self.memory_address
        if not 0 <= begin <= begin + size <= self.memory_bytes:
            raise ValueError(
                f"{size:,} bytes at {address:#x} are not in the memory of the bus, "
                f"{self.memory_bytes:,} bytes at {self.memory_address:#x}"
            )
        return self._buffer[begin : begin + size]
