"""Counts what the machine does, and records the counts at layer marks."""

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import MARK_BITS
from coprune_hw.contract.registers import COUNTERS

from .delay import delay

COUNTER_VALUES = data.StructLayout(dict.fromkeys(COUNTERS, 32))
COUNTER_EVENTS = data.StructLayout(dict.fromkeys(COUNTERS, 1))


class Counters(wiring.Component):
    """Count events while the machine runs, and keep a copy of the counts for every layer mark.

    Members
    -------
    restart : In(1)
        Set all counters to 0.
    running : In(1)
        Count and record.
    events : In(COUNTER_EVENTS)
        What happens in this cycle.
    marks : In(stream(mark), always ready)
        Record the counts as they were at the beginning of this cycle. Marks from `mark_depth` on
        are ignored; a mark that does not come in a run keeps the record of an earlier one.
    values : Out(COUNTER_VALUES)
    mark_select : In(8)
    mark_values : Out(COUNTER_VALUES)
        The record of mark `mark_select`, two cycles after it was selected.

    Notes
    -----
    An event is in `values` two cycles later, and in the records as if it were at once.
    """

    def __init__(self, config: AcceleratorConfig):
        self._mark_depth = config.mark_depth
        super().__init__(
            {
                "restart": In(1),
                "running": In(1),
                "events": In(COUNTER_EVENTS),
                "marks": In(stream.Signature(MARK_BITS, always_ready=True)),
                "values": Out(COUNTER_VALUES),
                "mark_select": In(MARK_BITS),
                "mark_values": Out(COUNTER_VALUES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.records = records = memory.Memory(
            shape=COUNTER_VALUES, depth=self._mark_depth, init=[]
        )
        write, read = records.write_port(), records.read_port()
        # Everything is looked at a cycle later: what leads to an event is long enough.
        events = delay(m, self.events, 1, name="events")
        running = delay(m, self.running, 1, name="running", init=0)
        mark_valid = delay(m, self.marks.valid, 1, name="mark_valid", init=0)
        mark = delay(m, self.marks.payload, 1, name="mark")
        m.d.comb += [
            write.en.eq(running & mark_valid & (mark < self._mark_depth)),
            write.addr.eq(mark),
            write.data.eq(self.values),
            read.addr.eq(self.mark_select),
        ]
        m.d.sync += self.mark_values.eq(read.data)
        for name in COUNTERS:
            with m.If(self.restart):
                m.d.sync += self.values[name].eq(0)
            with m.Elif(running & events[name]):
                m.d.sync += self.values[name].eq(self.values[name] + 1)
        return m
