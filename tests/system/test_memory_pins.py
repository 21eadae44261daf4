"""A system around a memory that is not on the chip."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from coprune_hw.gateware.interfaces import axi4_signature
from coprune_hw.system.system import System

from ..end_to_end.configurations import SMALL


class MemoryOutside(wiring.Component):
    """Shows on a pin what comes from one."""

    size_bytes = 4096

    def __init__(self, config):
        pins = wiring.Signature({"o": Out(8), "i": In(8)})
        super().__init__({"bus": In(axi4_signature(config)), "pins": Out(pins)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.pins.o.eq(self.pins.i)
        return m


def test_pins_of_the_memory_are_pins_of_the_system():
    system = System(SMALL, memory=MemoryOutside(SMALL), bit_cycles=4)

    async def bench(ctx):
        for value in (3, 200):
            ctx.set(system.memory_pins.i, value)
            await ctx.tick()
            assert ctx.get(system.memory_pins.o) == value

    simulator = Simulator(system)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
