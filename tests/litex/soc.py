"""A LiteX SoC without a processor: accelerator and memory on its bus, and a host at its pins."""

import contextlib

from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.gen import ClockDomain, LiteXModule
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect import axi

from coprune_hw.litex import CopruneAccelerator

REGISTERS_ADDRESS = 0x9000_0000
MEMORY_ADDRESS = 0x4000_0000
"""Where LiteX puts the main memory."""
MEMORY_BYTES = 1 << 18
TOP = "soc"


class Clock(LiteXModule):
    def __init__(self, platform):
        self.cd_sys = ClockDomain()
        self.comb += [
            self.cd_sys.clk.eq(platform.request("sys_clk")),
            self.cd_sys.rst.eq(platform.request("sys_rst")),
        ]


class Soc(SoCCore):
    def __init__(self, platform, config, *, folder, bus_standard):
        self.crg = Clock(platform)
        super().__init__(
            platform,
            clk_freq=100e6,
            cpu_type=None,
            bus_standard=bus_standard,
            bus_data_width=config.bus_bits,
            integrated_sram_size=0,
            integrated_main_ram_size=MEMORY_BYTES,
            with_uart=False,
            with_timer=False,
            with_ctrl=False,
            ident="",
        )
        self.accelerator = CopruneAccelerator(platform, config, folder=folder)
        self.accelerator.add_to(self, address=REGISTERS_ADDRESS)
        host = axi.AXILiteInterface(data_width=32, address_width=32)
        platform.add_extension(host.get_ios("host"))
        self.comb += host.connect_to_pads(platform.request("host"), mode="slave")
        self.bus.add_master("host", host)


def write_soc(config, *, folder, bus_standard):
    """Write the SoC as Verilog; returns its sources."""
    platform = SimPlatform("SIM", [("sys_clk", 0, Pins(1)), ("sys_rst", 0, Pins(1))])
    soc = Soc(platform, config, folder=folder, bus_standard=bus_standard)
    soc.finalize()
    top = folder / f"{TOP}.v"
    # Files of memories' contents are written where the process is.
    with contextlib.chdir(folder):
        platform.get_verilog(soc, name=TOP).write(top.name)
    return [top, *(folder / source[0] for source in platform.sources)]
