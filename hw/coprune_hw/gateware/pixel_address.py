"""Computes where pixels lie in the activation banks."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import SIZE_BITS, Place

from .delay import delay
from .interfaces import PIXEL_ADDRESS_BITS


def is_place_valid(place: Value, config: AcceleratorConfig) -> Value:
    """Whether `PixelAddress` can locate pixels of this `Place`: stride and bank columns fit."""
    return (place.log2_stride < 3) & (place.log2_bank_columns <= config.log2_columns)


class PixelAddress(wiring.Component):
    """Compute bank and address of pixels, as `coprune_hw.contract.planes.locate` does.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the banks. A `Place` must be one that `is_place_valid` accepts.

    Members
    -------
    pixels : In(stream({y, x, place}), always ready)
    located : Out(stream({bank, address}), always ready)
        `address` has `PIXEL_ADDRESS_BITS` bits: it never wraps, and may lie beyond the bank.

    Notes
    -----
    `LATENCY` cycles; one pixel a cycle. Each pixel may have a place of its own.
    """

    LATENCY = 4

    def __init__(self, config: AcceleratorConfig):
        self._log2_columns = config.log2_columns
        pixel = data.StructLayout({"y": SIZE_BITS, "x": SIZE_BITS, "place": Place})
        located = data.StructLayout({"bank": config.log2_columns, "address": PIXEL_ADDRESS_BITS})
        super().__init__(
            {
                "pixels": In(stream.Signature(pixel, always_ready=True)),
                "located": Out(stream.Signature(located, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        def register(value, *, name):
            held = Signal.like(value, name=name, reset_less=True)
            m.d.sync += held.eq(value)
            return held

        valid = delay(m, self.pixels.valid, self.LATENCY, name="valid", init=0)

        # Cycle 0: split the pixel into phase and position in the phase's plane.
        y, x, place = self.pixels.payload.y, self.pixels.payload.x, self.pixels.payload.place
        phase = Signal(4, reset_less=True)
        row, column = Signal(SIZE_BITS, reset_less=True), Signal(SIZE_BITS, reset_less=True)
        with m.Switch(place.log2_stride):
            for log2_stride in range(3):
                with m.Case(log2_stride):
                    m.d.sync += [
                        phase.eq(Cat(x[:log2_stride], y[:log2_stride])),
                        row.eq(y >> log2_stride),
                        column.eq(x >> log2_stride),
                    ]
        place = register(place, name="place0")

        # Cycle 1: split the position into bank and tile; multiply the phase in two halves.
        bank = Signal(self._log2_columns, reset_less=True)
        tile_row = Signal(SIZE_BITS, reset_less=True)
        tile_column = Signal(SIZE_BITS, reset_less=True)
        with m.Switch(place.log2_bank_columns):
            for log2_bank_columns in range(self._log2_columns + 1):
                log2_bank_rows = self._log2_columns - log2_bank_columns
                with m.Case(log2_bank_columns):
                    m.d.sync += [
                        bank.eq(Cat(column[:log2_bank_columns], row[:log2_bank_rows])),
                        tile_row.eq(row >> log2_bank_rows),
                        tile_column.eq(column >> log2_bank_columns),
                    ]
        low_planes = register(_times_two_bits(place.plane_words, phase[:2]), name="low_planes")
        high_planes = register(_times_two_bits(place.plane_words, phase[2:]), name="high_planes")
        base, pitch = register(place.base, name="base"), register(place.pitch, name="pitch")

        # Cycle 2: multiply by the pitch, in two halves.
        half = SIZE_BITS // 2 + 1
        low_rows = register(tile_row[:half] * pitch, name="low_rows")
        high_rows = register(tile_row[half:] * pitch, name="high_rows")
        plane_words = register(low_planes + (high_planes << 2), name="plane_words")
        corner = register(base + tile_column, name="corner")
        bank = register(bank, name="bank2")

        # Cycle 3: add up.
        located = self.located
        address = Signal(PIXEL_ADDRESS_BITS, reset_less=True)
        m.d.sync += address.eq(low_rows + (high_rows << half) + plane_words + corner)
        m.d.comb += [
            located.valid.eq(valid),
            located.payload.bank.eq(register(bank, name="bank3")),
            located.payload.address.eq(address),
        ]
        return m


def _times_two_bits(value: Value, bits: Value) -> Value:
    """The product with a two-bit number, as one addition."""
    return Mux(bits[0], value, 0) + Mux(bits[1], value << 1, 0)
