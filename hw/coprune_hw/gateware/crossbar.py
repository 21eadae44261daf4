"""Turns the words of the banks into the words of the columns."""

from amaranth.hdl import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig


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
        In the same cycle as `banks`.
    columns : Out
        `columns` items, `latency` cycles later.

    Notes
    -----
    Two bits of `rotation` a cycle: latency is ``ceil(log2(columns) / 2)``. One rotation a cycle.
    """

    def __init__(self, config: AcceleratorConfig, *, width: int):
        self._config = config
        self._layout = data.ArrayLayout(width, config.columns)
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
            for bit in range(2 * stage, min(2 * stage + 2, config.log2_columns)):
                rotated = Signal(self._layout, name=f"rotated_{bit}")
                self._rotate_bit(m, rotated, items, rotation[bit], log2_bank_columns, bit=bit)
                items = rotated
            registers = []
            for signal, name in (
                (Value.cast(items), "items"),
                (rotation, "rotation"),
                (log2_bank_columns, "log2_bank_columns"),
            ):
                register = Signal(len(signal), name=f"{name}_{stage}", reset_less=True)
                m.d.sync += register.eq(signal)
                registers.append(register)
            items = data.View(self._layout, registers[0])
            rotation, log2_bank_columns = registers[1:]
        m.d.comb += self.columns.eq(items)
        return m

    def _rotate_bit(self, m, output, items, enable, log2_bank_columns, *, bit):
        log2_columns = self._config.log2_columns
        for column in range(self._config.columns):
            shapes_of = {}
            for shape in range(log2_columns + 1):
                source = rotated_column(column, 1 << bit, shape, log2_columns=log2_columns)
                shapes_of.setdefault(source, []).append(shape)
            m.d.comb += output[column].eq(items[column])
            with m.If(enable), m.Switch(log2_bank_columns):
                for source, shapes in shapes_of.items():
                    with m.Case(*shapes):
                        m.d.comb += output[column].eq(items[source])


def rotated_column(column: int, rotation: int, log2_bank_columns: int, *, log2_columns: int) -> int:
    """Bank that `column` reads under `rotation`, in a grid of ``2**log2_bank_columns`` columns."""
    low_mask = (1 << log2_bank_columns) - 1
    low = (column + rotation) & low_mask
    high = ((column & ~low_mask) + (rotation & ~low_mask)) & ((1 << log2_columns) - 1)
    return high | low
