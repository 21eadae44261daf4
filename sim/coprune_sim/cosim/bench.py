"""The host's side of a co-simulation, as a cocotb test: it runs inside the simulator's process.

Python sleeps while the machine computes: `bench.v` wakes it on the interrupt or the timeout.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from coprune_hw.contract.registers import COUNTERS, State, address_of
from coprune_sim.cosim.host import control_word, decode_status

CLOCK_NS = 10
REGISTER_TIMEOUT_NS = 1000 * CLOCK_NS
PAUSE_PROBABILITY = 0.25


class InternalMemory:
    """The memory model in `bench.v`, which reads and writes the request's files itself."""

    def __init__(self, dut: HierarchyObject) -> None:
        self._dut = dut

    async def load(self, index: int, *, address: int, size: int) -> None:
        """Put load_<index>.bin at `address`."""
        await self._transfer(self._dut.load, index, address, size)

    async def dump(self, index: int, *, address: int, size: int) -> None:
        """Write dump_<index>.bin."""
        await self._transfer(self._dut.dump, index, address, size)

    async def _transfer(self, command, index: int, address: int, size: int) -> None:
        self._dut.transfer_index.value = index
        self._dut.transfer_address.value = address
        self._dut.transfer_bytes.value = size
        await pulse(self._dut, command)


class CocotbMemory:
    """cocotbext-axi's `AxiRam` with random pauses on every channel."""

    def __init__(
        self, dut: HierarchyObject, *, folder: Path, size: int, seed: int, error_address: int | None
    ) -> None:
        self._folder = folder
        self._ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=size)
        write, read = self._ram.write_if, self._ram.read_if
        channels = (write.aw_channel, write.w_channel, write.b_channel)
        channels += (read.ar_channel, read.r_channel)
        for index, channel in enumerate(channels):
            channel.set_pause_generator(pauses(seed + index))
        if error_address is not None:
            self._fail_at(error_address, bus_bytes=len(dut.m_axi_wstrb))

    def _fail_at(self, error_address: int, *, bus_bytes: int) -> None:
        ram_read, ram_write = self._ram.read_if._read, self._ram.write_if._write

        def check(address: int, length: int) -> None:
            begin = address // bus_bytes * bus_bytes
            if begin <= error_address < max(begin + bus_bytes, address + length):
                raise OSError(f"no access to {error_address:#x}")

        async def read(address: int, length: int) -> bytes:
            check(address, length)
            return await ram_read(address, length)

        async def write(address: int, data: bytes) -> None:
            check(address, len(data))
            await ram_write(address, data)

        # AxiSlave answers what raises with SLVERR.
        self._ram.read_if._read = read
        self._ram.write_if._write = write

    async def load(self, index: int, *, address: int, size: int) -> None:
        """Put load_<index>.bin at `address`."""
        self._ram.write(address, (self._folder / f"load_{index}.bin").read_bytes())

    async def dump(self, index: int, *, address: int, size: int) -> None:
        """Write dump_<index>.bin."""
        (self._folder / f"dump_{index}.bin").write_bytes(self._ram.read(address, size))


def pauses(seed: int) -> Iterator[bool]:
    """Whether a channel pauses, cycle for cycle."""
    source = random.Random(seed)
    while True:
        yield source.random() < PAUSE_PROBABILITY


async def pulse(dut: HierarchyObject, signal) -> None:
    """Raise a signal for one rising edge of the clock."""
    await FallingEdge(dut.clk)
    signal.value = 1
    await FallingEdge(dut.clk)
    signal.value = 0


class Registers:
    """The accelerator's registers by name."""

    def __init__(self, dut: HierarchyObject) -> None:
        self._bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        access = self._bus.write_dword(address_of(name), value)
        await with_timeout(access, REGISTER_TIMEOUT_NS, "ns")

    async def read(self, name: str) -> int:
        """Read a register."""
        access = self._bus.read_dword(address_of(name))
        return await with_timeout(access, REGISTER_TIMEOUT_NS, "ns")

    async def command(self, name: str) -> None:
        """Write 1 to a field of `Control`."""
        await self.write("control", control_word(name))

    async def read_counters(self, prefix: str = "") -> dict[str, int]:
        """Read the counters, or with the prefix ``mark_`` those of the selected mark."""
        return {name: await self.read(prefix + name) for name in COUNTERS}


@cocotb.test()
async def run_program(dut: HierarchyObject) -> None:
    """Run the images of request.json, and leave response.json and the files of `bench.v`."""
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    folder = Path(cocotb.plusargs["folder"])
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    external = request["memory"] == "cocotbext"
    for name, value in request["settings"].items():
        getattr(dut, name).value = value
    dut.external_memory.value = int(external)
    for command in (dut.load, dut.dump, dut.observe_begin, dut.observe_end, dut.watch):
        command.value = 0
    dut.rst.value = 1
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    registers = Registers(dut)
    if external:
        memory = CocotbMemory(
            dut,
            folder=folder,
            size=request["memory_bytes"],
            seed=request["settings"]["stall_seed"],
            error_address=request["error_address"],
        )
    else:
        memory = InternalMemory(dut)
    await ClockCycles(dut.clk, 4)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)

    base = request["program_address"]
    await memory.load(0, address=base, size=request["program_bytes"])
    await registers.write("program_address", base)
    await registers.write("program_bytes", request["program_bytes"])
    await registers.write("interrupt_enable", 1)
    response = []
    for index in range(request["images"]):
        await memory.load(
            index + 1, address=base + request["input_offset"], size=request["input_bytes"]
        )
        dut.transfer_index.value = index
        await pulse(dut, dut.observe_begin)
        result = await run_image(dut, registers, marks=request["marks"])
        await pulse(dut, dut.observe_end)
        await memory.dump(
            index, address=base + request["output_offset"], size=request["output_bytes"]
        )
        response.append(result)
        if not result["done"]:
            break
    (folder / "response.json").write_text(json.dumps(response), encoding="utf-8")


async def run_image(dut: HierarchyObject, registers: Registers, *, marks: list[int]) -> dict:
    """Start the machine, sleep until it is done, and read what it recorded."""
    begin_cycle, begin_seconds = int(get_sim_time("ns")) // CLOCK_NS, time.perf_counter()
    await registers.command("start")
    dut.watch.value = 1
    await RisingEdge(dut.wake)
    cycles = int(get_sim_time("ns")) // CLOCK_NS - begin_cycle
    seconds = time.perf_counter() - begin_seconds
    interrupted = bool(dut.interrupted.value)
    dut.watch.value = 0
    status = decode_status(await registers.read("status"))
    counters = await registers.read_counters()
    records = []
    for mark in marks:
        await registers.write("mark_select", mark)
        records.append(await registers.read_counters("mark_"))
    await registers.command("acknowledge")
    return {
        "done": interrupted and status["state"] == State.DONE,
        "interrupted": interrupted,
        "violation": int(dut.violation.value),
        "state": int(status["state"]),
        "error": int(status["error"]),
        "counters": counters,
        "marks": records,
        "cycles": cycles,
        "seconds": seconds,
    }
