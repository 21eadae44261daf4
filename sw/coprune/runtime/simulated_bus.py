"""The way to an accelerator that Verilator simulates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coprune_hw.contract import AcceleratorConfig

# A board runs the driver without Verilator and cocotb.
if TYPE_CHECKING:
    from typing import Self

WAIT_CYCLES = 1_000_000
"""That the simulated machine computes in one `SimulatedBus.wait` at most."""


class SimulatedBus:
    """The RTL behind AXI, with a memory: a process of its own, which stays until `close`.

    Parameters
    ----------
    config
    memory_bytes
        At least; a power of two is taken.
    latency
        Cycles from an address to the memory's answer.

    Raises
    ------
    RuntimeError
        The Verilator build failed.
    """

    def __init__(
        self, config: AcceleratorConfig, *, memory_bytes: int = 1 << 22, latency: int = 20
    ) -> None:
        from coprune_sim.cosim import runner
        from coprune_sim.cosim.host import PROGRAM_ADDRESS
        from coprune_sim.cosim.process import SimulationProcess
        from coprune_sim.cosim.toolchain import DRIVER

        self.memory_address = PROGRAM_ADDRESS
        whole = runner.memory_size(bytes(memory_bytes))
        self.memory_bytes = whole - PROGRAM_ADDRESS
        model = runner.build_accelerator(config, memory_bytes=whole)
        self._process = SimulationProcess(model, DRIVER)
        ports = runner.settings(
            latency=latency, seed=None, error_address=None, timeout_cycles=WAIT_CYCLES
        )
        for name, value in ports.items():
            self._process.send(f"set {name} {value}")
        self._process.send("reset")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the simulation."""
        self._process.close()

    def read_register(self, address: int) -> int:
        """Return the register at a byte address."""
        return int(self._process.ask(f"read {address}"))

    def write_register(self, address: int, value: int) -> None:
        """Write the register at a byte address."""
        self._process.send(f"write {address} {value}")

    def read_memory(self, address: int, size: int) -> bytes:
        """Return bytes of the memory, without simulated time."""
        return self._process.dump(address, size)

    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes of the memory, without simulated time."""
        self._process.load(address, content)

    def wait(self) -> None:
        """Let the machine compute until its interrupt, for `WAIT_CYCLES` at most.

        Raises
        ------
        RuntimeError
            It broke a rule of AXI.
        """
        from coprune_sim.cosim.result import PROTOCOL_VIOLATIONS

        violation = int(self._process.ask("run").split()[1])
        if violation:
            raise RuntimeError(f"AXI: {PROTOCOL_VIOLATIONS[violation]}")
