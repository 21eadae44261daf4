"""The prediction: what is counted, and what is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from coprune_hw.contract import AcceleratorConfig

from .devices import Device
from .logic import LogicModel
from .memories import list_memories, map_memory
from .runs import read_runs

UNREAD_LUT_RAMS = 17
"""Distributed RAMs of which no bit is read, so that Yosys removes them: instructions have reserved
bits. Observed, the same in all recorded runs."""
UNREAD_TABLE_LUT_RAMS = 1
"""Without tables that is also the one that holds `tabulated` and `table` of the `DrainSettings`."""

DEVICE_CELLS = {
    "luts": "LUTs",
    "flip_flops": "flip-flops",
    "multipliers": "multipliers",
    "block_rams": "block RAMs",
}
"""What a device has a number of: attributes of `Resources` and of `Device`, and their names."""


@dataclass(frozen=True)
class Resources:
    """Cells of an ECP5.

    Parameters
    ----------
    lut4 : int
        LUTs of four inputs, without those of carry cells and distributed RAMs.
    carry_cells : int
        CCU2C: two LUTs and carry logic each.
    flip_flops : int
    multipliers : int
        MULT18X18D.
    block_rams : int
        DP16KD, 18 kbit each.
    lut_rams : int
        TRELLIS_DPR16X4.
    """

    lut4: int
    carry_cells: int
    flip_flops: int
    multipliers: int
    block_rams: int
    lut_rams: int

    @property
    def luts(self) -> int:
        """Places of LUT4 that are taken: two by a carry cell, six by a distributed RAM.

        As nextpnr-ecp5 counts them: four for the bits of a distributed RAM and two for writing.
        """
        return self.lut4 + 2 * self.carry_cells + 6 * self.lut_rams

    def share(self, device: Device) -> float:
        """Part of the device's cells that are needed, of the kind of which most are; 1 is full."""
        return max(getattr(self, name) / getattr(device, name) for name in DEVICE_CELLS)

    def excess(self, device: Device) -> str | None:
        """What the device has too little of, in words; None where all of it fits."""
        for name, words in DEVICE_CELLS.items():
            needed, there = getattr(self, name), getattr(device, name)
            if needed > there:
                return f"{device.name} has {there:,} {words}, but {needed:,} are needed"
        return None


def estimate_resources(config: AcceleratorConfig, *, logic: LogicModel | None = None) -> Resources:
    """Predict the cells of an accelerator.

    Parameters
    ----------
    config : AcceleratorConfig
    logic : LogicModel
        By default one that is fitted to all recorded runs.
    """
    cells = (logic or _recorded_logic()).predict(config)
    unread = UNREAD_LUT_RAMS + (0 if config.tables else UNREAD_TABLE_LUT_RAMS)
    mapped = [map_memory(memory) for memory in list_memories(config)]
    return Resources(
        lut4=cells["LUT4"],
        carry_cells=cells["CCU2C"],
        flip_flops=cells["TRELLIS_FF"],
        multipliers=count_multipliers(config),
        block_rams=sum(block_rams for block_rams, _ in mapped),
        lut_rams=sum(lut_rams for _, lut_rams in mapped) - unread,
    )


def count_multipliers(config: AcceleratorConfig) -> int:
    """Multipliers of 18 x 18 bits: one for every PE, and one for every lane's requantization.

    What computes places of pixels is logic on an ECP5.
    """
    return config.multipliers + config.lanes


@cache
def _recorded_logic() -> LogicModel:
    return LogicModel.fit(read_runs())
