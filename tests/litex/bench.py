"""Runs in the simulator's process: the driver, as the host at the pins of the SoC."""

from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

import coprune
from coprune.runtime import Device

from .soc import MEMORY_ADDRESS, MEMORY_BYTES, REGISTERS_ADDRESS

WAIT_CYCLES = 100


class SocBus:
    """Registers and memory of the SoC, one 32-bit word after the other."""

    memory_address, memory_bytes = MEMORY_ADDRESS, MEMORY_BYTES

    def __init__(self, dut):
        self._dut = dut
        self._host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "host"), dut.sys_clk, dut.sys_rst)

    def read_register(self, address):
        return int.from_bytes(self.read_memory(REGISTERS_ADDRESS + address, 4), "little")

    def write_register(self, address, value):
        self.write_memory(REGISTERS_ADDRESS + address, value.to_bytes(4, "little"))

    @resume
    async def read_memory(self, address, size):
        return (await self._host.read(address, size)).data

    @resume
    async def write_memory(self, address, content):
        await self._host.write(address, content)

    @resume
    async def wait(self):
        await ClockCycles(self._dut.sys_clk, WAIT_CYCLES)


@cocotb.test()
async def run_program(dut):
    folder = Path(cocotb.plusargs["folder"])
    Clock(dut.sys_clk, 10, unit="ns").start()
    dut.sys_rst.value = 1
    bus = SocBus(dut)
    await ClockCycles(dut.sys_clk, 5)
    dut.sys_rst.value = 0

    @bridge
    def run():
        device = Device(bus, timeout_seconds=300)
        device.load(coprune.load(folder / "program.coprune"))
        outputs = device.run(np.load(folder / "images.npy"), integer=True)
        np.save(folder / "outputs.npy", outputs)

    await run()
