"""Runs programs on an accelerator: the same driver for simulated and real ones."""

from coprune.runtime.bus import Bus
from coprune.runtime.device import Device, DeviceError
from coprune.runtime.link_bus import LinkBus, LinkError
from coprune.runtime.pynq_bus import PynqBus
from coprune.runtime.simulated_board import PreloadedBus, SimulatedBoard
from coprune.runtime.simulated_bus import SimulatedBus

__all__ = [
    "Bus",
    "Device",
    "DeviceError",
    "LinkBus",
    "LinkError",
    "PreloadedBus",
    "PynqBus",
    "SimulatedBoard",
    "SimulatedBus",
]
