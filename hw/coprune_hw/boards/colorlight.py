"""Colorlight i5 and i9, receiver cards in the extension board of Muse Lab.

Pins after <https://github.com/wuxx/Colorlight-FPGA-Projects>. The SDRAM's byte masks are not wired
to the FPGA, so it cannot be written a byte at a time, and is not used.
"""

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource
from amaranth.vendor import LatticePlatform
from amaranth_boards.resources import UARTResource

from .ecp5_board import Ecp5Board

_LVCMOS33 = Attrs(IO_TYPE="LVCMOS33")


class _ColorlightPlatform(LatticePlatform):
    package = "BG381"
    speed = "6"
    default_clk = "clk25"
    connectors = ()

    def __init__(self):
        super().__init__(toolchain="Trellis")


def _resources(*, led: str) -> list[Resource]:
    return [
        Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), _LVCMOS33),
        Resource("led", 0, PinsN(led, dir="o"), _LVCMOS33),
        UARTResource(0, rx="H18", tx="J17", attrs=_LVCMOS33),
    ]


class ColorlightI5Platform(_ColorlightPlatform):
    """The card of version 7.0."""

    device = "LFE5U-25F"
    resources = _resources(led="U16")


class ColorlightI9Platform(_ColorlightPlatform):
    """The card of version 7.2."""

    device = "LFE5U-45F"
    resources = _resources(led="L2")


_PLATFORMS = {
    "i5": (ColorlightI5Platform, "ecp5-25f", 1 << 14),
    "i9": (ColorlightI9Platform, "ecp5-45f", 1 << 16),
}

COLORLIGHT = tuple(
    Ecp5Board(
        name=f"colorlight-{name}",
        title=f"Colorlight {name}",
        preset=preset,
        platform=platform,
        clock_mhz=80,
        baud=2_000_000,
        light="led",
        on_chip_bytes=on_chip_bytes,
        loader_options=("-b", f"colorlight-{name}"),
    )
    for name, (platform, preset, on_chip_bytes) in _PLATFORMS.items()
)
