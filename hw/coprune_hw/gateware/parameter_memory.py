"""On-chip memory of the parameter records."""

from amaranth.hdl import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.parameters import ChannelParameters

from .interfaces import parameter_write_signature


class ParameterMemory(wiring.Component):
    """One record for every output channel that is loaded.

    Members
    -------
    write : parameter_write_signature
        Records from LOAD.
    address, record : In, Out
        Read port.

    Notes
    -----
    Reads take `LATENCY` cycles (memory, output register), one a cycle.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._depth = config.parameter_depth
        super().__init__(
            {
                "write": In(parameter_write_signature()),
                "address": In(range(config.parameter_depth)),
                "record": Out(ChannelParameters),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = len(Value.cast(self.record))
        m.submodules.records = records = memory.Memory(shape=width, depth=self._depth, init=[])
        write, read = records.write_port(), records.read_port()
        output = Signal(width, reset_less=True)
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(self.write.payload.address),
            write.data.eq(self.write.payload.record),
            read.en.eq(1),
            read.addr.eq(self.address),
            Value.cast(self.record).eq(output),
        ]
        m.d.sync += output.eq(read.data)
        return m
