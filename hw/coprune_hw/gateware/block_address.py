"""Addresses and edge mask of a block's activation words."""

from amaranth.hdl import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import PITCH_BITS, SIZE_BITS
from coprune_hw.contract.slots import SlotControl

from .interfaces import BANK_ADDRESS_BITS


class TilePosition(data.Struct):
    """What a block's words depend on, besides the slot's control bits.

    `address` is the tile's word in a plane at address 0, (`row`, `column`) its first pixel;
    `height` and `width` are those of the plane, `pad` is read outside of it.
    """

    address: BANK_ADDRESS_BITS
    row: SIZE_BITS
    column: SIZE_BITS
    pitch: PITCH_BITS
    log2_bank_columns: 3
    height: SIZE_BITS
    width: SIZE_BITS
    pad: signed(8)


class BlockAddress(wiring.Component):
    """Computes where the words of a shifted tile lie, and which of them are inside the image.

    For a shift ``(dy, dx)`` every bank holds exactly one word of the tile, at
    ``address + offset + (bank_row < dy mod bank_rows) * pitch + (bank_column < dx mod
    bank_columns)``: four sums serve all banks, which choose one each.

    Members
    -------
    tile, control : In
        Position of the tile and control bits of the slot that begins the block.
    addresses : Out
        Per bank, `ADDRESS_LATENCY` cycles later, from a choice that no register follows.
    rotation, log2_bank_columns : Out
        For the crossbar, in the same cycle as `addresses`.
    inside : Out
        Per column: its pixel lies in the image. `INSIDE_LATENCY` cycles after the input.

    Notes
    -----
    One block a cycle, no backpressure.
    """

    ADDRESS_LATENCY = 2
    INSIDE_LATENCY = 4

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "tile": In(TilePosition),
                "control": In(SlotControl),
                "addresses": Out(data.ArrayLayout(BANK_ADDRESS_BITS, config.columns)),
                "rotation": Out(config.log2_columns),
                "log2_bank_columns": Out(range(config.log2_columns + 1)),
                "inside": Out(config.columns),
            }
        )

    def elaborate(self, platform):
        config = self._config
        log2_columns = config.log2_columns
        shapes = range(log2_columns + 1)
        m = Module()

        # Cycle 0: split the shift into whole banks (in `offset`) and the rest; move the window.
        base = Signal(BANK_ADDRESS_BITS, reset_less=True)
        pitch = Signal(PITCH_BITS, reset_less=True)
        shape = Signal(range(log2_columns + 1), reset_less=True)
        row_shift = Signal(log2_columns, reset_less=True)
        column_shift = Signal(log2_columns, reset_less=True)
        row = Signal(signed(SIZE_BITS + 2), reset_less=True)
        column = Signal(signed(SIZE_BITS + 2), reset_less=True)
        height = Signal(SIZE_BITS, reset_less=True)
        width = Signal(SIZE_BITS, reset_less=True)
        m.d.sync += [
            base.eq(self.tile.address + self.control.offset),
            pitch.eq(self.tile.pitch),
            shape.eq(self.tile.log2_bank_columns),
            row.eq(self.tile.row + self.control.dy),
            column.eq(self.tile.column + self.control.dx),
            height.eq(self.tile.height - self.control.short_row),
            width.eq(self.tile.width - self.control.short_column),
        ]
        with m.Switch(self.tile.log2_bank_columns):
            for log2_bank_columns in shapes:
                with m.Case(log2_bank_columns):
                    rows_mask = (config.columns >> log2_bank_columns) - 1
                    columns_mask = (1 << log2_bank_columns) - 1
                    m.d.sync += [
                        row_shift.eq(self.control.dy & rows_mask),
                        column_shift.eq(self.control.dx & columns_mask),
                    ]

        # Cycle 1: the four sums; which of them each bank takes; every row and column of the window.
        sums = Signal(data.ArrayLayout(BANK_ADDRESS_BITS, 4), reset_less=True)
        choices = Signal(data.ArrayLayout(2, config.columns), reset_less=True)
        rotation = Signal(log2_columns, reset_less=True)
        shape_1 = Signal.like(shape)
        rows = Signal(data.ArrayLayout(SIZE_BITS + 2, config.columns), reset_less=True)
        columns = Signal.like(rows)
        height_1 = Signal.like(height)
        width_1 = Signal.like(width)
        m.d.sync += [
            sums[0].eq(base),
            sums[1].eq(base + 1),
            sums[2].eq(base + pitch),
            sums[3].eq(base + pitch + 1),
            shape_1.eq(shape),
            height_1.eq(height),
            width_1.eq(width),
        ]
        for number in range(config.columns):
            m.d.sync += [rows[number].eq(row + number), columns[number].eq(column + number)]
        with m.Switch(shape):
            for log2_bank_columns in shapes:
                with m.Case(log2_bank_columns):
                    m.d.sync += rotation.eq((row_shift << log2_bank_columns) | column_shift)
                    for bank in range(config.columns):
                        bank_row = bank >> log2_bank_columns
                        bank_column = bank & ((1 << log2_bank_columns) - 1)
                        choice = Cat(bank_column < column_shift, bank_row < row_shift)
                        m.d.sync += choices[bank].eq(choice)

        # Cycle 2: the addresses; which rows and columns are inside.
        shape_2 = Signal.like(shape)
        row_inside = Signal(config.columns, reset_less=True)
        column_inside = Signal(config.columns, reset_less=True)
        m.d.sync += shape_2.eq(shape_1)
        for number in range(config.columns):
            m.d.comb += self.addresses[number].eq(sums[choices[number]])
            m.d.sync += [
                # A negative row is a large unsigned one: one comparison checks both bounds.
                row_inside[number].eq(rows[number] < height_1),
                column_inside[number].eq(columns[number] < width_1),
            ]
        m.d.comb += [
            self.rotation.eq(rotation),
            self.log2_bank_columns.eq(shape_1),
        ]

        # Cycle 3: the mask of the columns.
        inside = Signal(config.columns, reset_less=True)
        with m.Switch(shape_2):
            for log2_bank_columns in shapes:
                with m.Case(log2_bank_columns):
                    for number in range(config.columns):
                        own_row = number >> log2_bank_columns
                        own_column = number & ((1 << log2_bank_columns) - 1)
                        m.d.sync += inside[number].eq(
                            row_inside[own_row] & column_inside[own_column]
                        )
        m.d.comb += self.inside.eq(inside)
        return m
