"""Sends replies as bytes."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from coprune_hw.contract.link import (
    CHECKSUM_BYTES,
    MAX_WORDS,
    REPLY_HEADER_BYTES,
    REPLY_SYNC,
    WORD_BYTES,
    ReplyHeader,
)


class ReplySender(wiring.Component):
    """Send a reply: sync, header, words, checksum.

    Members
    -------
    start : In
        Send a reply with `header`, which must stay until `done`.
    header : In
    word_index : Out
    word : In
        The word at `word_index` of the cycle before.
    o : Out(stream)
        Bytes.
    done : Out
        In the cycle in which the last byte is accepted.
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(1),
                "header": In(ReplyHeader),
                "word_index": Out(range(MAX_WORDS)),
                "word": In(8 * WORD_BYTES),
                "o": Out(stream.Signature(8)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        number = Signal(range(MAX_WORDS * WORD_BYTES))
        # Memories are slow to answer, and from a byte to the checksum it is far.
        word = Signal.like(self.word, reset_less=True)
        accepted = self.o.valid & self.o.ready
        m.d.comb += crc.data.eq(self.o.payload)
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.next = "sync"
            with m.State("sync"):
                m.d.comb += [
                    crc.start.eq(1),
                    self.o.payload.eq(REPLY_SYNC),
                    self.o.valid.eq(1),
                ]
                m.d.sync += number.eq(0)
                with m.If(accepted):
                    m.next = "header"
            with m.State("header"):
                m.d.comb += [
                    self.o.payload.eq(Value.cast(self.header).word_select(number[:2], 8)),
                    self.o.valid.eq(1),
                    crc.valid.eq(accepted),
                ]
                with m.If(accepted):
                    m.d.sync += number.eq(number + 1)
                    with m.If(number == REPLY_HEADER_BYTES - 1):
                        m.d.sync += number.eq(0)
                        m.next = "fetch"
                        with m.If(self.header.words == 0):
                            m.next = "checksum"
            with m.State("fetch"):
                m.next = "hold"
            with m.State("hold"):
                m.d.sync += word.eq(self.word)
                m.next = "words"
            with m.State("words"):
                m.d.comb += [
                    self.o.payload.eq(word.word_select(number[:2], 8)),
                    self.o.valid.eq(1),
                    crc.valid.eq(accepted),
                ]
                with m.If(accepted):
                    m.d.sync += number.eq(number + 1)
                    with m.If(number[:2] == WORD_BYTES - 1):
                        m.next = "fetch"
                        with m.If(number[2:] + 1 == self.header.words):
                            m.d.sync += number.eq(0)
                            m.next = "checksum"
            with m.State("checksum"):
                m.d.comb += [
                    self.o.payload.eq(crc.crc.word_select(number[:2], 8)),
                    self.o.valid.eq(1),
                ]
                with m.If(accepted):
                    m.d.sync += number.eq(number + 1)
                    with m.If(number == CHECKSUM_BYTES - 1):
                        m.d.comb += self.done.eq(1)
                        m.next = "idle"
        m.d.comb += self.word_index.eq(number[2:])
        return m
