"""The data side of LOAD: cuts beats into chunks and writes them where they belong."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import ADDRESS_BITS, LoadKind, Prefix
from coprune_hw.contract.registers import ErrorCode

from .chunker import Chunker
from .interfaces import (
    completion_signature,
    parameter_write_signature,
    pixel_write_signature,
    slot_write_signature,
    table_write_signature,
)
from .load_plan import load_job_layout
from .raster_walk import RasterWalk


class LoadWriter(wiring.Component):
    """Write the chunks of LOAD jobs to slot, parameter, table and activation memory.

    Members
    -------
    jobs : In(stream(load_job_layout))
    beats : In(stream(bus_bits))
    slots, parameters, tables, pixels : Out
        Writes; a pixel waits while its `ready` is 0, and is filled up with zeros to a word.
    completions : Out(stream(Prefix))
        One for every job, after its last write was accepted.
    busy : Out(1)
        A job was accepted whose completion is not.
    error : Out(ErrorCode)
        ADDRESS: a pixel lies beyond the end of its bank; it is not written. Stays until reset.

    Notes
    -----
    A beat is taken two cycles after the job at the earliest. A chunk is written in the cycle after
    its last beat was taken, the first pixel of a job not before ``RasterWalk.LATENCY + 1`` cycles
    after the job. A job completes in the cycle after its last write, and the next job is taken in
    that cycle, if the completion is.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "jobs": In(stream.Signature(load_job_layout(config))),
                "beats": In(stream.Signature(config.bus_bits)),
                "slots": Out(slot_write_signature(config)),
                "parameters": Out(parameter_write_signature()),
                "tables": Out(table_write_signature()),
                "pixels": Out(pixel_write_signature(config)),
                "completions": Out(completion_signature()),
                "busy": Out(1),
                "error": Out(ErrorCode),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.chunker = chunker = Chunker(config)
        m.submodules.walk = walk = RasterWalk(config)
        connect(m, flipped(self.beats), chunker.beats)

        kind = Signal(LoadKind, reset_less=True)
        prefix = Signal(Prefix, reset_less=True)
        address = Signal(ADDRESS_BITS, reset_less=True)
        # Bytes of a word that a pixel has.
        present = Signal(config.lanes, reset_less=True)

        chunks, locations = chunker.chunks, walk.locations
        job = self.jobs.payload
        is_written, completes = Signal(), Signal()
        # Only pixels wait, for their place. In a register of its own: beats from afar wait for it.
        are_pixels = Signal(reset_less=True)
        can_write = locations.valid & locations.payload.in_range
        m.d.comb += chunks.ready.eq(~are_pixels | (self.pixels.ready & can_write))
        m.d.comb += [
            chunker.runs.payload.size.eq(job.size),
            chunker.runs.payload.chunks.eq(job.chunks),
            walk.windows.payload.place.eq(job.load.place),
            walk.windows.payload.window.eq(job.load.window),
        ]
        with m.FSM(name="write") as write:
            with m.State("IDLE"):
                m.d.comb += self.jobs.ready.eq(~self.completions.valid | self.completions.ready)
                m.d.sync += [
                    kind.eq(job.load.kind),
                    are_pixels.eq(job.load.kind == LoadKind.PIXELS),
                    prefix.eq(job.load.prefix),
                    address.eq(job.load.place.base),
                    present.eq(Cat(job.load.pixel_bytes > i for i in range(config.lanes))),
                ]
                with m.If(self.jobs.valid & self.jobs.ready):
                    with m.If(job.chunks.any()):
                        # Both are idle: they were given the last job's chunks and pixels, and no
                        # more.
                        m.d.comb += chunker.runs.valid.eq(1)
                        m.d.comb += walk.windows.valid.eq(job.load.kind == LoadKind.PIXELS)
                        m.next = "WRITE"
                    with m.Else():
                        m.next = "EMPTY"
            with m.State("EMPTY"):
                m.d.comb += completes.eq(1)
                m.next = "IDLE"
            with m.State("WRITE"):
                with m.Switch(kind):
                    with m.Case(LoadKind.SLOTS):
                        m.d.comb += self.slots.valid.eq(chunks.valid)
                    with m.Case(LoadKind.PARAMETERS):
                        m.d.comb += self.parameters.valid.eq(chunks.valid)
                    with m.Case(LoadKind.TABLES):
                        m.d.comb += self.tables.valid.eq(chunks.valid)
                    with m.Case(LoadKind.PIXELS):
                        m.d.comb += [
                            self.pixels.valid.eq(chunks.valid & can_write),
                            locations.ready.eq(is_written),
                        ]
                        with m.If(locations.valid & ~locations.payload.in_range):
                            m.d.sync += self.error.eq(ErrorCode.ADDRESS)
                m.d.comb += is_written.eq(chunks.valid & chunks.ready)
                with m.If(is_written):
                    m.d.sync += address.eq(address + 1)
                    with m.If(chunks.payload.last):
                        m.d.comb += completes.eq(1)
                        m.next = "IDLE"

        with m.If(self.completions.ready):
            m.d.sync += self.completions.valid.eq(0)
        with m.If(completes):
            m.d.sync += [self.completions.valid.eq(1), self.completions.payload.eq(prefix)]

        chunk = chunks.payload.data
        m.d.comb += [
            self.slots.payload.address.eq(address),
            self.slots.payload.slot.eq(chunk),
            self.parameters.payload.address.eq(address),
            self.parameters.payload.record.eq(chunk),
            self.tables.payload.address.eq(address),
            self.tables.payload.byte.eq(chunk),
            self.pixels.payload.bank.eq(locations.payload.bank),
            self.pixels.payload.address.eq(locations.payload.address),
            self.pixels.payload.word.eq(
                Cat(chunk.word_select(i, 8) & present[i].replicate(8) for i in range(config.lanes))
            ),
            self.busy.eq(~write.ongoing("IDLE") | self.completions.valid),
        ]
        return m
