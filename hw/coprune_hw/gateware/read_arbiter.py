"""Shares the read channels of a bus between two clients."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig

from .delay import delay
from .interfaces import axi4_read_signature
from .stream_fifo import StreamFifo


class ReadArbiter(wiring.Component):
    """Let two clients read over one bus; bring every beat to the client that asked for it.

    Where both ask at once, `first` goes first: its bursts should be short and few.

    Members
    -------
    first, second : In(axi4_read_signature)
        The clients. Each must have a place for the beats it asks for, or take them in bounded time:
        beats come in the order of the addresses, so one client can hold up the other.
    bus : Out(axi4_read_signature)
    halt : In(1)
        Take no more bursts from the clients, and from the next cycle on swallow the beats that
        still come.
    busy : Out(1)
        Bursts are under way.
    error : Out(1)
        In the cycle before, a beat came with an error response.

    Notes
    -----
    Addresses take `ADDRESS_LATENCY` cycles, beats none. One address and one beat a cycle.
    """

    ADDRESS_LATENCY = 1

    def __init__(self, config: AcceleratorConfig):
        self._owners_depth = 2 * config.outstanding_bursts
        super().__init__(
            {
                "first": In(axi4_read_signature(config)),
                "second": In(axi4_read_signature(config)),
                "bus": Out(axi4_read_signature(config)),
                "halt": In(1),
                "busy": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # An owner is 1 for `second`, one entry for every burst under way.
        m.submodules.owners = owners = StreamFifo(1, depth=self._owners_depth)

        request, read_data = self.bus.read_address, self.bus.read_data
        granted = Signal()
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(~self.halt & owners.i.ready & (~request.valid | request.ready)):
            m.d.comb += [
                self.first.read_address.ready.eq(1),
                self.second.read_address.ready.eq(~self.first.read_address.valid),
                granted.eq(self.first.read_address.valid | self.second.read_address.valid),
            ]
            with m.If(granted):
                m.d.sync += request.valid.eq(1)
            with m.If(self.first.read_address.valid):
                m.d.sync += request.payload.eq(self.first.read_address.payload)
            with m.Else():
                m.d.sync += request.payload.eq(self.second.read_address.payload)
        m.d.comb += [
            owners.i.valid.eq(granted),
            owners.i.payload.eq(~self.first.read_address.valid),
        ]

        swallows = delay(m, self.halt, 1, name="swallows", init=0)
        for client, is_owner in ((self.first, ~owners.o.payload), (self.second, owners.o.payload)):
            serves = owners.o.valid & is_owner & ~swallows
            m.d.comb += [
                client.read_data.payload.eq(read_data.payload),
                client.read_data.valid.eq(read_data.valid & serves),
            ]
            with m.If(serves):
                m.d.comb += read_data.ready.eq(client.read_data.ready)
        with m.If(swallows):
            m.d.comb += read_data.ready.eq(1)

        taken = read_data.valid & read_data.ready
        m.d.comb += [
            owners.o.ready.eq(taken & read_data.payload.last),
            self.busy.eq(request.valid | owners.o.valid),
        ]
        m.d.sync += self.error.eq(taken & Value.cast(read_data.payload.response)[1])
        return m
