"""ULX3S of Radiona: <https://radiona.org/ulx3s>."""

from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)

from coprune_hw.system.sdram_timing import IS42S16160G_7

from .ecp5_board import Ecp5Board

_PLATFORMS = {
    "12F": (ULX3S_12F_Platform, "ecp5-25f", 1 << 14),
    "25F": (ULX3S_25F_Platform, "ecp5-25f", 1 << 14),
    "45F": (ULX3S_45F_Platform, "ecp5-45f", 1 << 16),
    "85F": (ULX3S_85F_Platform, "ecp5-85f", 1 << 17),
}

ULX3S = tuple(
    Ecp5Board(
        name=f"ulx3s-{size.lower()}",
        title=f"ULX3S {size}",
        preset=preset,
        platform=platform,
        clock_mhz=80,
        baud=2_000_000,
        light="led",
        on_chip_bytes=on_chip_bytes,
        loader_options=("-b", "ulx3s"),
        chip=IS42S16160G_7,
        memory_phase=260,
    )
    for size, (platform, preset, on_chip_bytes) in _PLATFORMS.items()
)
