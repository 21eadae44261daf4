"""Finds requests in a stream of bytes, and checks them."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from coprune_hw.contract.link import (
    CHECKSUM_BYTES,
    MAX_WORDS,
    REQUEST_HEADER_BYTES,
    REQUEST_SYNC,
    SILENCE_BYTES,
    WORD_BYTES,
    Command,
    RequestHeader,
)


class RequestReceiver(wiring.Component):
    """Receive a request whole before anything of it is carried out.

    Parameters
    ----------
    byte_cycles : int
        Clock cycles that a byte takes on the line.

    Members
    -------
    i : In(stream)
        Bytes.
    header : Out
        Of the request, while `arrived`.
    arrived, damaged : Out
        A request is whole, or was none and the line has been silent since. One of them stays until
        `take`; bytes that come meanwhile are lost.
    take : In
    word_valid, word_index, word : Out
        The words of a write, as they come.
    """

    def __init__(self, *, byte_cycles: int):
        self._silence_cycles = SILENCE_BYTES * byte_cycles
        super().__init__(
            {
                "i": In(stream.Signature(8, always_ready=True)),
                "header": Out(RequestHeader),
                "arrived": Out(1),
                "damaged": Out(1),
                "take": In(1),
                "word_valid": Out(1),
                "word_index": Out(range(MAX_WORDS)),
                "word": Out(8 * WORD_BYTES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        byte, valid = self.i.payload, self.i.valid
        left = Signal(range(MAX_WORDS * WORD_BYTES + 1))
        header = Value.cast(self.header)
        complete = RequestHeader(Cat(header[8:], byte))
        quiet = Signal(range(self._silence_cycles + 1))
        silent = quiet == self._silence_cycles
        m.d.sync += quiet.eq(Mux(valid, 0, Mux(silent, quiet, quiet + 1)))
        m.d.comb += crc.data.eq(byte)
        is_write = (complete.command == Command.WRITE_REGISTERS) | (
            complete.command == Command.WRITE_MEMORY
        )
        makes_sense = (
            (complete.command <= max(Command))
            & (complete.words != 0)
            & (complete.words <= MAX_WORDS)
        )
        with m.FSM():
            with m.State("sync"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += left.eq(REQUEST_HEADER_BYTES)
                with m.If(valid):
                    m.next = "noise"
                    with m.If(byte == REQUEST_SYNC):
                        m.next = "header"
            with m.State("header"):
                with m.If(valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [header.eq(Cat(header[8:], byte)), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.d.sync += [left.eq(CHECKSUM_BYTES), self.word_index.eq(0)]
                        m.next = "checksum"
                        with m.If(~makes_sense):
                            m.next = "noise"
                        with m.Elif(is_write):
                            m.d.sync += left.eq(complete.words << 2)
                            m.next = "words"
                with m.Elif(silent):
                    m.next = "damaged"
            with m.State("words"):
                with m.If(valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [self.word.eq(Cat(self.word[8:], byte)), left.eq(left - 1)]
                    m.d.sync += self.word_valid.eq(left[:2] == 1)
                    with m.If(left == 1):
                        m.d.sync += left.eq(CHECKSUM_BYTES)
                        m.next = "checksum"
                with m.Elif(silent):
                    m.next = "damaged"
            with m.State("checksum"):
                with m.If(valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "compare"
                with m.Elif(silent):
                    m.next = "damaged"
            with m.State("compare"):
                m.next = "noise"
                with m.If(crc.match_detected):
                    m.next = "arrived"
            with m.State("noise"), m.If(silent):
                m.next = "damaged"
            with m.State("arrived"):
                m.d.comb += self.arrived.eq(1)
                with m.If(self.take):
                    m.next = "sync"
            with m.State("damaged"):
                m.d.comb += self.damaged.eq(1)
                with m.If(self.take):
                    m.next = "sync"
        with m.If(self.word_valid):
            m.d.sync += [self.word_valid.eq(0), self.word_index.eq(self.word_index + 1)]
        return m
