"""Memory on the chip behind an AXI4 slave."""

from amaranth.hdl import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, connect, flipped
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import (
    AxiResponse,
    BurstAddress,
    WriteResponse,
    axi4_signature,
    read_data_layout,
)
from coprune_hw.gateware.stream_fifo import StreamFifo

PAGE_BYTES = 4096
"""No burst of AXI4 crosses a multiple of this."""

_BUFFER_BEATS = 4
"""Of read data: a place is free again so many cycles after a word for it was read."""


class OnChipMemory(wiring.Component):
    """Serve an AXI4 bus from block RAM, which begins at address 0.

    Bursts beyond the last byte are answered with DECERR and change nothing. Reads and writes go at
    the same time; within a kind, bursts are answered in order. What is read after the response to a
    write is what was written.

    Parameters
    ----------
    config : AcceleratorConfig
    size_bytes : int
        A multiple of `PAGE_BYTES`.

    Members
    -------
    bus : In(axi4_signature)
        INCR bursts of full-width beats.

    Notes
    -----
    The first beat comes `READ_LATENCY` cycles after its address was accepted, a response
    `WRITE_LATENCY` cycles after the last beat; beats are taken from the cycle after their address
    on. One beat a cycle, also from burst to burst. Addresses are accepted at once while as many
    bursts are under way as the machine begins.
    """

    READ_LATENCY = 5
    WRITE_LATENCY = StreamFifo.LATENCY

    def __init__(self, config: AcceleratorConfig, *, size_bytes: int):
        if size_bytes <= 0 or size_bytes % PAGE_BYTES or size_bytes > 1 << 32:
            raise ValueError(
                f"size_bytes must be a multiple of {PAGE_BYTES} up to {1 << 32}, not {size_bytes}"
            )
        self._config = config
        self.size_bytes = size_bytes
        super().__init__({"bus": In(axi4_signature(config))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(
            shape=self._config.bus_bits, depth=self.size_bytes // self._config.bus_bytes, init=[]
        )
        self._serve_reads(m, words.read_port())
        self._serve_writes(m, words.write_port(granularity=8))
        return m

    def _serve_reads(self, m, port):
        # Cycle 0: the address is accepted.
        # Cycle 1: a burst leaves the queue.
        # Cycle 2: its first word is read, and then one a cycle.
        # Cycle 3: the word leaves the block RAM.
        # Cycle 4: it is in `output`, and goes into the buffer, which has a place for it.
        m.submodules.read_bursts = bursts = StreamFifo(
            BurstAddress, depth=2 * self._config.outstanding_bursts
        )
        m.submodules.read_buffer = buffer = StreamFifo(
            read_data_layout(self._config.bus_bits), depth=_BUFFER_BEATS
        )
        connect(m, flipped(self.bus.read.read_address), bursts.i)
        connect(m, buffer.o, flipped(self.bus.read.read_data))
        burst = bursts.o.payload
        position = Signal(port.addr.shape(), reset_less=True)
        beats_left = Signal.like(burst.length, reset_less=True)
        is_inside, is_active = Signal(reset_less=True), Signal()
        room = Signal(range(_BUFFER_BEATS + 1), init=_BUFFER_BEATS)
        reads = Signal()
        m.d.comb += [
            reads.eq(is_active & room.any()),
            port.en.eq(1),
            port.addr.eq(position),
            bursts.o.ready.eq(~is_active | (reads & (beats_left == 0))),
        ]
        m.d.sync += room.eq(room - reads + (buffer.o.valid & buffer.o.ready))
        with m.If(bursts.o.ready):
            m.d.sync += [
                is_active.eq(bursts.o.valid),
                position.eq(self._position(burst.address)),
                beats_left.eq(burst.length),
                is_inside.eq(self._is_inside(burst.address)),
            ]
        with m.Elif(reads):
            m.d.sync += [position.eq(position + 1), beats_left.eq(beats_left - 1)]

        beat = data.StructLayout({"valid": 1, "last": 1, "is_inside": 1})
        read, output = Signal(beat), Signal(beat)
        word = Signal(self._config.bus_bits, reset_less=True)
        m.d.sync += [
            read.valid.eq(reads),
            read.last.eq(beats_left == 0),
            read.is_inside.eq(is_inside),
            output.eq(read),
            word.eq(port.data),
        ]
        m.d.comb += [
            buffer.i.valid.eq(output.valid),
            buffer.i.payload.data.eq(word),
            buffer.i.payload.last.eq(output.last),
            buffer.i.payload.response.eq(_response(output.is_inside)),
        ]

    def _serve_writes(self, m, port):
        # Cycle 0: the address is accepted.
        # Cycle 1: the first beat is accepted, if it is there.
        # Cycle 2: it is written.
        m.submodules.write_bursts = bursts = StreamFifo(
            BurstAddress, depth=self._config.outstanding_bursts
        )
        m.submodules.responses = responses = StreamFifo(
            WriteResponse, depth=self._config.outstanding_bursts
        )
        connect(m, flipped(self.bus.write.write_address), bursts.i)
        connect(m, responses.o, flipped(self.bus.write.write_response))
        address, beat = bursts.o.payload.address, self.bus.write.write_data
        is_inside = self._is_inside(address)
        beats_done = Signal(8)
        accepted = Signal()
        m.d.comb += [
            beat.ready.eq(bursts.o.valid & responses.i.ready),
            accepted.eq(beat.valid & beat.ready),
            bursts.o.ready.eq(accepted & beat.payload.last),
            responses.i.valid.eq(accepted & beat.payload.last),
            responses.i.payload.response.eq(_response(is_inside)),
        ]
        m.d.sync += [
            port.en.eq(Mux(accepted & is_inside, beat.payload.strobe, 0)),
            port.addr.eq(self._position(address) + beats_done),
            port.data.eq(beat.payload.data),
        ]
        with m.If(accepted):
            m.d.sync += beats_done.eq(Mux(beat.payload.last, 0, beats_done + 1))

    def _position(self, address):
        return address >> exact_log2(self._config.bus_bytes)

    def _is_inside(self, address):
        return (address >> exact_log2(PAGE_BYTES)) < self.size_bytes // PAGE_BYTES


def _response(is_inside):
    return Mux(is_inside, AxiResponse.OKAY, AxiResponse.DECERR)
