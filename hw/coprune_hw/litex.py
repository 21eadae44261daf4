"""The accelerator as a module of a LiteX SoC. Importing this file needs LiteX."""

from __future__ import annotations

from pathlib import Path

from litex.gen import LiteXModule
from litex.soc.integration.soc import SoC, SoCRegion
from litex.soc.interconnect import axi
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
from migen import ClockSignal, Instance, ResetSignal, Signal

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.accelerator import TOP_NAME, list_ports, to_verilog

REGION_BYTES = 4096
"""Of the registers: a page, the least that a host maps."""

_SIGNALS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot")
_SIGNALS += ("data", "strb", "last", "resp", "valid", "ready")


class CopruneAccelerator(LiteXModule):
    """The accelerator with LiteX's buses.

    Parameters
    ----------
    platform
        Whose sources the accelerator's Verilog is added to.
    config : AcceleratorConfig
        A `bus_bits` as wide as the SoC's bus needs no converter.
    folder : str or Path
        Where the Verilog is written; made where it is missing.

    Attributes
    ----------
    m_axi : axi.AXIInterface
        Master, to the memory.
    s_axi : axi.AXILiteInterface
        Slave, the registers.
    ev : EventManager
        Of `interrupt`, a level: done, or stopped by an error, and enabled.
    """

    def __init__(
        self, platform, config: AcceleratorConfig, *, folder: str | Path = "build"
    ) -> None:
        self.m_axi = axi.AXIInterface(
            data_width=config.bus_bits, address_width=32, id_width=1, bursting=True
        )
        self.s_axi = axi.AXILiteInterface(data_width=32, address_width=32)
        interrupt = Signal()
        self.ev = EventManager()
        self.ev.interrupt = EventSourceLevel()
        self.ev.finalize()
        self.comb += self.ev.interrupt.trigger.eq(interrupt)
        pins = {"clk": ClockSignal("sys"), "rst": ResetSignal("sys"), "interrupt": interrupt}
        pins |= _pins("m_axi", self.m_axi) | _pins("s_axi", self.s_axi)
        connections = {
            f"{port['direction'][0]}_{port['name']}": pins[port["name"]][: port["bits"]]
            for port in list_ports(config)
            if not port["name"].startswith("observe_")
        }
        self.specials += Instance(TOP_NAME, **connections)
        path = Path(folder) / f"{TOP_NAME}.v"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_verilog(config), encoding="utf-8")
        platform.add_source(str(path))

    def add_to(self, soc: SoC, *, name: str = "accelerator", address: int | None = None) -> None:
        """Connect the buses of a SoC, and its interrupt where it has any.

        Parameters
        ----------
        soc : SoC
            Its `dma_bus` reaches the memory, where it has one.
        name : str
            The module's own name in `soc`.
        address : int, optional
            Of the registers; else the SoC finds one.
        """
        registers = SoCRegion(origin=address, size=REGION_BYTES, cached=False)
        soc.bus.add_slave(name, self.s_axi, registers)
        getattr(soc, "dma_bus", soc.bus).add_master(name, self.m_axi)
        if soc.irq.enabled:
            soc.irq.add(name, use_loc_if_exists=True)


def _pins(prefix: str, bus: axi.AXIInterface | axi.AXILiteInterface) -> dict[str, Signal]:
    """Signals of a bus by the names of the accelerator's pins."""
    return {
        f"{prefix}_{channel}{signal}": getattr(getattr(bus, channel), signal)
        for channel in ("aw", "w", "b", "ar", "r")
        for signal in _SIGNALS
        if hasattr(getattr(bus, channel), signal)
    }
