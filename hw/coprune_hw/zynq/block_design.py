"""The accelerator beside the processing system: what `build.tcl` needs to know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coprune_hw.contract import AcceleratorConfig

from .board import ZynqBoard
from .ip_core import IP_NAME, REGION_BYTES, version

BUILD_SCRIPT = Path(__file__).parent / "build.tcl"
REGISTERS_ADDRESS = 0x43C0_0000
"""Where the host finds the registers: in the region of M_AXI_GP0."""

_PORT_BITS = 64
_AXI3_BURST_BEATS = 16
_MHZ = range(10, 251)


def fit_to_port(config: AcceleratorConfig) -> AcceleratorConfig:
    """Shorten bursts to those of AXI3, which the memory ports of a Zynq-7000 speak.

    Programs are the same; an interconnect has no bursts to split.

    Raises
    ------
    ValueError
        The bus is wider than the port.
    """
    if config.bus_bits > _PORT_BITS:
        raise ValueError(
            f"bus_bits must be at most {_PORT_BITS} for a memory port of a Zynq-7000, "
            f"not {config.bus_bits}"
        )
    return replace(config, burst_beats=min(config.burst_beats, _AXI3_BURST_BEATS))


def settings_script(board: ZynqBoard, config: AcceleratorConfig, *, mhz: int) -> str:
    """Tcl that sets the variables of `BUILD_SCRIPT`.

    Parameters
    ----------
    board : ZynqBoard
    config : AcceleratorConfig
    mhz : int
        Of FCLK_CLK0, the only clock.

    Raises
    ------
    ValueError
        The processing system makes no such clock.
    """
    if mhz not in _MHZ:
        raise ValueError(f"mhz must be from {_MHZ.start} to {_MHZ.stop - 1}, not {mhz}")
    settings = {
        "part": board.part,
        "board_part": board.board_part,
        "accelerator": f"{IP_NAME}:{version()}",
        "mhz": mhz,
        "port_bits": config.bus_bits,
        "memory_bytes": f"{board.memory_bytes:#010x}",
        "registers_address": f"{REGISTERS_ADDRESS:#010x}",
        "registers_bytes": f"{REGION_BYTES:#010x}",
    }
    lines = [f"# {config.name} for {board.name}, which build.tcl builds.\n"]
    return "".join(lines + [f"set {name} {value}\n" for name, value in settings.items()])
