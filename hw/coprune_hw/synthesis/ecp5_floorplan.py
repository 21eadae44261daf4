"""Where an array's multipliers and the activation banks lie on an ECP5.

The device has few rows of multipliers and of block RAM, far apart. Left to itself, nextpnr's placer
spreads lanes and columns over all of them, and crowds the banks into one row; then the wires find
no way. With these cells fixed in order, it places the rest around them.

Wires along the rows are what is scarce. So a column takes as little of a row's length as can be:
half of its lanes are in one row, the other half below, and what passes from column to column, such
as sums and weights, has half the way. The sums end in the requantizers, one for each lane, so these
come before column 0. And of the banks the same bits lie together: the crossbar turns each bit of
the words by itself.
"""

from dataclasses import dataclass

from coprune_hw.contract import AcceleratorConfig

BLOCK_CELLS = 4
"""Multipliers in a block of their row, and block RAMs in one of theirs."""

BLOCK_WIDTH = 9
"""Tiles from one block to the next."""

_FIRST_X = 4
_MULTIPLIERS = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
_MEMORIES = ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3"))
"""Tiles from the block's first, and the name, of each cell of a block."""

MEMORY_WORDS = 1024
MEMORY_BITS = 18
"""Of a block RAM."""


@dataclass(frozen=True)
class DeviceRows:
    """The rows of multipliers and of block RAM of a device.

    Parameters
    ----------
    multipliers : tuple of int
        y of each row.
    bank_rows : tuple of int
        y of the rows of block RAM for each quarter of the banks' bits; empty where those need not
        be fixed.
    left_blocks, right_blocks : int
        Blocks of a row to the left and to the right of the clocks' column of tiles.
    right_x : int
        x of the first cell on the right.
    """

    multipliers: tuple[int, ...]
    bank_rows: tuple[int, ...]
    left_blocks: int
    right_blocks: int
    right_x: int

    @property
    def blocks(self) -> int:
        """Of a row."""
        return self.left_blocks + self.right_blocks

    def multiplier(self, row: int, number: int) -> str:
        """nextpnr's name of a multiplier: of row `row`, the `number`-th from the left."""
        return self._site(self.multipliers[row], number, _MULTIPLIERS)

    def memory(self, y: int, number: int) -> str:
        """nextpnr's name of a block RAM."""
        return self._site(y, number, _MEMORIES)

    def _site(self, y: int, number: int, cells: tuple[tuple[int, str], ...]) -> str:
        block, cell = divmod(number, BLOCK_CELLS)
        if block < self.left_blocks:
            x = _FIRST_X + BLOCK_WIDTH * block
        else:
            x = self.right_x + BLOCK_WIDTH * (block - self.left_blocks)
        offset, name = cells[cell]
        return f"X{x + offset}/Y{y}/{name}"


DEVICES = {
    "LFE5U-12F": DeviceRows((13,), (), 3, 4, 33),
    "LFE5U-25F": DeviceRows((13,), (), 3, 4, 33),
    "LFE5U-45F": DeviceRows((22, 46), (), 4, 5, 42),
    "LFE5U-85F": DeviceRows((10, 34, 58), (22, 46, 46, 70), 7, 6, 69),
}
"""Read from nextpnr's placements of as many cells as a device has."""


def place_cells(config: AcceleratorConfig, device: str) -> dict[str, str]:
    """nextpnr's BEL for cells of an accelerator, by the end of their names.

    Empty where the array has more columns than fit.
    """
    multipliers = _place_multipliers(config, DEVICES[device])
    return multipliers | _place_banks(config, DEVICES[device]) if multipliers else {}


def _place_multipliers(config: AcceleratorConfig, rows: DeviceRows) -> dict[str, str]:
    """Those of the array, and of the requantizers, which sums reach at the end of column 0.

    Requantizers and columns begin at the left of the last two rows, or of the only one. Columns
    that have no place there go on in the first row, from right to left.
    """
    stacked_rows = range(len(rows.multipliers))[-2:]
    column_blocks = config.lanes // BLOCK_CELLS
    width = -(-column_blocks // len(stacked_rows))
    names = ["requantizer_{lane}.multiplier_requantize"]
    names += [f"multiplier_{{lane}}_{column}" for column in range(config.columns)]
    stacked = min(len(names), rows.blocks // width)
    spare_blocks = rows.blocks - width * stacked
    other_blocks = column_blocks * (len(names) - stacked)
    if other_blocks > rows.blocks * (len(rows.multipliers) - len(stacked_rows)):
        return {}
    last_block = min((rows.blocks + other_blocks) // 2, rows.blocks - 1)
    places = {}
    for number, name in enumerate(names):
        for part in range(column_blocks):
            if number < stacked:
                row = stacked_rows[part // width]
                spare_before = spare_blocks * (2 * number + 1) // (2 * stacked)
                block = spare_before + width * number + part % width
            else:
                row = 0
                block = last_block - column_blocks * (number - stacked) - part
            for lane in range(BLOCK_CELLS):
                cell = name.format(lane=BLOCK_CELLS * part + lane)
                places[cell] = rows.multiplier(row, BLOCK_CELLS * block + lane)
    return places


def _place_banks(config: AcceleratorConfig, rows: DeviceRows) -> dict[str, str]:
    """Those of the activation memory, of `MEMORY_BITS` each: in the middle of their rows."""
    if not rows.bank_rows or config.activation_depth != MEMORY_WORDS:
        return {}
    slices = -(-config.word_bits // MEMORY_BITS)
    row_of_slice = [rows.bank_rows[len(rows.bank_rows) * bits // slices] for bits in range(slices)]
    places = {}
    for y in set(rows.bank_rows):
        here = [bits for bits, row in enumerate(row_of_slice) if row == y]
        first = (BLOCK_CELLS * rows.blocks - len(here) * config.columns) // 2
        for position, bits in enumerate(here):
            for bank in range(config.columns):
                number = first + position * config.columns + bank
                places[f"bank_{bank}.0.{bits}"] = rows.memory(y, number)
    return places
