"""Brings the segments that are read and written into one order."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig

from .sdram_segment import access_layout, segment_layout
from .sdram_timing import SdramChip


class SegmentArbiter(wiring.Component):
    """Choose between reads and writes, a segment at a time.

    Where both can go, a burst is finished first, then the other kind has its turn; where only one
    can, it goes. So neither waits for the master's data of the other, nor for its pauses.

    Members
    -------
    reads, writes : In(stream(segment_layout))
    read_room : In(1)
        There is a place for the beats of any segment.
    write_data : In(1)
        The beats of the segment that is offered to be written are at hand.
    accesses : Out(stream(access_layout))
    granted_read, granted_write : Out(1)
        The segment in `accesses` is new, and its place in the order fixed. High for one cycle.

    Notes
    -----
    Takes one cycle; a segment every two.
    """

    def __init__(self, config: AcceleratorConfig, chip: SdramChip):
        segments = stream.Signature(segment_layout(config, chip))
        super().__init__(
            {
                "reads": In(segments),
                "writes": In(segments),
                "read_room": In(1),
                "write_data": In(1),
                "accesses": Out(stream.Signature(access_layout(config, chip))),
                "granted_read": Out(1),
                "granted_write": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        prefers_write, chosen_write = Signal(), Signal()
        access = self.accesses.payload
        can_read, can_write = Signal(), Signal()
        m.d.comb += [
            can_read.eq(self.reads.valid & self.read_room),
            can_write.eq(self.writes.valid & self.write_data),
            chosen_write.eq(can_write & (prefers_write | ~can_read)),
            self.reads.ready.eq(~self.accesses.valid & can_read & ~chosen_write),
            self.writes.ready.eq(~self.accesses.valid & chosen_write),
        ]
        m.d.sync += [
            self.granted_read.eq(self.reads.ready),
            self.granted_write.eq(self.writes.ready),
        ]
        with m.If(self.accesses.ready):
            m.d.sync += self.accesses.valid.eq(0)
        with m.If(~self.accesses.valid):
            m.d.sync += [
                self.accesses.valid.eq(can_read | can_write),
                access.write.eq(chosen_write),
                access.segment.eq(Mux(chosen_write, self.writes.payload, self.reads.payload)),
            ]
        with m.If(self.granted_read | self.granted_write):
            m.d.sync += prefers_write.eq(access.write ^ access.segment.last)
        return m
