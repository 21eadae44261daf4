"""The array of processing elements: `lanes` x `columns` multiply-accumulates a cycle."""

from amaranth.hdl import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import RAW_WORDS
from coprune_hw.contract.slots import LANE_BITS, LaneField

from .accumulate import accumulate
from .delay import delay
from .fan_out import fan_out
from .multiply import multiply

COLUMNS_PER_COPY = 4
"""That share a copy of a lane's channel index, and of what the slot has the array do."""

COLUMNS_PER_WEIGHT = 8
"""That share a copy of a lane's weight."""


COLUMNS_PER_WORDS = 1
"""That share a copy of whether their words come."""


class SlotFlags(data.Struct):
    """What the array does with a slot.

    `valid`: there is a slot in this cycle. `first` and `last` of its tile. `diagonal`: lane l takes
    channel l with a 12-bit weight. `maximum`: keep the product of the largest channel instead
    of the sum. `raw`: drain every column for `RAW_WORDS` cycles.
    """

    valid: 1
    first: 1
    last: 1
    diagonal: 1
    maximum: 1
    raw: 1


class PEArray(wiring.Component):
    """Multiplies the weight of every lane with a channel of every column's word, and adds up.

    Words, weights and flags enter at lane group 0 and travel to the next group in a cycle each, so
    that no wire spans the array; sums leave with the same skew. When a tile is complete its sums
    move to a second set of registers, which shifts them out a column a cycle while the next tile
    computes.

    Members
    -------
    words, inside, pad : In
        A block's words, as `ActivationMemory` gives them; they stay until the next ones come.
    words_soon : In
        They come in the next cycle.
    flags : In
        Of the slot whose fields for lane group 0 come in this cycle.
    fields : In
        Per lane group: weights and indices. Group g comes g cycles after group 0.
    sums : Out
        One column's accumulators. Lane group g comes g cycles after group 0.
    drain : Out
        In this cycle `sums` of group 0 are those of column 0; the next columns follow, one a cycle,
        or where the tile is `raw` one every `RAW_WORDS` cycles.

    Notes
    -----
    `DRAIN_LATENCY` cycles from `flags` of a tile's last slot to `drain`. Words and the first slot
    of their block come in the same cycle. The next tile's last slot must come `columns` cycles
    later at the earliest, or ``RAW_WORDS * columns``.
    """

    # words, fields -> word register, decoded weight and index -> selected channel -> product
    # -> accumulator -> shadow
    DRAIN_LATENCY = 5

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        fields = data.ArrayLayout(LANE_BITS, config.lane_group)
        super().__init__(
            {
                "words": In(data.ArrayLayout(config.word_bits, config.columns)),
                "inside": In(config.columns),
                "pad": In(8),
                "words_soon": In(1),
                "flags": In(SlotFlags),
                "fields": In(fields).array(config.lane_groups),
                "sums": Out(data.ArrayLayout(signed(config.accumulator_bits), config.lanes)),
                "drain": Out(1),
            }
        )

    def elaborate(self, platform):
        config = self._config
        m = Module()
        words = []
        come = self._fan_out(m, platform, self.words_soon, COLUMNS_PER_WORDS, name="words_come")
        for column in range(config.columns):
            word = Signal(config.word_bits, name=f"word_0_{column}", reset_less=True)
            padding = self.pad.replicate(config.lanes)
            with m.If(come[column]):
                m.d.sync += word.eq(Mux(self.inside[column], self.words[column], padding))
            words.append(word)
        flags = self.flags
        for group in range(config.lane_groups):
            if group:
                words = [
                    delay(m, word, 1, name=f"word_{group}_{column}")
                    for column, word in enumerate(words)
                ]
                flags = delay(m, flags, 1, name=f"flags_{group}", init=0)
            drain = self._add_group(m, platform, group=group, words=words, flags=flags)
            if group == 0:
                m.d.comb += self.drain.eq(drain)
        return m

    def _add_group(self, m, platform, *, group, words, flags):
        """One lane group: `flags` are those of the slot in `fields[group]`. Returns its drain."""
        # Cycle 0: decode. Cycle 1: select the channel. Cycle 2: multiply. Cycle 3: accumulate.
        decoded = delay(m, flags, 1, name=f"flags_{group}_decoded", init=0)
        selected = delay(m, decoded, 1, name=f"flags_{group}_selected", init=0)
        valid, replaces = (
            self._fan_out(m, platform, value, COLUMNS_PER_COPY, name=f"{name}_{group}")
            for name, value in (
                ("valid", decoded.valid),
                ("replaces", decoded.first | ~decoded.maximum),
            )
        )
        multiplied = delay(m, selected, 1, name=f"flags_{group}_multiplied", init=0)
        complete_soon = multiplied.valid & multiplied.last
        complete = delay(m, complete_soon, 1, name=f"complete_{group}", init=0)
        drain = delay(m, complete, 1, name=f"drain_{group}", init=0)
        # The shadow registers move on: in every cycle, or in the last one of a raw column.
        raw = Signal(name=f"raw_{group}", reset_less=True)
        cycle_in_column = Signal(range(RAW_WORDS), name=f"cycle_in_column_{group}", reset_less=True)
        raw_soon = Mux(complete, delay(m, multiplied.raw, 1, name=f"complete_raw_{group}"), raw)
        cycle_soon = Signal.like(cycle_in_column, name=f"cycle_soon_{group}")
        m.d.comb += cycle_soon.eq(Mux(complete, 0, cycle_in_column + 1))
        m.d.sync += [cycle_in_column.eq(cycle_soon), raw.eq(raw_soon)]
        moves_soon = complete_soon | ~raw_soon | (cycle_soon == RAW_WORDS - 1)
        # A maximum's product is the one to keep already.
        alone_soon = selected.first | selected.maximum
        soon = {"alone": alone_soon, "complete": complete_soon, "moves": moves_soon}
        controls = [
            self._fan_out(m, platform, value, 1, name=f"{name}_{group}_column")
            for name, value in soon.items()
        ]
        columns = list(zip(words, valid, replaces, *controls, strict=True))
        for offset in range(self._config.lane_group):
            lane = group * self._config.lane_group + offset
            field = self.fields[group][offset]
            weights, indices = self._decode(m, platform, field, flags.diagonal, lane=lane)
            self._add_lane(m, platform, lane, columns, weights, indices)
        return drain

    def _fan_out(self, m, platform, value, columns_per_copy, *, name):
        """For each column a register of the value, which some columns share."""
        columns = self._config.columns
        copies = -(-columns // columns_per_copy)
        registers = fan_out(m, value, copies, name=name, platform=platform)
        return [registers[column // columns_per_copy] for column in range(columns)]

    def _decode(self, m, platform, field, diagonal, *, lane):
        """Registered 12-bit weight of a lane, and its channel index, for each column."""
        narrow = data.View(LaneField, field)
        # Both as wide as a diagonal slot's.
        weight = Mux(diagonal, field.as_signed(), narrow.weight)[:LANE_BITS]
        index = Mux(diagonal, lane, narrow.index)[: self._config.index_bits]
        return (
            self._fan_out(m, platform, value, columns, name=f"{name}_{lane}")
            for name, value, columns in (
                ("weight", weight, COLUMNS_PER_WEIGHT),
                ("index", index, COLUMNS_PER_COPY),
            )
        )

    def _add_lane(self, m, platform, lane, columns, weights, indices):
        accumulator_shape = signed(self._config.accumulator_bits)
        shadows = [
            Signal(accumulator_shape, name=f"shadow_{lane}_{column}", reset_less=True)
            for column in range(len(columns))
        ]
        m.d.comb += self.sums[lane].eq(shadows[0])
        for column, (word, valid, replaces, alone, complete, moves) in enumerate(columns):
            place = f"{lane}_{column}"
            channel = Signal(signed(8), name=f"channel_{place}", reset_less=True)
            largest = Signal(signed(8), name=f"largest_{place}", reset_less=True)
            counts = Signal(name=f"counts_{place}", reset_less=True)
            accumulator = Signal(accumulator_shape, name=f"accumulator_{place}", reset_less=True)
            channel_soon = word.word_select(indices[column], 8)
            m.d.sync += channel.eq(channel_soon)
            # The product of a maximum stays until a larger channel comes.
            is_kept = valid & (replaces | (channel > largest))
            m.d.sync += counts.eq(is_kept)
            with m.If(is_kept):
                m.d.sync += largest.eq(channel)
            weight = weights[column].as_signed()
            product = multiply(m, weight, channel_soon, name=place, platform=platform)
            total = accumulate(m, accumulator, product, alone=alone, platform=platform)
            with m.If(counts):
                m.d.sync += accumulator.eq(total)
            following = shadows[column + 1] if column + 1 < len(columns) else shadows[column]
            with m.If(moves):
                m.d.sync += shadows[column].eq(Mux(complete, accumulator, following))
