"""Carries the host's accesses to registers and memory."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.link import WORD_BYTES
from coprune_hw.contract.system import DESCRIPTION_ADDRESS, MEMORY_ADDRESS, SystemDescription
from coprune_hw.gateware.interfaces import (
    REGISTER_ADDRESS_BITS,
    axi4_lite_signature,
    axi4_signature,
)
from coprune_hw.link.host_link import Access, Answer


class HostAccess(wiring.Component):
    """Turn an access of `HostLink` into one of a bus, or answer it from the description.

    Answered with an error are: addresses that are no multiple of a word; registers that are neither
    the accelerator's nor of the description; writes to the description; and what the bus answers
    with an error.

    Parameters
    ----------
    config : AcceleratorConfig
    memory_bytes : int
        What the description says.

    Members
    -------
    access : In(stream)
        The next is taken after the answer.
    answer : Out(stream)
    registers : Out(axi4_lite_signature)
        The accelerator's.
    memory : Out(axi4_signature)
        Bursts of one beat, of which a word is written.

    Notes
    -----
    Takes three cycles besides those of the bus; an answer without one two.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int):
        self._config = config
        self._description = {"memory_address": MEMORY_ADDRESS, "memory_bytes": memory_bytes}
        super().__init__(
            {
                "access": In(stream.Signature(Access)),
                "answer": Out(stream.Signature(Answer, always_ready=True)),
                "registers": Out(axi4_lite_signature()),
                "memory": Out(axi4_signature(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        access, answer = Signal(Access, reset_less=True), self.answer.payload
        is_aligned = ~access.address[: exact_log2(WORD_BYTES)].any()
        is_of_accelerator = access.address < 1 << REGISTER_ADDRESS_BITS
        # Of the bus that the access goes to.
        address_ready, data_ready, result_valid = Signal(), Signal(), Signal()
        result = Signal(Answer)
        with m.FSM() as state:
            with m.State("IDLE"):
                m.d.comb += self.access.ready.eq(1)
                m.d.sync += access.eq(self.access.payload)
                with m.If(self.access.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [answer.data.eq(0), answer.error.eq(1)]
                m.next = "ANSWER"
                with m.If(is_aligned & (~access.register | is_of_accelerator)):
                    m.next = "ADDRESS"
                with m.Elif(access.register & ~access.write), m.Switch(access.address):
                    for name, field in data.Layout.cast(SystemDescription):
                        with m.Case(DESCRIPTION_ADDRESS + field.offset // 8):
                            value = self._description[name]
                            m.d.sync += [answer.data.eq(value), answer.error.eq(0)]
            with m.State("ADDRESS"), m.If(address_ready):
                m.next = "RESULT"
                with m.If(access.write):
                    m.next = "DATA"
            with m.State("DATA"), m.If(data_ready):
                m.next = "RESULT"
            with m.State("RESULT"):
                m.d.sync += answer.eq(result)
                with m.If(result_valid):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.answer.valid.eq(1)
                m.next = "IDLE"

        registers, reads, writes = self.registers, self.memory.read, self.memory.write
        with m.Switch(Cat(access.register, access.write)):
            for kind, address_channel, result_channel in (
                (0b00, reads.read_address, reads.read_data),
                (0b01, registers.read_address, registers.read_data),
                (0b10, writes.write_address, writes.write_response),
                (0b11, registers.write_address, registers.write_response),
            ):
                with m.Case(kind):
                    m.d.comb += [
                        address_channel.valid.eq(state.ongoing("ADDRESS")),
                        address_ready.eq(address_channel.ready),
                        result_channel.ready.eq(state.ongoing("RESULT")),
                        result_valid.eq(result_channel.valid),
                        result.error.eq(Value.cast(result_channel.payload.response)[1]),
                    ]
        with m.Switch(access.register):
            for kind, data_channel in ((0, writes.write_data), (1, registers.write_data)):
                with m.Case(kind):
                    m.d.comb += [
                        data_channel.valid.eq(state.ongoing("DATA")),
                        data_ready.eq(data_channel.ready),
                    ]

        bus_bytes = self._config.bus_bytes
        # Of the words of a beat, the one that is accessed.
        place = access.address[exact_log2(WORD_BYTES) : exact_log2(bus_bytes)]
        beat_address = access.address & ~(bus_bytes - 1)
        register_word, memory_beat = registers.read_data.payload, reads.read_data.payload
        memory_word = memory_beat.data.word_select(place, 8 * WORD_BYTES)
        m.d.comb += [
            result.data.eq(Mux(access.register, register_word.data, memory_word)),
            registers.read_address.payload.address.eq(access.address),
            registers.write_address.payload.address.eq(access.address),
            registers.write_data.payload.data.eq(access.data),
            registers.write_data.payload.strobe.eq(0b1111),
            reads.read_address.payload.address.eq(beat_address),
            writes.write_address.payload.address.eq(beat_address),
            writes.write_data.payload.data.eq(access.data.replicate(bus_bytes // WORD_BYTES)),
            writes.write_data.payload.strobe.eq(0b1111 << (place << exact_log2(WORD_BYTES))),
            writes.write_data.payload.last.eq(1),
        ]
        return m
