"""The address side of LOAD: checks an instruction and asks for its beats."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import TABLE_BYTES, Load, LoadKind
from coprune_hw.contract.parameters import PARAMETER_BYTES
from coprune_hw.contract.registers import ErrorCode
from coprune_hw.contract.slots import slot_bytes

from .chunker import CHUNK_COUNT_BITS
from .interfaces import Transfer
from .pixel_address import is_place_valid


def load_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A checked LOAD: the instruction, and the size and number of its chunks."""
    return data.StructLayout(
        {"load": Load, "size": range(slot_bytes(config.lanes) + 1), "chunks": CHUNK_COUNT_BITS}
    )


class LoadPlanner(wiring.Component):
    """Turn LOAD instructions into transfers on the bus and jobs for the data side.

    Members
    -------
    instructions : In(stream(Load))
    program_address, program_bytes : In(32)
        Must be stable.
    transfers : Out(stream(Transfer))
        None for a load of no slots, parameters or tables.
    jobs : Out(stream(load_job_layout))
        Presented together with the transfer, and accepted only together with it.
    busy : Out(1)
    error : Out(ErrorCode)
        ADDRESS: `source` is no multiple of the bus width, the source ends behind the program, or
        slots, parameters or tables end behind their memory; pixels are none, have a size that is
        not 1 to `lanes` bytes, or a place that is none of this machine's.
        Nothing is asked for, now or later. Stays until reset.

    Notes
    -----
    `LATENCY` cycles from an instruction to its job; one instruction per `LATENCY` cycles.
    """

    LATENCY = 6

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "instructions": In(stream.Signature(Load)),
                "program_address": In(32),
                "program_bytes": In(32),
                "transfers": Out(stream.Signature(Transfer)),
                "jobs": Out(stream.Signature(load_job_layout(config))),
                "busy": Out(1),
                "error": Out(ErrorCode),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, bus_bytes = self._config, self._config.bus_bytes
        load = Signal(Load, reset_less=True)
        size = Signal.like(self.jobs.payload.size, reset_less=True)
        chunks = Signal(CHUNK_COUNT_BITS, reset_less=True)
        is_pixels = load.kind == LoadKind.PIXELS

        # size * chunks in two steps of one addition each: low, middle and top bits of the size.
        low = Signal(CHUNK_COUNT_BITS + 2, reset_less=True)
        middle = Signal(CHUNK_COUNT_BITS + 2, reset_less=True)
        size_bytes = Signal(CHUNK_COUNT_BITS + 5, reset_less=True)
        top = Mux(size[4:].any(), chunks << 4, 0)

        image_end = Signal(33, reset_less=True)
        memory_end = Signal(17, reset_less=True)
        memory_depth = Signal(17, reset_less=True)
        is_unfit = Signal(reset_less=True)
        transfer = Signal(Transfer, reset_less=True)

        with m.FSM(name="plan") as plan:
            with m.State("IDLE"):
                m.d.comb += self.instructions.ready.eq(1)
                m.d.sync += load.eq(self.instructions.payload)
                with m.If(self.instructions.valid):
                    m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += chunks.eq(load.count)
                with m.Switch(load.kind):
                    with m.Case(LoadKind.SLOTS):
                        m.d.sync += size.eq(slot_bytes(config.lanes))
                        m.d.sync += memory_depth.eq(config.slot_depth)
                    with m.Case(LoadKind.PARAMETERS):
                        m.d.sync += size.eq(PARAMETER_BYTES)
                        m.d.sync += memory_depth.eq(config.parameter_depth)
                    with m.Case(LoadKind.TABLES):
                        m.d.sync += size.eq(1)
                        m.d.sync += memory_depth.eq(config.tables * TABLE_BYTES)
                    with m.Default():
                        m.d.sync += size.eq(load.pixel_bytes)
                        m.d.sync += chunks.eq(load.window.rows * load.window.width)
                m.d.sync += memory_end.eq(load.place.base + load.count)
                m.next = "SCALE"
            with m.State("SCALE"):
                m.d.sync += [
                    low.eq(Mux(size[0], chunks, 0) + Mux(size[1], chunks << 1, 0)),
                    middle.eq(Mux(size[2], chunks, 0) + Mux(size[3], chunks << 1, 0)),
                    is_unfit.eq(
                        Mux(
                            is_pixels,
                            (load.pixel_bytes == 0)
                            | (load.pixel_bytes > config.lanes)
                            | ~chunks.any()
                            | ~is_place_valid(load.place, config),
                            memory_end > memory_depth,
                        )
                        | (load.source[: exact_log2(bus_bytes)] != 0)
                    ),
                ]
                m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += size_bytes.eq(low + (middle << 2) + top)
                m.next = "LIMIT"
            with m.State("LIMIT"):
                m.d.sync += [
                    image_end.eq(load.source + size_bytes),
                    transfer.address.eq(self.program_address + load.source),
                    transfer.beats.eq((size_bytes + (bus_bytes - 1)) >> exact_log2(bus_bytes)),
                ]
                m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "ISSUE"
                with m.If((image_end > self.program_bytes) | is_unfit):
                    m.d.sync += self.error.eq(ErrorCode.ADDRESS)
                    m.next = "ERROR"
            with m.State("ISSUE"):
                is_empty = ~chunks.any()
                m.d.comb += [
                    self.transfers.valid.eq(self.jobs.ready & ~is_empty),
                    self.jobs.valid.eq(self.transfers.ready | is_empty),
                ]
                with m.If(self.jobs.valid & self.jobs.ready):
                    m.next = "IDLE"
            with m.State("ERROR"):
                pass

        m.d.comb += [
            self.transfers.payload.eq(transfer),
            self.jobs.payload.load.eq(load),
            self.jobs.payload.size.eq(size),
            self.jobs.payload.chunks.eq(chunks),
            self.busy.eq(~plan.ongoing("IDLE")),
        ]
        return m
