"""Segments: runs of beats of one row, which the SDRAM controller plans as one."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import BurstAddress

from .sdram_timing import SEGMENT_BEATS, SdramChip

_BOUNDARY_BITS = 12  # no burst of AXI4 crosses 4 KiB


def chip_burst(config: AcceleratorConfig, chip: SdramChip) -> int:
    """Words of the chip in a beat of the bus: the burst length in the chip's mode register.

    Raises
    ------
    ValueError
        It is none that leaves a cycle for other commands, or that the chip has.
    """
    words = config.bus_bits // chip.data_bits
    if words not in (2, 4, 8):
        raise ValueError(
            f"bus_bits must be 2, 4 or 8 words of {chip.data_bits} bits of the chip, "
            f"not {config.bus_bits}"
        )
    return words


def segment_layout(config: AcceleratorConfig, chip: SdramChip) -> data.StructLayout:
    """Beats of one row: the first, how many less one, and where they lie.

    `last` is of the segment that ends a burst, `error` of one outside the chip.
    """
    return data.StructLayout(
        {
            "beat": chip.column_bits - exact_log2(chip_burst(config, chip)),
            "bank": chip.bank_bits,
            "row": chip.row_bits,
            "length": range(SEGMENT_BEATS),
            "last": 1,
            "error": 1,
        }
    )


def access_layout(config: AcceleratorConfig, chip: SdramChip) -> data.StructLayout:
    """A segment, and whether it is written."""
    return data.StructLayout({"segment": segment_layout(config, chip), "write": 1})


class BurstSplitter(wiring.Component):
    """Split bursts at multiples of `SEGMENT_BEATS`.

    Members
    -------
    i : In(stream(BurstAddress))
        Of full-width beats. Bits of the address within a beat are not looked at.
    o : Out(stream(segment_layout))

    Notes
    -----
    A burst's first segment comes two cycles after it was accepted, the others every two cycles; the
    next burst is accepted a cycle after the last is on its way.
    """

    def __init__(self, config: AcceleratorConfig, chip: SdramChip):
        self._config, self._chip = config, chip
        super().__init__(
            {
                "i": In(stream.Signature(BurstAddress)),
                "o": Out(stream.Signature(segment_layout(config, chip))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat_bits = exact_log2(self._config.bus_bytes)
        size_bits = exact_log2(self._chip.size_bytes)
        segment_bits = exact_log2(SEGMENT_BEATS)
        within_boundary = _BOUNDARY_BITS - beat_bits
        address = Signal(size_bits - beat_bits, reset_less=True)
        left = Signal(8, reset_less=True)  # beats less one
        outside = Signal(reset_less=True)
        busy = Signal()
        segment = self.o.payload

        position = address[:segment_bits]
        block = address[segment_bits:within_boundary]
        room = (~position)[:segment_bits]
        is_last = left <= room
        m.d.comb += self.i.ready.eq(~busy)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                address.eq(self.i.payload.address[beat_bits:size_bits]),
                outside.eq(self.i.payload.address[size_bits:].any()),
                left.eq(self.i.payload.length),
                busy.eq(1),
            ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(busy & ~self.o.valid):
            m.d.sync += [
                Cat(segment.beat, segment.bank, segment.row).eq(address),
                segment.length.eq(Mux(is_last, left, room)),
                segment.last.eq(is_last),
                segment.error.eq(outside),
                self.o.valid.eq(1),
                position.eq(0),
                block.eq(block + 1),
                left.eq(left - room - 1),
                busy.eq(~is_last),
            ]
        return m
