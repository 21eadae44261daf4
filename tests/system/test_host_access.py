"""The host's accesses to registers, description and memory."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.registers import IDENTITY, REGISTERS, address_of
from coprune_hw.contract.system import DESCRIPTION_ADDRESS, MEMORY_ADDRESS
from coprune_hw.gateware.registers import RegisterFile
from coprune_hw.system.host_access import HostAccess
from coprune_hw.system.on_chip_memory import OnChipMemory

from ..gateware.streams import simulate, stream_get, stream_put

SIZE = 4096


class Reached:
    """Host access with the accelerator's registers and a memory."""

    def __init__(self, *, bus_bits=64):
        config = AcceleratorConfig(bus_bits=bus_bits)
        self.module = m = Module()
        m.submodules.access = self.access = HostAccess(config, memory_bytes=SIZE)
        m.submodules.registers = registers = RegisterFile(config)
        m.submodules.memory = memory = OnChipMemory(config, size_bytes=SIZE)
        connect(m, self.access.registers, registers.bus)
        connect(m, self.access.memory, memory.bus)

    async def ask(self, ctx, address, *, data=None, register=False):
        """Read, or with `data` write; returns the answer's data, or None for an error."""
        access = {
            "address": address,
            "data": data or 0,
            "write": data is not None,
            "register": register,
        }
        await stream_put(ctx, self.access.access, [access])
        (answer,) = await stream_get(ctx, self.access.answer, 1)
        return None if answer.error else answer.data


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
def test_memory_is_written_and_read_word_by_word(bus_bits):
    dut = Reached(bus_bits=bus_bits)
    generator = random.Random(0)
    words = {4 * place: generator.getrandbits(32) for place in generator.sample(range(64), 40)}

    async def bench(ctx):
        for address, word in words.items():
            assert await dut.ask(ctx, address, data=word) is not None
        for address in range(0, 256, 4):
            assert await dut.ask(ctx, address) == words.get(address, 0)

    simulate(dut.module, bench)


def test_registers_are_written_and_read():
    dut = Reached()

    async def bench(ctx):
        for name, value in {"program_bytes": 0xDEADBEEF, "mark_select": 7}.items():
            assert await dut.ask(ctx, address_of(name), data=value, register=True) is not None
            assert await dut.ask(ctx, address_of(name), register=True) == value
        assert await dut.ask(ctx, address_of("identity"), register=True) == IDENTITY

    simulate(dut.module, bench)


def test_the_description_says_where_the_memory_lies():
    dut = Reached()

    async def bench(ctx):
        assert await dut.ask(ctx, DESCRIPTION_ADDRESS, register=True) == MEMORY_ADDRESS
        assert await dut.ask(ctx, DESCRIPTION_ADDRESS + 4, register=True) == SIZE
        assert await dut.ask(ctx, DESCRIPTION_ADDRESS, data=1, register=True) is None

    simulate(dut.module, bench)


@pytest.mark.parametrize("data", [None, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("address", "register"),
    [
        *((offset, False) for offset in (1, 2, 3, SIZE - 1)),
        *((address, False) for address in (SIZE, 1 << 31, (1 << 32) - 4)),
        *((offset, True) for offset in (1, 2, 3, DESCRIPTION_ADDRESS + 1)),
        *((address, True) for address in (REGISTERS.size // 8, DESCRIPTION_ADDRESS + 8, 1 << 31)),
    ],
)
def test_answers_with_an_error_and_goes_on(address, register, data):
    dut = Reached()

    async def bench(ctx):
        assert await dut.ask(ctx, address, data=data, register=register) is None
        for word in (0, SIZE - 4):
            assert await dut.ask(ctx, word) == 0
        assert await dut.ask(ctx, address_of("identity"), register=True) == IDENTITY

    simulate(dut.module, bench)
