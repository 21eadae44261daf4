"""Which cells gateware may use."""

from amaranth.build import Platform
from amaranth.vendor import LatticePlatform


def is_ecp5(platform: Platform | None) -> bool:
    """Whether gateware is elaborated for a Lattice ECP5, and may instantiate its cells."""
    return isinstance(platform, LatticePlatform) and platform.family == "ecp5"
