"""The LOAD unit: DRAM to slot, parameter and activation memory."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import Load
from coprune_hw.contract.registers import ErrorCode

from .interfaces import (
    axi4_read_signature,
    completion_signature,
    parameter_write_signature,
    pixel_write_signature,
    slot_write_signature,
    table_write_signature,
)
from .load_plan import LoadPlanner, load_job_layout
from .load_write import LoadWriter
from .read_burst import BurstReader
from .stream_fifo import StreamFifo


class Loader(wiring.Component):
    """Carry out LOAD instructions in order.

    Members
    -------
    instructions : In(stream(Load))
    program_address, program_bytes : In(32)
        Must be stable.
    bus : Out(axi4_read_signature)
    slots, parameters, tables, pixels : Out
        Writes to the four memories.
    completions : Out(stream(Prefix))
        After the last write of an instruction was accepted.
    busy : Out(1)
        An instruction was accepted whose completion is not.
    error : Out(ErrorCode)
        As `LoadPlanner` and `LoadWriter` find it. Stays until reset.

    Notes
    -----
    An instruction asks for its first burst `REQUEST_LATENCY` cycles after it was accepted, while up
    to `AHEAD` earlier ones wait for their beats. The completion is valid `COMPLETION_LATENCY`
    cycles after the last write; between first beat and last write see `Chunker`. The next load's
    first beat is taken `TURNAROUND` cycles after the last write at the earliest. A load of nothing
    completes without the bus.
    """

    REQUEST_LATENCY = LoadPlanner.LATENCY + BurstReader.LATENCY
    JOB_LATENCY = StreamFifo.LATENCY
    COMPLETION_LATENCY = 1
    AHEAD = 4
    TURNAROUND = 3

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "instructions": In(stream.Signature(Load)),
                "program_address": In(32),
                "program_bytes": In(32),
                "bus": Out(axi4_read_signature(config)),
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
        m.submodules.planner = planner = LoadPlanner(self._config)
        m.submodules.jobs = jobs = StreamFifo(load_job_layout(self._config), depth=self.AHEAD)
        m.submodules.reader = reader = BurstReader(self._config)
        m.submodules.writer = writer = LoadWriter(self._config)

        connect(m, flipped(self.instructions), planner.instructions)
        connect(m, planner.transfers, reader.transfer)
        connect(m, reader.bus, flipped(self.bus))
        connect(m, reader.beats, writer.beats)
        connect(m, planner.jobs, jobs.i)
        connect(m, jobs.o, writer.jobs)
        for name in ("slots", "parameters", "tables", "pixels", "completions"):
            connect(m, getattr(writer, name), flipped(getattr(self, name)))
        m.d.comb += [
            planner.program_address.eq(self.program_address),
            planner.program_bytes.eq(self.program_bytes),
            self.busy.eq(planner.busy | jobs.level.any() | writer.busy),
            self.error.eq(Mux(planner.error != ErrorCode.NONE, planner.error, writer.error)),
        ]
        return m
