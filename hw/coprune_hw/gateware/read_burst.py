"""Reads a run of beats from the bus in bursts."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig

from .interfaces import Transfer, axi4_read_signature


class BurstReader(wiring.Component):
    """Read the beats of one transfer after the other and pass them on in order.

    Parameters
    ----------
    config : AcceleratorConfig
    burst_beats : int, optional
        Longest burst, a power of two; `config.burst_beats` unless given. No burst crosses a
        multiple of its size in bytes, and so none crosses 4 KiB.

    Members
    -------
    transfer : In(stream(Transfer))
        A transfer of no beats is taken and does nothing.
    room : In(1)
        Whether the next burst may be issued. Once 1, it must stay so until a burst is issued.
    bus : Out(axi4_read_signature)
    beats : Out(stream(bus_bits))
    busy : Out(1)
        A transfer has bursts to issue or beats to come.

    Notes
    -----
    The first burst is issued `LATENCY` cycles after the transfer was accepted, and one every
    `INTERVAL` cycles while fewer than `outstanding_bursts` are under way; so bursts of the next
    transfer are issued while beats of this one still come. Beats pass through combinationally, one
    a cycle.
    """

    LATENCY = 2
    INTERVAL = 2

    def __init__(self, config: AcceleratorConfig, *, burst_beats: int | None = None):
        self._config = config
        self._burst_beats = burst_beats or config.burst_beats
        super().__init__(
            {
                "transfer": In(stream.Signature(Transfer)),
                "room": In(1, init=1),
                "bus": Out(axi4_read_signature(config)),
                "beats": Out(stream.Signature(config.bus_bits)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus_bytes, burst_beats = self._config.bus_bytes, self._burst_beats
        in_flight = Signal(range(self._config.outstanding_bursts + 1))
        address = Signal(32, reset_less=True)
        beats_left = Signal.like(self.transfer.payload.beats, reset_less=True)
        length = Signal(range(burst_beats + 1), reset_less=True)
        is_last = Signal(reset_less=True)
        issued = Signal()
        ended = Signal()

        boundary_beats = Signal.like(length)
        position = (address >> exact_log2(bus_bytes))[: exact_log2(burst_beats)]
        m.d.comb += boundary_beats.eq(burst_beats - position)

        read_address, read_data = self.bus.read_address, self.bus.read_data
        m.d.comb += [
            read_address.payload.address.eq(address),
            read_address.payload.length.eq(length - 1),
            issued.eq(read_address.valid & read_address.ready),
            ended.eq(read_data.valid & read_data.ready & read_data.payload.last),
        ]
        with m.FSM(name="bursts") as bursts:
            with m.State("IDLE"):
                m.d.comb += self.transfer.ready.eq(1)
                m.d.sync += [
                    address.eq(self.transfer.payload.address),
                    beats_left.eq(self.transfer.payload.beats),
                ]
                with m.If(self.transfer.valid & self.transfer.payload.beats.any()):
                    m.next = "PLAN"
            with m.State("PLAN"):
                with m.If(beats_left <= boundary_beats):
                    m.d.sync += [length.eq(beats_left), is_last.eq(1)]
                with m.Else():
                    m.d.sync += [length.eq(boundary_beats), is_last.eq(0)]
                m.next = "ISSUE"
            with m.State("ISSUE"):
                has_slot = in_flight != self._config.outstanding_bursts
                m.d.comb += read_address.valid.eq(self.room & has_slot)
                with m.If(issued):
                    m.d.sync += [
                        address.eq(address + (length << exact_log2(bus_bytes))),
                        beats_left.eq(beats_left - length),
                    ]
                    with m.If(is_last):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "PLAN"

        m.d.sync += in_flight.eq(in_flight + issued - ended)
        m.d.comb += [
            self.beats.payload.eq(read_data.payload.data),
            self.beats.valid.eq(read_data.valid),
            read_data.ready.eq(self.beats.ready),
            self.busy.eq(~bursts.ongoing("IDLE") | in_flight.any()),
        ]
        return m
