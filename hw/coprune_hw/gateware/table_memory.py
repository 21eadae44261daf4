"""Activation functions as tables, read by all lanes at once."""

from amaranth.hdl import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import TABLE_BYTES

from .delay import delay
from .interfaces import table_write_signature


class TableMemory(wiring.Component):
    """Replace every byte of a word by its entry in one of the tables, or pass the word on.

    Every lane has a copy of the tables.

    Members
    -------
    write : table_write_signature
        Bytes from LOAD, below ``TABLE_BYTES * tables``.
    word : In
    table, tabulated : In
        The table for this word, and whether it is for it at all.
    output : Out
        `LATENCY` cycles after `word`.

    Notes
    -----
    A word a cycle.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        word = data.ArrayLayout(8, config.lanes)
        super().__init__(
            {
                "write": In(table_write_signature()),
                "word": In(word),
                "table": In(range(config.tables)),
                "tabulated": In(1),
                "output": Out(word),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Cycle 0: read. Cycle 1: choose, into the output register.
        tabulated = delay(m, self.tabulated, 1, name="tabulated")
        for lane in range(self._config.lanes):
            tables = memory.Memory(shape=8, depth=self._config.tables * TABLE_BYTES, init=[])
            m.submodules[f"tables_{lane}"] = tables
            write, read = tables.write_port(), tables.read_port()
            byte = delay(m, self.word[lane], 1, name=f"byte_{lane}")
            output = Signal(8, name=f"output_{lane}", reset_less=True)
            m.d.comb += [
                write.en.eq(self.write.valid),
                write.addr.eq(self.write.payload.address),
                write.data.eq(self.write.payload.byte),
                read.en.eq(1),
                read.addr.eq(Cat(self.word[lane], self.table)),
                self.output[lane].eq(output),
            ]
            m.d.sync += output.eq(Mux(tabulated, read.data, byte))
        return m
