"""Reads words from the activation banks for STORE."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig

from .interfaces import pixel_read_signature
from .raster_walk import PlacedWindow, RasterWalk
from .stream_fifo import StreamFifo


class WordReader(wiring.Component):
    """Read the words of a window from the activation banks, in raster order.

    Parameters
    ----------
    config : AcceleratorConfig
    read_latency : int
        Cycles from an accepted request on `pixels` to its response, at least 1.

    Members
    -------
    windows : In(stream(PlacedWindow))
        `rows` and `width` must not be 0.
    pixels : Out(pixel_read_signature)
    words : Out(stream(word))
    out_of_range : Out(1)
        The next pixel lies beyond the end of its bank. It is never read; stays 1.

    Notes
    -----
    A word comes ``RasterWalk.LATENCY + read_latency + 1`` cycles after its window was accepted; one
    a cycle. Requests stop while nobody takes the words.

    Raises
    ------
    ValueError
        `read_latency` is less than 1.
    """

    def __init__(self, config: AcceleratorConfig, *, read_latency: int):
        if read_latency < 1:
            raise ValueError(f"read_latency must be at least 1, not {read_latency!r}")
        self._config = config
        self._depth = self.depth(read_latency)
        super().__init__(
            {
                "windows": In(stream.Signature(PlacedWindow)),
                "pixels": Out(pixel_read_signature(config)),
                "words": Out(stream.Signature(config.word_bits)),
                "out_of_range": Out(1),
            }
        )

    @staticmethod
    def depth(read_latency: int) -> int:
        """Words that are asked for or at hand: enough for one a cycle."""
        return read_latency + 2

    def elaborate(self, platform):
        m = Module()
        m.submodules.walk = walk = RasterWalk(self._config)
        m.submodules.arrived = arrived = StreamFifo(self._config.word_bits, depth=self._depth)
        connect(m, flipped(self.windows), walk.windows)
        connect(m, arrived.o, flipped(self.words))

        # A request is made only if there is a place for its response, which cannot be held up.
        free = Signal(range(self._depth + 1), init=self._depth)
        request, location = self.pixels.request, walk.locations
        asks = request.valid & request.ready
        leaves = self.words.valid & self.words.ready
        m.d.sync += free.eq(free - asks + leaves)
        m.d.comb += [
            request.valid.eq(location.valid & location.payload.in_range & free.any()),
            request.payload.bank.eq(location.payload.bank),
            request.payload.address.eq(location.payload.address),
            location.ready.eq(asks),
            self.out_of_range.eq(location.valid & ~location.payload.in_range),
            arrived.i.payload.eq(self.pixels.response.payload),
            arrived.i.valid.eq(self.pixels.response.valid),
        ]
        return m
