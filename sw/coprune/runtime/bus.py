"""What a driver needs of the way to an accelerator."""

from __future__ import annotations

from typing import Protocol


class Bus(Protocol):
    """A way to an accelerator's registers, and to the memory that it computes from.

    Parameters
    ----------
    memory_address : int
        Where the memory that the driver may use begins, as the accelerator sees it: a multiple of
        4096.
    memory_bytes : int
        Of that memory.
    """

    memory_address: int
    memory_bytes: int

    def read_register(self, address: int) -> int:
        """Return the 32-bit register at a byte address."""
        ...

    def write_register(self, address: int, value: int) -> None:
        """Write the 32-bit register at a byte address."""
        ...

    def read_memory(self, address: int, size: int) -> bytes:
        """Return bytes of the memory."""
        ...

    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes of the memory."""
        ...

    def wait(self) -> None:
        """Return when the interrupt is raised, or earlier: whoever waits looks at the status."""
        ...
