"""A system for a board with an ECP5, and what is particular to each board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import *
from amaranth.lib import io
from amaranth.vendor import LatticePlatform

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.system.on_chip_memory import OnChipMemory
from coprune_hw.system.sdram import SdramController
from coprune_hw.system.sdram_timing import SdramChip
from coprune_hw.system.system import System

from .ecp5_clocks import Ecp5Clocks, PllDividers

MOST_BAUD_ERROR = 0.02
IO_REGISTERS = 2
"""Between controller and chip, there and back."""


@dataclass(frozen=True)
class Ecp5Board:
    """A board, and the system that fits it.

    Parameters
    ----------
    name : str
        As the command line has it.
    title : str
    preset : str
        The accelerator that fits.
    platform : callable
        Makes the Amaranth platform.
    clock_mhz : float
        Of the system, unless another is asked for.
    baud : int
        Of the UART ``uart``.
    light : str
        The resource that shows the machine's interrupt.
    on_chip_bytes : int
        Of the memory where the chip is not used.
    chip : SdramChip, optional
        On the resource ``sdram``.
    memory_phase : float
        Degrees by which the chip's clock comes after the system's.
    loader_options : tuple of str
        With which openFPGALoader finds the board.
    """

    name: str
    title: str
    preset: str
    platform: Callable[[], LatticePlatform]
    clock_mhz: float
    baud: int
    light: str
    on_chip_bytes: int
    loader_options: tuple[str, ...]
    chip: SdramChip | None = None
    memory_phase: float = 0.0


class Ecp5Top(Elaboratable):
    """Everything that is in the FPGA of a board.

    Parameters
    ----------
    board : Ecp5Board
    config : AcceleratorConfig
    clock_mhz : float
    memory : {"on-chip", "sdram"}
    on_chip_bytes : int

    Raises
    ------
    ValueError
        The board has no such memory, or its PLL or UART does not reach the frequency.
    """

    def __init__(
        self,
        board: Ecp5Board,
        config: AcceleratorConfig,
        *,
        clock_mhz: float,
        memory: str,
        on_chip_bytes: int,
    ):
        self._board = board
        platform = board.platform()
        oscillator_hz = platform.default_clk_frequency
        self._dividers = PllDividers.find(oscillator_hz, 1e6 * clock_mhz)
        self.clock_hz = self._dividers.output_hz(oscillator_hz)
        bit_cycles = round(self.clock_hz / board.baud)
        self.baud = self.clock_hz / bit_cycles
        if abs(self.baud / board.baud - 1) > MOST_BAUD_ERROR:
            raise ValueError(
                f"{clock_mhz:g} MHz is no multiple of {board.baud:,} baud within "
                f"{MOST_BAUD_ERROR:.0%}: the nearest is {self.baud:,.0f} baud"
            )
        if memory == "sdram":
            if board.chip is None:
                raise ValueError(f"{board.title} has no SDRAM: choose the on-chip memory")
            controller = SdramController(
                config, board.chip, clock_hz=self.clock_hz, capture_delay=IO_REGISTERS
            )
            self.memory_bytes = board.chip.size_bytes
            self._memory = controller
        elif memory == "on-chip":
            self._memory = OnChipMemory(config, size_bytes=on_chip_bytes)
            self.memory_bytes = on_chip_bytes
        else:
            raise ValueError(f"memory must be on-chip or sdram, not {memory!r}")
        self._has_chip = memory == "sdram"
        self._system = System(config, memory=self._memory, bit_cycles=bit_cycles)

    def elaborate(self, platform):
        m = Module()
        oscillator = platform.request(platform.default_clk, 0, dir="-")
        m.submodules.oscillator = buffer = io.Buffer("i", oscillator)
        m.submodules.clocks = Ecp5Clocks(
            buffer.i, self._dividers, memory_phase=self._board.memory_phase
        )
        m.submodules.system = system = self._system
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.FFBuffer("i", uart.rx)
        m.submodules.tx = tx = io.FFBuffer("o", uart.tx)
        light = platform.request(self._board.light, 0, dir="-")
        # Of a light of several colours, one.
        light = light if isinstance(light, io.PortLike) else light.g
        m.submodules.light = lit = io.Buffer("o", light)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx), lit.o.eq(system.interrupt)]
        if self._has_chip:
            self._connect_chip(m, platform.request("sdram", 0, dir="-"), system.memory_pins)
        return m

    def _connect_chip(self, m, ports, pins):
        """Registers in the I/O cells, and the chip's clock."""
        m.submodules.chip_clock = clock = io.DDRBuffer("o", ports.clk, o_domain="memory_clock")
        m.d.comb += clock.o.eq(0b01)
        outputs = {
            "clk_en": pins.clock_enable,
            "cs": ~pins.cs_n,
            "ras": ~pins.ras_n,
            "cas": ~pins.cas_n,
            "we": ~pins.we_n,
            "ba": pins.ba,
            "a": pins.a,
            "dqm": pins.dqm,
        }
        for name, value in outputs.items():
            m.submodules[f"chip_{name}"] = buffer = io.FFBuffer("o", getattr(ports, name))
            m.d.comb += buffer.o.eq(value)
        m.submodules.chip_dq = dq = io.FFBuffer("io", ports.dq)
        m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]
