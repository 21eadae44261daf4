"""A board that Verilator simulates, at the other end of a serial line."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from coprune.runtime.link_bus import LinkBus
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.link.uart import FRAME_BITS

# A board runs the driver without Verilator and cocotb.
if TYPE_CHECKING:
    from typing import Self

TIMEOUT_BYTES = 128
"""As long as so many bytes take, a port waits for one: longer than the words of a frame need to be
read from the memory."""


class SimulatedBoard:
    """The port to a `coprune_hw.system.System` in a process of its own, which stays until `close`.

    What is written to it goes bit by bit to the system's UART. Time passes only while it is read.

    Parameters
    ----------
    config
    memory_bytes
        On the chip, a multiple of 4096.
    bit_cycles
        Clock cycles of a bit, at least 4.
    errors
        Part of the bytes that are changed or lost, to the board and from it.
    seed
        Of the errors.

    Raises
    ------
    RuntimeError
        The Verilator build failed.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        memory_bytes: int = 1 << 20,
        bit_cycles: int = 4,
        errors: float = 0.0,
        seed: int = 0,
    ) -> None:
        from coprune_sim.cosim.board import BOARD, build_board
        from coprune_sim.cosim.process import SimulationProcess

        model = build_board(config, memory_bytes=memory_bytes, bit_cycles=bit_cycles)
        self.errors = errors
        self._random = random.Random(seed)
        self._received = b""
        self._timeout_cycles = TIMEOUT_BYTES * FRAME_BITS * bit_cycles
        self._process = SimulationProcess(model, BOARD)
        self._process.send(f"begin {bit_cycles}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the simulation."""
        self._process.close()

    @property
    def cycles(self) -> int:
        """Clock cycles that have passed."""
        return int(self._process.ask("cycles"))

    def write(self, content: bytes) -> None:
        """Put bytes on the line."""
        content = self._damage(content)
        if content:
            self._process.send(f"send {content.hex()}")

    def read(self, size: int) -> bytes:
        """Return so many bytes, or those that came before the line was silent for too long."""
        while len(self._received) < size:
            missing = size - len(self._received)
            command = f"receive {missing} {self._timeout_cycles}"
            content = bytes.fromhex(self._process.ask(command))
            self._received += self._damage(content)
            if len(content) < missing:
                break
        content, self._received = self._received[:size], self._received[size:]
        return content

    def reset_input_buffer(self) -> None:
        """Forget what has come."""
        self._received = b""
        self._process.send("forget")

    def read_memory(self, address: int, size: int) -> bytes:
        """Return bytes of the memory, without simulated time."""
        return self._process.dump(address, size)

    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes of the memory, without simulated time."""
        self._process.load(address, content)

    def _damage(self, content: bytes) -> bytes:
        damaged = bytearray()
        for byte in content:
            if self._random.random() >= self.errors:
                damaged.append(byte)
            elif self._random.random() < 0.5:
                damaged.append(byte ^ 1 << self._random.randrange(8))
        return bytes(damaged)


class PreloadedBus(LinkBus):
    """A link to a simulated board, but its memory is read and written without it, in no time."""

    def __init__(self, board: SimulatedBoard) -> None:
        super().__init__(board, poll_seconds=0)
        self._board = board

    def read_memory(self, address: int, size: int) -> bytes:
        """Return bytes of the memory."""
        return self._board.read_memory(address - self.memory_address, size)

    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes of the memory."""
        self._board.write_memory(address - self.memory_address, content)
