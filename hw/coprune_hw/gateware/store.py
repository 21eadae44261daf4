"""The STORE unit: activation memory to DRAM."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import Store
from coprune_hw.contract.registers import ErrorCode

from .interfaces import axi4_write_signature, completion_signature, pixel_read_signature
from .pixel_address import is_place_valid
from .raster_walk import RasterWalk
from .word_packer import WordPacker
from .word_reader import WordReader
from .write_burst import BurstWriter

WORD_COUNT_BITS = 22
"""Words of one STORE: a window has up to 2047 x 2047 pixels."""


class Storer(wiring.Component):
    """Carry out STORE instructions, one after the other.

    Parameters
    ----------
    config : AcceleratorConfig
    read_latency : int
        Cycles from an accepted request on `pixels` to its response, at least 1.

    Members
    -------
    instructions : In(stream(Store))
    program_address, program_bytes : In(32)
        Must be stable.
    pixels : Out(pixel_read_signature)
    bus : Out(axi4_write_signature)
    halt : In(1)
        Begin no more bursts; finish those under way.
    completions : Out(stream(Prefix))
        After the bus confirmed the last burst of an instruction.
    busy : Out(1)
        An instruction was accepted whose completion is not.
    bus_busy : Out(1)
        Bursts are under way.
    error : Out(ErrorCode)
        ADDRESS: `destination` is no multiple of the bus width, the words end behind the program,
        there are none, the place is none of this machine's, or a pixel lies beyond the end of its
        bank. AXI_WRITE: the bus answered with an error. Stays until reset.

    Notes
    -----
    `WRITE_LATENCY` cycles after the instruction was accepted its bursts are planned, and
    `REQUEST_LATENCY` cycles after it the first word is asked for. One word or one beat a cycle,
    whichever is slower; bursts begin when all their beats are at hand. The completion comes
    `COMPLETION_LATENCY` cycles after `BurstWriter` is idle.
    """

    WRITE_LATENCY = 3
    REQUEST_LATENCY = WRITE_LATENCY + RasterWalk.LATENCY
    COMPLETION_LATENCY = 1

    def __init__(self, config: AcceleratorConfig, *, read_latency: int):
        self._config = config
        self._reader = WordReader(config, read_latency=read_latency)
        super().__init__(
            {
                "instructions": In(stream.Signature(Store)),
                "program_address": In(32),
                "program_bytes": In(32),
                "pixels": Out(pixel_read_signature(config)),
                "bus": Out(axi4_write_signature(config)),
                "halt": In(1),
                "completions": Out(completion_signature()),
                "busy": Out(1),
                "bus_busy": Out(1),
                "error": Out(ErrorCode),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, bus_bytes = self._config, self._config.bus_bytes
        m.submodules.reader = reader = self._reader
        m.submodules.packer = packer = WordPacker(config)
        m.submodules.writer = writer = BurstWriter(config)
        connect(m, reader.pixels, flipped(self.pixels))
        connect(m, packer.beats, writer.beats)
        connect(m, writer.bus, flipped(self.bus))

        store = Signal(Store, reset_less=True)
        words = Signal(WORD_COUNT_BITS, reset_less=True)
        size_bytes = words << exact_log2(config.lanes)
        image_end = Signal(33, reset_less=True)
        is_unfit = Signal(reset_less=True)
        # Words that the packer has still to be given.
        words_left = Signal(WORD_COUNT_BITS, reset_less=True)

        transfer = writer.transfer.payload
        m.d.comb += [
            reader.windows.payload.place.eq(store.place),
            reader.windows.payload.window.eq(store.window),
            transfer.beats.address.eq(self.program_address + store.destination),
            transfer.beats.beats.eq((size_bytes + (bus_bytes - 1)) >> exact_log2(bus_bytes)),
            transfer.last_strobe.eq(~0),
            writer.halt.eq(self.halt),
        ]
        if config.lanes < bus_bytes:
            with m.If(words[0]):
                m.d.comb += transfer.last_strobe.eq((1 << config.lanes) - 1)

        with m.FSM(name="store") as state:
            with m.State("IDLE"):
                m.d.comb += self.instructions.ready.eq(1)
                m.d.sync += store.eq(self.instructions.payload)
                with m.If(self.instructions.valid):
                    m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += words.eq(store.window.rows * store.window.width)
                m.next = "LIMIT"
            with m.State("LIMIT"):
                m.d.sync += [
                    image_end.eq(store.destination + size_bytes),
                    words_left.eq(words),
                    is_unfit.eq(
                        store.destination[: exact_log2(bus_bytes)].any()
                        | ~words.any()
                        | ~is_place_valid(store.place, config)
                    ),
                ]
                m.next = "ISSUE"
            with m.State("ISSUE"):
                with m.If((image_end > self.program_bytes) | is_unfit):
                    m.d.sync += self.error.eq(ErrorCode.ADDRESS)
                    m.next = "ERROR"
                with m.Else():
                    # Both are idle: all of the last instruction has gone through them.
                    m.d.comb += [reader.windows.valid.eq(1), writer.transfer.valid.eq(1)]
                    m.next = "STORE"
            with m.State("STORE"):
                with m.If(reader.out_of_range):
                    m.d.sync += self.error.eq(ErrorCode.ADDRESS)
                    m.next = "ERROR"
                with m.If(writer.error):
                    m.d.sync += self.error.eq(ErrorCode.AXI_WRITE)
                    m.next = "ERROR"
                with m.Elif(~writer.busy):
                    m.next = "COMPLETE"
            with m.State("COMPLETE"):
                m.d.comb += self.completions.valid.eq(1)
                with m.If(self.completions.ready):
                    m.next = "IDLE"
            with m.State("ERROR"):
                pass

        m.d.comb += [
            packer.words.payload.word.eq(reader.words.payload),
            packer.words.payload.last.eq(words_left == 1),
            packer.words.valid.eq(reader.words.valid),
            reader.words.ready.eq(packer.words.ready),
            self.completions.payload.eq(store.prefix),
            self.busy.eq(~state.ongoing("IDLE")),
            self.bus_busy.eq(writer.bus_busy),
        ]
        with m.If(packer.words.valid & packer.words.ready):
            m.d.sync += words_left.eq(words_left - 1)
        return m
