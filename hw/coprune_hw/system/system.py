"""The system on a board: host link, memory and machine in one design."""

from amaranth.build import Platform
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.conversion import convert
from coprune_hw.gateware.machine import Machine
from coprune_hw.link.host_link import HostLink
from coprune_hw.link.uart import FRAME_BITS, UartReceiver, UartTransmitter

from .bus_arbiter import BusArbiter
from .host_access import HostAccess

TOP_NAME = "coprune_system"


class System(wiring.Component):
    """Run the machine from a memory that the host reaches over a UART.

    Parameters
    ----------
    config : AcceleratorConfig
    memory : wiring.Component
        With `bus`, In(axi4_signature(config)), which begins at `contract.system.MEMORY_ADDRESS`, an
        attribute `size_bytes` and, where it needs pins, `pins`.
    bit_cycles : int
        Clock cycles of a bit on the line, at least 4.

    Members
    -------
    rx : In(1)
        From the host.
    tx : Out(1)
        To the host.
    interrupt : Out(1)
        Of the machine, for a light.
    memory_pins
        `pins` of the memory, where it has some.
    """

    def __init__(self, config: AcceleratorConfig, *, memory: wiring.Component, bit_cycles: int):
        self._config = config
        self._memory = memory
        self._bit_cycles = bit_cycles
        members = {"rx": In(1, init=1), "tx": Out(1, init=1), "interrupt": Out(1)}
        if "pins" in memory.signature.members:
            members["memory_pins"] = memory.signature.members["pins"]
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config, memory = self._config, self._memory
        m.submodules.receiver = receiver = UartReceiver(self._bit_cycles)
        m.submodules.transmitter = transmitter = UartTransmitter(self._bit_cycles)
        m.submodules.link = link = HostLink(byte_cycles=FRAME_BITS * self._bit_cycles)
        m.submodules.access = access = HostAccess(config, memory_bytes=memory.size_bytes)
        m.submodules.machine = machine = Machine(config)
        m.submodules.arbiter = arbiter = BusArbiter(config)
        m.submodules.memory = memory
        connect(m, receiver.o, link.i)
        connect(m, link.o, transmitter.i)
        connect(m, link.access, access.access)
        connect(m, access.answer, link.answer)
        connect(m, access.registers, machine.host)
        connect(m, access.memory, arbiter.host)
        connect(m, machine.memory, arbiter.machine)
        connect(m, arbiter.bus, memory.bus)
        if "memory_pins" in self.signature.members:
            connect(m, memory.pins, flipped(self.memory_pins))
        m.d.comb += [
            receiver.line.eq(self.rx),
            self.tx.eq(transmitter.line),
            self.interrupt.eq(machine.interrupt),
        ]
        return m


def to_verilog(system: System, *, platform: Platform | None = None) -> str:
    """Convert a system to Verilog: the module `TOP_NAME` and the modules that it needs."""
    return convert(system, name=TOP_NAME, platform=platform)
