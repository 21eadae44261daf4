"""Writes a run of beats to the bus in bursts."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig

from .interfaces import Transfer, axi4_write_signature
from .stream_fifo import StreamFifo


def write_transfer_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A transfer, and which bytes of its last beat are written."""
    return data.StructLayout({"beats": Transfer, "last_strobe": config.bus_bytes})


class BurstWriter(wiring.Component):
    """Write the beats of one transfer after the other.

    A burst begins only when all its beats are at hand, so it never holds up the bus and can always
    be finished.

    Members
    -------
    transfer : In(stream(write_transfer_layout))
        Of at least one beat.
    beats : In(stream(bus_bits))
    bus : Out(axi4_write_signature)
    halt : In(1)
        Begin no more bursts; finish those under way.
    busy : Out(1)
        The transfer is not complete: beats to be sent, or bursts that were not confirmed.
    bus_busy : Out(1)
        Bursts are under way.
    error : Out(1)
        A burst was answered with an error. High for one cycle.

    Notes
    -----
    No burst has more than `burst_beats` beats or crosses a multiple of its size in bytes, and so
    none crosses 4 KiB. A burst's address comes two cycles after its last beat was accepted, its
    first beat in the cycle after the address was accepted. Up to `outstanding_bursts` are under
    way; in the steady state one beat a cycle. A burst is gathered `PLAN_LATENCY` cycles after the
    transfer or the address before was accepted, at the earliest; after the last confirmation the
    writer is idle within `IDLE_LATENCY` cycles.
    """

    PLAN_LATENCY = 2
    IDLE_LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "transfer": In(stream.Signature(write_transfer_layout(config))),
                "beats": In(stream.Signature(config.bus_bits)),
                "bus": Out(axi4_write_signature(config)),
                "halt": In(1),
                "busy": Out(1),
                "bus_busy": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        burst_beats, bus_bytes = self._config.burst_beats, self._config.bus_bytes
        in_flight_max = self._config.outstanding_bursts
        m.submodules.buffer = buffer = StreamFifo(
            self._config.bus_bits, depth=2 * burst_beats, buffered=True
        )
        burst_layout = data.StructLayout({"beats": range(burst_beats + 1), "ends_transfer": 1})
        m.submodules.bursts = bursts = StreamFifo(burst_layout, depth=in_flight_max)
        wiring.connect(m, wiring.flipped(self.beats), buffer.i)

        transfer = Signal(write_transfer_layout(self._config), reset_less=True)
        address, beats_left = transfer.beats.address, transfer.beats.beats
        burst = Signal(burst_layout, reset_less=True)
        in_flight = Signal(range(in_flight_max + 1))
        # Beats in the buffer that belong to no burst yet.
        unclaimed = Signal(range(2 * burst_beats + 1))
        claimed = Signal.like(burst.beats)
        begins, confirmed = Signal(), Signal()

        boundary_beats = Signal.like(burst.beats)
        position = (address >> exact_log2(bus_bytes))[: exact_log2(burst_beats)]
        write_address, response = self.bus.write_address, self.bus.write_response
        m.d.comb += [
            boundary_beats.eq(burst_beats - position),
            write_address.payload.address.eq(address),
            write_address.payload.length.eq(burst.beats - 1),
            bursts.i.payload.eq(burst),
        ]
        with m.FSM(name="addresses") as addresses:
            with m.State("IDLE"):
                m.d.comb += self.transfer.ready.eq(1)
                m.d.sync += transfer.eq(self.transfer.payload)
                with m.If(self.transfer.valid):
                    m.next = "PLAN"
            with m.State("PLAN"):
                m.d.sync += burst.ends_transfer.eq(beats_left <= boundary_beats)
                with m.If(beats_left <= boundary_beats):
                    m.d.sync += burst.beats.eq(beats_left)
                with m.Else():
                    m.d.sync += burst.beats.eq(boundary_beats)
                m.next = "GATHER"
            with m.State("GATHER"):
                is_whole = unclaimed >= burst.beats
                with m.If(is_whole & (in_flight != in_flight_max) & ~self.halt):
                    m.d.comb += claimed.eq(burst.beats)
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += write_address.valid.eq(1)
                with m.If(write_address.ready):
                    m.d.comb += [begins.eq(1), bursts.i.valid.eq(1)]
                    m.d.sync += [
                        address.eq(address + (burst.beats << exact_log2(bus_bytes))),
                        beats_left.eq(beats_left - burst.beats),
                    ]
                    m.next = "PLAN"
                    with m.If(burst.ends_transfer):
                        m.next = "DRAIN"
            with m.State("DRAIN"), m.If(~in_flight.any()):
                m.next = "IDLE"

        beats_sent = Signal.like(burst.beats)
        write_data = self.bus.write_data
        m.d.comb += [
            write_data.valid.eq(bursts.o.valid & buffer.o.valid),
            buffer.o.ready.eq(bursts.o.valid & write_data.ready),
            write_data.payload.data.eq(buffer.o.payload),
            write_data.payload.last.eq(beats_sent + 1 == bursts.o.payload.beats),
            write_data.payload.strobe.eq(~0),
            bursts.o.ready.eq(write_data.valid & write_data.ready & write_data.payload.last),
        ]
        with m.If(write_data.payload.last & bursts.o.payload.ends_transfer):
            m.d.comb += write_data.payload.strobe.eq(transfer.last_strobe)
        with m.If(write_data.valid & write_data.ready):
            m.d.sync += beats_sent.eq(Mux(write_data.payload.last, 0, beats_sent + 1))

        m.d.comb += [
            response.ready.eq(1),
            confirmed.eq(response.valid),
            self.error.eq(response.valid & Value.cast(response.payload.response)[1]),
            self.busy.eq(~addresses.ongoing("IDLE")),
            self.bus_busy.eq(in_flight.any() | addresses.ongoing("ADDRESS")),
        ]
        m.d.sync += [
            in_flight.eq(in_flight + begins - confirmed),
            unclaimed.eq(unclaimed + (buffer.i.valid & buffer.i.ready) - claimed),
        ]
        return m
