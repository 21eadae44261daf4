"""Carries out what a host asks for."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract.link import (
    MAX_WORDS,
    WORD_BYTES,
    LinkStatus,
)

from .reply_sender import ReplySender
from .request_receiver import RequestReceiver


class Access(data.Struct):
    """A word to read or write, at a byte address of the registers or of the memory."""

    address: 32
    data: 32
    write: 1
    register: 1


class Answer(data.Struct):
    """What the bus answered: data of a read, and whether it is an error."""

    data: 32
    error: 1


class HostLink(wiring.Component):
    """The host's end of the accelerator: see `coprune_hw.contract.link`.

    Parameters
    ----------
    byte_cycles : int
        Clock cycles that a byte takes on the line.

    Members
    -------
    i : In(stream)
        Bytes from the host; always ready.
    o : Out(stream)
        Bytes to the host.
    access : Out(stream)
        One access at a time; the next comes after its answer.
    answer : In(stream)
        Always ready.
    """

    def __init__(self, *, byte_cycles: int):
        self._byte_cycles = byte_cycles
        super().__init__(
            {
                "i": In(stream.Signature(8, always_ready=True)),
                "o": Out(stream.Signature(8)),
                "access": Out(stream.Signature(Access)),
                "answer": In(stream.Signature(Answer, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = RequestReceiver(byte_cycles=self._byte_cycles)
        m.submodules.sender = sender = ReplySender()
        m.submodules.words = words = Memory(shape=8 * WORD_BYTES, depth=MAX_WORDS, init=[])
        write_port, read_port = words.write_port(), words.read_port()
        connect(m, flipped(self.i), receiver.i)
        connect(m, sender.o, flipped(self.o))
        m.d.comb += [
            sender.word.eq(read_port.data),
            sender.header.sequence.eq(receiver.header.sequence),
        ]
        header = receiver.header
        is_write = header.command[0]
        index = Signal(range(MAX_WORDS + 1))
        status = Signal(LinkStatus)
        # The last request was a write: done once, however often it comes.
        written, sequence = Signal(), Signal(8)
        reading = Signal()
        m.d.comb += [
            sender.header.status.eq(status),
            sender.header.words.eq(Mux(reading, header.words, 0)),
            read_port.addr.eq(sender.word_index),
            write_port.addr.eq(receiver.word_index),
            write_port.data.eq(receiver.word),
            write_port.en.eq(receiver.word_valid),
            self.access.payload.address.eq(header.address + (index << 2)),
            self.access.payload.data.eq(read_port.data),
            self.access.payload.write.eq(is_write),
            self.access.payload.register.eq(~header.command[1]),
        ]
        with m.FSM():
            with m.State("wait"):
                m.d.sync += [index.eq(0), reading.eq(0), status.eq(LinkStatus.OK)]
                with m.If(receiver.damaged):
                    m.d.sync += status.eq(LinkStatus.DAMAGED)
                    m.next = "reply"
                with m.If(receiver.arrived):
                    m.next = "fetch"
                    with m.If(is_write & written & (sequence == header.sequence)):
                        m.next = "reply"
            with m.State("fetch"):
                m.d.comb += read_port.addr.eq(index)
                m.next = "access"
            with m.State("access"):
                m.d.comb += [read_port.addr.eq(index), self.access.valid.eq(1)]
                with m.If(self.access.ready):
                    m.next = "answer"
            with m.State("answer"), m.If(self.answer.valid):
                m.d.comb += [
                    write_port.addr.eq(index),
                    write_port.data.eq(self.answer.payload.data),
                    write_port.en.eq(~is_write),
                ]
                m.d.sync += index.eq(index + 1)
                m.next = "fetch"
                with m.If(self.answer.payload.error):
                    m.d.sync += status.eq(LinkStatus.BUS_ERROR)
                    m.next = "complete"
                with m.Elif(index + 1 == header.words):
                    m.next = "complete"
            with m.State("complete"):
                m.d.sync += reading.eq(~is_write & (status == LinkStatus.OK))
                m.d.sync += [
                    written.eq(is_write & (status == LinkStatus.OK)),
                    sequence.eq(header.sequence),
                ]
                m.next = "reply"
            with m.State("reply"):
                m.d.comb += sender.start.eq(1)
                with m.If(sender.done):
                    m.d.comb += receiver.take.eq(1)
                    m.next = "wait"
        return m
