"""Walks over the pixels of a window in raster order and locates them."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import SIZE_BITS, Place, Window

from .interfaces import BANK_ADDRESS_BITS
from .pixel_address import PixelAddress
from .stream_fifo import StreamFifo


class PlacedWindow(data.Struct):
    """Pixels of a tensor's channel group, and where its planes lie."""

    place: Place
    window: Window


class RasterWalk(wiring.Component):
    """Locate the pixels of a window, row by row.

    Members
    -------
    windows : In(stream(PlacedWindow))
        `rows` and `width` must not be 0.
    locations : Out(stream({bank, address, in_range}))
        `in_range` is 0 where the pixel lies beyond the end of the bank.

    Notes
    -----
    The first location comes ``LATENCY`` cycles after the window was accepted, then one a cycle.
    Runs ahead of `locations` by up to `AHEAD` pixels. One cycle is lost between two windows.
    """

    LATENCY = PixelAddress.LATENCY + 2
    AHEAD = LATENCY + 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._location = data.StructLayout(
            {"bank": config.log2_columns, "address": BANK_ADDRESS_BITS, "in_range": 1}
        )
        super().__init__(
            {
                "windows": In(stream.Signature(PlacedWindow)),
                "locations": Out(stream.Signature(self._location)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.locate = locate = PixelAddress(self._config)
        m.submodules.ahead = ahead = StreamFifo(self._location, depth=self.AHEAD)

        active = Signal()
        y, x = Signal(SIZE_BITS, reset_less=True), Signal(SIZE_BITS, reset_less=True)
        rows_left = Signal(SIZE_BITS, reset_less=True)
        width = Signal(SIZE_BITS, reset_less=True)
        place = Signal(Place, reset_less=True)

        # A pixel sets out only if the FIFO has a place for it when it arrives.
        free = Signal(range(self.AHEAD + 1), init=self.AHEAD)
        sets_out = Signal()
        leaves = self.locations.valid & self.locations.ready
        m.d.comb += sets_out.eq(active & free.any())
        m.d.sync += free.eq(free - sets_out + leaves)

        m.d.comb += self.windows.ready.eq(~active)
        with m.If(self.windows.ready):
            window = self.windows.payload.window
            m.d.sync += [
                active.eq(self.windows.valid),
                place.eq(self.windows.payload.place),
                y.eq(window.row_begin),
                x.eq(0),
                rows_left.eq(window.rows),
                width.eq(window.width),
            ]
        with m.If(sets_out):
            m.d.sync += x.eq(x + 1)
            with m.If(x + 1 == width):
                m.d.sync += [x.eq(0), y.eq(y + 1), rows_left.eq(rows_left - 1)]
                with m.If(rows_left == 1):
                    m.d.sync += active.eq(0)

        m.d.comb += [
            locate.pixels.valid.eq(sets_out),
            locate.pixels.payload.y.eq(y),
            locate.pixels.payload.x.eq(x),
            locate.pixels.payload.place.eq(place),
            ahead.i.valid.eq(locate.located.valid),
            ahead.i.payload.bank.eq(locate.located.payload.bank),
            ahead.i.payload.address.eq(locate.located.payload.address),
            ahead.i.payload.in_range.eq(
                locate.located.payload.address < self._config.activation_depth
            ),
        ]
        wiring.connect(m, ahead.o, wiring.flipped(self.locations))
        return m
