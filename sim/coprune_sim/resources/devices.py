"""FPGAs of the ECP5 family, and what each of them holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Cells of an FPGA.

    Parameters
    ----------
    name : str
    luts, multipliers, block_rams : int
        LUTs of four inputs, with a flip-flop each; 18 x 18 multipliers; block RAMs of 18 kbit.
    """

    name: str
    luts: int
    multipliers: int
    block_rams: int

    @property
    def flip_flops(self) -> int:
        """As many as LUTs."""
        return self.luts


DEVICES = {
    device.name: device
    for device in (
        Device("ecp5-25", luts=24_288, multipliers=28, block_rams=56),
        Device("ecp5-45", luts=43_848, multipliers=72, block_rams=108),
        Device("ecp5-85", luts=83_640, multipliers=156, block_rams=208),
    )
}
"""By name. From the ECP5 and ECP5-5G Family Data Sheet (FPGA-DS-02012), table 1.1, and nextpnr."""
