"""Shares the memory's bus between host and machine."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import axi4_signature, read_data_layout
from coprune_hw.gateware.read_arbiter import ReadArbiter

from .stream_register import StreamRegister
from .write_arbiter import WriteArbiter


class BusArbiter(wiring.Component):
    """Let host and machine use one memory, also both at once.

    Where both begin a burst at once the host goes first: it has one beat under way at most.

    Members
    -------
    host, machine : In(axi4_signature)
        As `ReadArbiter` and `WriteArbiter` have their clients.
    bus : Out(axi4_signature)

    Notes
    -----
    Makes the latency of the machine's reads longer by `READ_LATENCY` cycles, and that of writes,
    from their last beat to the response, by `WRITE_LATENCY`. One beat a cycle.
    """

    READ_LATENCY = ReadArbiter.ADDRESS_LATENCY + StreamRegister.LATENCY
    WRITE_LATENCY = WriteArbiter.DATA_LATENCY + WriteArbiter.RESPONSE_LATENCY

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "host": In(axi4_signature(config)),
                "machine": In(axi4_signature(config)),
                "bus": Out(axi4_signature(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.reads = reads = ReadArbiter(self._config)
        m.submodules.writes = writes = WriteArbiter(self._config)
        m.submodules.beats = beats = StreamRegister(read_data_layout(self._config.bus_bits))
        connect(m, flipped(self.host.read), reads.first)
        connect(m, flipped(self.machine.read.read_address), reads.second.read_address)
        connect(m, reads.second.read_data, beats.i)
        connect(m, beats.o, flipped(self.machine.read.read_data))
        connect(m, reads.bus, flipped(self.bus.read))
        connect(m, flipped(self.host.write), writes.first)
        connect(m, flipped(self.machine.write), writes.second)
        connect(m, writes.bus, flipped(self.bus.write))
        return m
