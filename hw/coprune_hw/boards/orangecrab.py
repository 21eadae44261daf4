"""OrangeCrab r0.2 of Greg Davill: <https://github.com/orangecrab-fpga>. Its DDR3 is not used."""

from amaranth.build import Attrs
from amaranth_boards.orangecrab_r0_2 import (
    OrangeCrabR0_2_25FPlatform,
    OrangeCrabR0_2_85FPlatform,
)
from amaranth_boards.resources import UARTResource

from .ecp5_board import Ecp5Board

# Labelled 0 and 1 on the board: from and to a serial adapter of 3.3 V.
_UART = UARTResource(0, rx="N17", tx="M18", attrs=Attrs(IO_TYPE="LVCMOS33"))


def _with_uart(platform_class):
    def make():
        platform = platform_class()
        platform.add_resources([_UART])
        return platform

    return make


_PLATFORMS = {
    "25f": (OrangeCrabR0_2_25FPlatform, 1 << 14),
    "85f": (OrangeCrabR0_2_85FPlatform, 1 << 17),
}

ORANGECRAB = tuple(
    Ecp5Board(
        name=f"orangecrab-{size}",
        title=f"OrangeCrab {size.upper()}",
        preset=f"ecp5-{size}",
        platform=_with_uart(platform),
        clock_mhz=80,
        baud=2_000_000,
        light="rgb_led",
        on_chip_bytes=on_chip_bytes,
        loader_options=("--dfu",),
    )
    for size, (platform, on_chip_bytes) in _PLATFORMS.items()
)
