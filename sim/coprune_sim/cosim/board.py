"""The model of a whole system, whose pins are those of a board: see board.cpp."""

from __future__ import annotations

from pathlib import Path

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.system.bus_arbiter import BusArbiter
from coprune_hw.system.on_chip_memory import OnChipMemory
from coprune_hw.system.system import TOP_NAME, System, to_verilog
from coprune_sim.cycle_model import MemoryModel

from .runner import keep_verilog
from .toolchain import SOURCES, Model, build_model

BOARD = SOURCES / "board.cpp"

BOARD_MEMORY = MemoryModel(
    latency_cycles=BusArbiter.READ_LATENCY + OnChipMemory.READ_LATENCY,
    write_latency_cycles=BusArbiter.WRITE_LATENCY + OnChipMemory.WRITE_LATENCY,
)
"""The memory as the machine sees it while the host leaves it alone."""


def build_board(
    config: AcceleratorConfig,
    *,
    memory_bytes: int,
    bit_cycles: int,
    build_folder: Path | None = None,
) -> Model:
    """Build the simulation of a system with memory on the chip.

    Parameters
    ----------
    config : AcceleratorConfig
    memory_bytes, bit_cycles : int
        As `OnChipMemory` and `System` have them.
    build_folder : Path, optional
        Where to keep the build, instead of the user's cache folder.

    Raises
    ------
    RuntimeError
        The build failed; with the end of its log.
    """
    memory = OnChipMemory(config, size_bytes=memory_bytes)
    system = System(config, memory=memory, bit_cycles=bit_cycles)
    parameters = {**config.to_dict(), "memory_bytes": memory_bytes, "bit_cycles": bit_cycles}
    verilog = keep_verilog(TOP_NAME, parameters, lambda: to_verilog(system))
    return build_model([SOURCES / "board.vlt"], top=TOP_NAME, verilog=verilog, folder=build_folder)
