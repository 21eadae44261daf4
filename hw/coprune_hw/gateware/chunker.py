"""Cuts the beats of the bus into slot words, parameter records and pixels."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.parameters import PARAMETER_BYTES
from coprune_hw.contract.slots import slot_bytes

CHUNK_COUNT_BITS = 22
"""Chunks of one run: a window has up to 2047 x 2047 pixels."""


def chunk_sizes(config: AcceleratorConfig) -> list[int]:
    """Sizes of chunks in bytes, ascending: of pixels, parameter records and slot words."""
    return sorted({*range(1, config.lanes + 1), PARAMETER_BYTES, slot_bytes(config.lanes)})


class Chunker(wiring.Component):
    """Cut beats into chunks of `size` bytes that lie without gaps in memory.

    Bytes that do not fill a chunk at the end of a run are dropped, so every run starts with the
    first byte of a beat. Beats beyond ``ceil(chunks * size / bus_bytes)`` are left to the next run.

    Members
    -------
    runs : In(stream({size, chunks}))
        `size` must be one of `chunk_sizes`, `chunks` at least 1.
    beats : In(stream(bus_bits))
    chunks : Out(stream({data, last}))
        The first `size` bytes of `data` are the chunk, the others are undefined. `last` ends a run.

    Notes
    -----
    A chunk comes `LATENCY` cycles after its last beat was accepted. A beat is accepted in every
    cycle in which fewer than `size` bytes are left once the chunk on `chunks` is taken, so the
    slower of bus and consumer rules: the last chunk of `n`, where none of them waits, is taken
    ``max(ceil(n * size / bus_bytes), ceil(size / bus_bytes) + n - 1)`` cycles after the first beat
    came. One cycle is lost between two runs.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig):
        self._bus_bytes = config.bus_bytes
        self._sizes = chunk_sizes(config)
        run = data.StructLayout({"size": range(self._sizes[-1] + 1), "chunks": CHUNK_COUNT_BITS})
        chunk = data.StructLayout({"data": 8 * self._sizes[-1], "last": 1})
        super().__init__(
            {
                "runs": In(stream.Signature(run)),
                "beats": In(stream.Signature(config.bus_bits)),
                "chunks": Out(stream.Signature(chunk)),
            }
        )

    def elaborate(self, platform):
        # The bytes at hand start at byte 0 of `held`. `rest` counts those that are left when the
        # chunk is taken, or all of them while there is no whole chunk: in both cases it is where
        # the next beat goes. A register, so the beat is rotated without waiting for the consumer.
        m = Module()
        bus_bytes, size_max = self._bus_bytes, self._sizes[-1]
        held_bytes = size_max + bus_bytes - 1
        held = Signal(data.ArrayLayout(8, held_bytes), reset_less=True)
        rest = Signal(range(held_bytes + 1), reset_less=True)
        has_chunk = Signal()
        # Another beat fits once the chunk is taken: ``rest < size``.
        has_room = Signal()
        active = Signal()
        size = Signal(range(size_max + 1), reset_less=True)
        chunks_left = Signal(CHUNK_COUNT_BITS, reset_less=True)
        is_last = Signal()

        taken, accepted = Signal(), Signal()
        m.d.comb += [
            self.runs.ready.eq(~active),
            self.chunks.valid.eq(has_chunk),
            self.chunks.payload.data.eq(Cat(held[i] for i in range(size_max))),
            self.chunks.payload.last.eq(is_last),
            taken.eq(has_chunk & self.chunks.ready),
            self.beats.ready.eq(Mux(has_chunk, self.chunks.ready & has_room & ~is_last, active)),
            accepted.eq(self.beats.valid & self.beats.ready),
        ]

        # Bytes left over move down from behind the chunk. The beat goes behind them, and into all
        # bytes further up as well, where it is overwritten before it is read: so it need not have
        # been accepted, nor be one.
        rotated = self.beats.payload
        for place in range((bus_bytes - 1).bit_length()):
            rotated = Mux(rest[place], rotated.rotate_left(8 << place), rotated)
        for i in range(held_bytes):
            with m.If(rest <= i), m.If(~has_chunk | self.chunks.ready):
                m.d.sync += held[i].eq(rotated.word_select(i % bus_bytes, 8))
            if i < bus_bytes - 1:
                with m.Elif(taken), m.Switch(size):
                    for candidate in self._sizes:
                        with m.Case(candidate):
                            m.d.sync += held[i].eq(held[i + candidate])

        # What becomes of `rest`, without a beat and with one: `accepted` comes last, and chooses.
        outcomes = []
        for level in (rest, rest + bus_bytes):
            becomes_chunk = level >= size
            left = Mux(becomes_chunk, level - size, level)[: len(rest)]
            outcomes.append(Cat(becomes_chunk, level < size << 1, left))
        with m.If(taken | accepted):
            m.d.sync += Cat(has_chunk, has_room, rest).eq(Mux(accepted, outcomes[1], outcomes[0]))
        with m.If(taken):
            m.d.sync += [chunks_left.eq(chunks_left - 1), is_last.eq(chunks_left == 2)]
            with m.If(is_last):
                m.d.sync += [active.eq(0), has_chunk.eq(0)]
        with m.If(self.runs.ready):
            m.d.sync += [
                active.eq(self.runs.valid),
                size.eq(self.runs.payload.size),
                chunks_left.eq(self.runs.payload.chunks),
                is_last.eq(self.runs.payload.chunks == 1),
                rest.eq(0),
            ]
        return m
