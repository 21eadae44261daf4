"""Where the multipliers of an array lie on an ECP5.

The device has few rows of multipliers, far apart. Left to itself, nextpnr's placer spreads the
lanes and columns of the array over all of them, and then the wires find no way. With its
multipliers fixed in order, it places the rest of the array around them.

Wires along the rows are what is scarce, so a column takes as little of a row's length as can be:
half of its lanes are in one row, the other half below, and what passes from column to column, such
as sums and weights, has half the way.
"""

from dataclasses import dataclass

from coprune_hw.contract import AcceleratorConfig

BLOCK_MULTIPLIERS = 4
BLOCK_WIDTH = 9
"""Tiles from one block of multipliers to the next."""

_FIRST_X = 4
_SITES = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
"""Tiles from the block's first, and the name, of each multiplier of a block."""


@dataclass(frozen=True)
class MultiplierRows:
    """The rows of multipliers of a device.

    Parameters
    ----------
    rows : tuple of int
        y of each.
    left_blocks, right_blocks : int
        Blocks of a row to the left and to the right of the clocks' column of tiles.
    right_x : int
        x of the first multiplier on the right.
    """

    rows: tuple[int, ...]
    left_blocks: int
    right_blocks: int
    right_x: int

    @property
    def blocks(self) -> int:
        """Of a row."""
        return self.left_blocks + self.right_blocks

    def site(self, row: int, block: int, multiplier: int) -> str:
        """nextpnr's name of a block's multiplier."""
        if block < self.left_blocks:
            x = _FIRST_X + BLOCK_WIDTH * block
        else:
            x = self.right_x + BLOCK_WIDTH * (block - self.left_blocks)
        offset, name = _SITES[multiplier]
        return f"X{x + offset}/Y{self.rows[row]}/{name}"


DEVICES = {
    "LFE5U-12F": MultiplierRows((13,), 3, 4, 33),
    "LFE5U-25F": MultiplierRows((13,), 3, 4, 33),
    "LFE5U-45F": MultiplierRows((22, 46), 4, 5, 42),
    "LFE5U-85F": MultiplierRows((10, 34, 58), 7, 6, 69),
}
"""Read from nextpnr's placements of as many multipliers as a device has."""


def place_multipliers(config: AcceleratorConfig, device: str) -> dict[str, str]:
    """nextpnr's BEL for each multiplier of an array, by the end of its cell's name.

    Columns begin at the left of the last two rows, or of the only one. Those that have no place
    there go on in the first row, from its right end.

    Empty where the array has more columns than fit.
    """
    rows = DEVICES[device]
    stacked_rows = range(len(rows.rows))[-2:]
    column_blocks = config.lanes // BLOCK_MULTIPLIERS
    width = -(-column_blocks // len(stacked_rows))
    stacked_columns = min(config.columns, rows.blocks // width)
    other_columns = config.columns - stacked_columns
    if other_columns * column_blocks > rows.blocks * (len(rows.rows) - len(stacked_rows)):
        return {}
    spare_blocks = rows.blocks - width * stacked_columns
    places = {}
    for column in range(config.columns):
        for part in range(column_blocks):
            if column < stacked_columns:
                row = stacked_rows[part // width]
                spare_before = spare_blocks * (2 * column + 1) // (2 * stacked_columns)
                block = spare_before + width * column + part % width
            else:
                row = 0
                block = rows.blocks - 1 - column_blocks * (column - stacked_columns) - part
            for lane in range(BLOCK_MULTIPLIERS):
                name = f"multiplier_{BLOCK_MULTIPLIERS * part + lane}_{column}"
                places[name] = rows.site(row, block, lane)
    return places
