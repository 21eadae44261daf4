"""Shares the write channels of a bus between two clients."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import WriteResponse, axi4_write_signature, write_data_layout
from coprune_hw.gateware.stream_fifo import StreamFifo

from .stream_register import StreamRegister


class WriteArbiter(wiring.Component):
    """Let two clients write over one bus; bring every response to the client whose burst it is of.

    Where both begin a burst at once, `first` goes first: its bursts should be short and few.

    Members
    -------
    first, second : In(axi4_write_signature)
        The clients. Each must send the beats of a burst within bounded time after its address, and
        take the response: they go in the order of the addresses.
    bus : Out(axi4_write_signature)

    Notes
    -----
    Addresses take `ADDRESS_LATENCY` cycles; beats, which are taken from the cycle after their
    address on, `DATA_LATENCY`; responses `RESPONSE_LATENCY`. One of each a cycle.
    """

    ADDRESS_LATENCY = 1
    DATA_LATENCY = StreamRegister.LATENCY
    RESPONSE_LATENCY = StreamRegister.LATENCY

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "first": In(axi4_write_signature(config)),
                "second": In(axi4_write_signature(config)),
                "bus": Out(axi4_write_signature(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        # An owner is 1 for `second`, one entry for every burst whose beats, or response, are to
        # come.
        depth = 2 * config.outstanding_bursts
        m.submodules.data_owners = data_owners = StreamFifo(1, depth=depth)
        m.submodules.response_owners = response_owners = StreamFifo(1, depth=depth)
        m.submodules.data = data = StreamRegister(write_data_layout(config.bus_bits))
        m.submodules.response = response = StreamRegister(WriteResponse)
        connect(m, data.o, flipped(self.bus.write_data))
        connect(m, flipped(self.bus.write_response), response.i)

        address = self.bus.write_address
        first, second = self.first.write_address, self.second.write_address
        granted = Signal()
        with m.If(address.ready):
            m.d.sync += address.valid.eq(0)
        with m.If(data_owners.i.ready & response_owners.i.ready & (~address.valid | address.ready)):
            m.d.comb += [
                first.ready.eq(1),
                second.ready.eq(~first.valid),
                granted.eq(first.valid | second.valid),
            ]
            with m.If(granted):
                m.d.sync += address.valid.eq(1)
            with m.If(first.valid):
                m.d.sync += address.payload.eq(first.payload)
            with m.Else():
                m.d.sync += address.payload.eq(second.payload)
        for owners in (data_owners, response_owners):
            m.d.comb += [owners.i.valid.eq(granted), owners.i.payload.eq(~first.valid)]

        for number, client in enumerate((self.first, self.second)):
            with m.If(data_owners.o.valid & (data_owners.o.payload == number)):
                m.d.comb += [
                    data.i.valid.eq(client.write_data.valid),
                    data.i.payload.eq(client.write_data.payload),
                    client.write_data.ready.eq(data.i.ready),
                ]
            m.d.comb += client.write_response.payload.eq(response.o.payload)
            with m.If(response_owners.o.payload == number):
                m.d.comb += [
                    client.write_response.valid.eq(response.o.valid),
                    response.o.ready.eq(client.write_response.ready),
                ]
        m.d.comb += [
            data_owners.o.ready.eq(data.i.valid & data.i.ready & data.i.payload.last),
            response_owners.o.ready.eq(response.o.valid & response.o.ready),
        ]
        return m
