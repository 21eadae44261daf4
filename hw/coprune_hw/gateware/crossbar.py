"""Turns the words of the banks into the words of the columns."""

from amaranth.hdl import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig

from .delay import delay
from .fan_out import fan_out

SLICE_BITS = 18
"""Of an item, that lie together: a block RAM's. Each slice has a choice of its own."""


class Crossbar(wiring.Component):
    """Rotates bank words to columns, within rows and across rows of the bank grid.

    Column ``(r, c)`` takes the word of bank ``((r + row) mod bank_rows, (c + column) mod
    bank_columns)``, where `rotation` holds ``row`` above and ``column`` in its low
    `log2_bank_columns` bits. That is an addition of `rotation` to the column's number without the
    carry from column to row, so a barrel shifter does it, a bit of `rotation` at a time, whose
    wrap-around follows the shape of the grid.

    Parameters
    ----------
    config : AcceleratorConfig
    width : int
        Bits of an item.

    Members
    -------
    banks : In
        `columns` items.
    rotation, log2_bank_columns : In
        `ROTATION_LEAD` cycles before `banks`.
    columns : Out
        `columns` items, `latency` cycles later.

    Notes
    -----
    Two bits of `rotation` a cycle: latency is ``ceil(log2(columns) / 2)``. One rotation a cycle.
    """

    # What a column takes is decided in one cycle, and told to all its slices in the next.
    ROTATION_LEAD = 2

    def __init__(self, config: AcceleratorConfig, *, width: int):
        self._config = config
        self._layout = data.ArrayLayout(width, config.columns)
        self._slices = range(0, width, SLICE_BITS)
        super().__init__(
            {
                "banks": In(self._layout),
                "rotation": In(config.log2_columns),
                "log2_bank_columns": In(range(config.log2_columns + 1)),
                "columns": Out(self._layout),
            }
        )

    @staticmethod
    def latency(config: AcceleratorConfig) -> int:
        """Cycles from banks to columns."""
        return -(-config.log2_columns // 2)

    def elaborate(self, platform):
        config = self._config
        m = Module()
        items, rotation, log2_bank_columns = self.banks, self.rotation, self.log2_bank_columns
        for stage in range(self.latency(config)):
            bits = range(2 * stage, min(2 * stage + 2, config.log2_columns))
            choices = {
                bit: self._choose_sources(m, platform, rotation[bit], log2_bank_columns, bit=bit)
                for bit in bits
            }
            for bit in bits:
                rotated = Signal(self._layout, name=f"rotated_{bit}")
                for column, (choices_of_slices, sources) in enumerate(choices[bit]):
                    for begin, choice in zip(self._slices, choices_of_slices, strict=True):
                        part = slice(begin, begin + SLICE_BITS)
                        with m.Switch(choice):
                            for number, source in enumerate(sources):
                                with m.Case(number):
                                    m.d.comb += rotated[column][part].eq(items[source][part])
                            with m.Default():
                                m.d.comb += rotated[column][part].eq(items[sources[-1]][part])
                items = rotated
            items = delay(m, items, 1, name=f"items_{stage}")
            rotation = delay(m, rotation, 1, name=f"rotation_{stage}")
            log2_bank_columns = delay(m, log2_bank_columns, 1, name=f"log2_bank_columns_{stage}")
        m.d.comb += self.columns.eq(items)
        return m

    def _choose_sources(self, m, platform, enable, log2_bank_columns, *, bit):
        """For each column: its slices' registers with the number of a source, and the sources.

        They follow the rotation by `ROTATION_LEAD` cycles.
        """
        log2_columns = self._config.log2_columns
        choices = []
        for column in range(self._config.columns):
            sources = [column]
            choice = Signal(range(log2_columns + 2), name=f"choice_{bit}_{column}_soon")
            with m.If(enable), m.Switch(log2_bank_columns):
                for shape in range(log2_columns + 1):
                    source = rotated_column(column, 1 << bit, shape, log2_columns=log2_columns)
                    if source not in sources:
                        sources.append(source)
                    with m.Case(shape):
                        m.d.comb += choice.eq(sources.index(source))
            name = f"choice_{bit}_{column}"
            choice = choice[: max(1, (len(sources) - 1).bit_length())]
            choice = delay(m, choice, self.ROTATION_LEAD - 1, name=f"{name}_decided")
            registers = fan_out(m, choice, len(self._slices), name=name, platform=platform)
            choices.append((registers, sources))
        return choices


def rotated_column(column: int, rotation: int, log2_bank_columns: int, *, log2_columns: int) -> int:
    """Bank that `column` reads under `rotation`, in a grid of ``2**log2_bank_columns`` columns."""
    low_mask = (1 << log2_bank_columns) - 1
    low = (column + rotation) & low_mask
    high = ((column & ~low_mask) + (rotation & ~low_mask)) & ((1 << log2_columns) - 1)
    return high | low
