"""A `HostLink` in Amaranth's simulator, with registers and memory behind it, as a serial port."""

import random
from collections import ChainMap

from amaranth.sim import Simulator

from coprune_hw.contract.system import DESCRIPTION_ADDRESS
from coprune_hw.link.host_link import HostLink

BYTE_CYCLES = 2
TIMEOUT_CYCLES = 800
PERIOD = 1e-6

BASE, MEMORY_BYTES = 0x1000, 4096
DESCRIPTION = {DESCRIPTION_ADDRESS: BASE, DESCRIPTION_ADDRESS + 4: MEMORY_BYTES}
"""Where the memory lies, as a system says it."""


class SimulatedPort:
    """`serial.Serial` as far as `LinkBus` needs it; bytes can be lost or change on the way.

    `memory` and `registers` map byte addresses to words; others are answered with an error.
    """

    def __init__(self, *, memory=None, registers=None, errors=0.0, seed=0):
        self.memory, self.registers = memory or {}, registers or {}
        self.writes = []
        self.errors = errors
        self._random = random.Random(seed)
        self._to_link, self._from_link = [], []
        self._cycles = 0
        self._dut = HostLink(byte_cycles=BYTE_CYCLES)
        self._simulator = Simulator(self._dut)
        self._simulator.add_clock(PERIOD)
        for process in (self._send, self._take, self._answer):
            self._simulator.add_testbench(process, background=True)
        self._simulator.add_testbench(self._pass_time)

    def write(self, content):
        self._to_link += self._damage(content)

    def read(self, size):
        deadline = self._cycles + TIMEOUT_CYCLES + BYTE_CYCLES * (len(self._to_link) + size)
        while len(self._from_link) < size and self._cycles < deadline:
            self._simulator.advance()
        found, self._from_link = self._from_link[:size], self._from_link[size:]
        return bytes(found)

    def reset_input_buffer(self):
        self._from_link.clear()

    def _damage(self, content):
        damaged = []
        for byte in content:
            kind = self._random.random() / self.errors if self.errors else 1
            if kind >= 1:
                damaged.append(byte)
            elif kind < 0.5:
                damaged.append(byte ^ (1 << self._random.randrange(8)))
        return damaged

    async def _pass_time(self, context):
        while True:
            await context.tick()
            self._cycles += 1

    async def _send(self, context):
        while True:
            context.set(self._dut.i.valid, 0)
            for _ in range(BYTE_CYCLES - 1):
                await context.tick()
            if self._to_link:
                context.set(self._dut.i.payload, self._to_link.pop(0))
                context.set(self._dut.i.valid, 1)
            await context.tick()

    async def _take(self, context):
        while True:
            context.set(self._dut.o.ready, 1)
            _, _, valid, byte = await context.tick().sample(self._dut.o.valid, self._dut.o.payload)
            if valid:
                self._from_link += self._damage([byte])

    async def _answer(self, context):
        dut = self._dut
        while True:
            context.set(dut.answer.valid, 0)
            context.set(dut.access.ready, 1)
            _, _, valid, access = await context.tick().sample(dut.access.valid, dut.access.payload)
            if not valid:
                continue
            context.set(dut.access.ready, 0)
            registers = ChainMap(self.registers, DESCRIPTION)
            space = registers if access.register else self.memory
            address = int(access.address)
            exists = address in space
            context.set(dut.answer.payload.error, not exists)
            context.set(dut.answer.payload.data, space.get(address, 0))
            if access.write and exists:
                space[address] = int(access.data)
                self.writes.append((bool(access.register), address, int(access.data)))
            for _ in range(self._random.randrange(3)):
                await context.tick()
            context.set(dut.answer.valid, 1)
            await context.tick()
