"""PEArray: sparse, diagonal and maximum slots against a naive sum, with gaps in the slot stream."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import RAW_WORDS
from coprune_hw.gateware.pe_array import PEArray


def _random_tile(rng, config, *, maximum):
    """Blocks of (words, inside, slots); a slot is (weights, indices, diagonal)."""
    blocks = []
    for _ in range(int(rng.integers(1, 5))):
        words = rng.integers(-128, 128, (config.columns, config.lanes))
        inside = rng.integers(0, 4, config.columns) > 0
        slots = []
        for _ in range(int(rng.integers(1, 4))):
            diagonal = bool(rng.integers(0, 2))
            reach = 2048 if diagonal else 128
            weights = rng.integers(-reach, reach, config.lanes)
            slots.append((weights, rng.integers(0, config.lanes, config.lanes), diagonal))
        blocks.append((words, inside, slots))
    raw = bool(rng.integers(0, 2))
    pad = int(rng.integers(-128, 128))
    return {"blocks": blocks, "maximum": maximum, "raw": raw, "pad": pad}


def _expected_sums(tile, config):
    sums, largest = 0, np.full((config.columns, config.lanes), -129)
    for words, inside, slots in tile["blocks"]:
        seen = np.where(inside[:, None], words, tile["pad"])
        for weights, indices, diagonal in slots:
            chosen = np.arange(config.lanes) if diagonal else indices
            channel = seen[:, chosen]
            product = weights[None, :] * channel
            larger = channel > largest
            sums = np.where(larger, product, sums) if tile["maximum"] else sums + product
            largest = np.where(larger, channel, largest)
    return sums


@pytest.mark.parametrize(("lanes", "columns", "lane_group"), [(8, 4, 4), (16, 2, 4), (8, 2, 8)])
@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_adds_up_every_tile_through_gaps(lanes, columns, lane_group, gap):
    config = AcceleratorConfig(lanes=lanes, columns=columns, lane_group=lane_group)
    dut = PEArray(config)
    rng = np.random.default_rng([lanes, columns, int(10 * gap)])
    tiles = [_random_tile(rng, config, maximum=bool(rng.integers(0, 2))) for _ in range(12)]
    # Cycle by cycle: what enters at lane group 0. A tile ends when the one before has left.
    timeline, since_end, drain_cycles = [], columns, columns
    for tile in tiles:
        total = sum(len(slots) for _, _, slots in tile["blocks"])
        number = 0
        for words, inside, slots in tile["blocks"]:
            for position, slot in enumerate(slots):
                number += 1
                while rng.random() < gap or (number == total and since_end < drain_cycles - 1):
                    timeline.append(None)
                    since_end += 1
                since_end = 0 if number == total else since_end + 1
                if number == total:
                    drain_cycles = columns * (RAW_WORDS if tile["raw"] else 1)
                block = (words, inside) if position == 0 else None
                timeline.append((tile, block, slot, number == 1, number == total))
    # Words are announced a cycle before they come.
    timeline.insert(0, None)
    seen = {}

    def field_bits(slot, group):
        weights, indices, diagonal = slot
        lanes_of_group = slice(group * lane_group, (group + 1) * lane_group)
        fields = []
        for weight, index in zip(weights[lanes_of_group], indices[lanes_of_group], strict=True):
            narrow = (int(weight) & 0xFF) | (int(index) << 8)
            fields.append(int(weight) & 0xFFF if diagonal else narrow)
        return fields

    async def bench(ctx):
        drains, tail = [], PEArray.DRAIN_LATENCY + RAW_WORDS * columns + config.lane_groups
        for cycle in range(len(timeline) + tail):
            entry = timeline[cycle] if cycle < len(timeline) else None
            following = timeline[cycle + 1] if cycle + 1 < len(timeline) else None
            ctx.set(dut.words_soon, bool(following and following[1]))
            ctx.set(dut.flags.valid, 0)
            if entry:
                tile, block, slot, first, last = entry
                if block:
                    for column in range(columns):
                        raw = block[0][column].astype(np.int8).tobytes()
                        ctx.set(dut.words[column], int.from_bytes(raw, "little"))
                    mask = sum(int(bit) << column for column, bit in enumerate(block[1]))
                    ctx.set(dut.inside, mask)
                    ctx.set(dut.pad, tile["pad"] & 0xFF)
                flags = {"valid": 1, "first": first, "last": last}
                flags |= {"diagonal": slot[2], "maximum": tile["maximum"], "raw": tile["raw"]}
                ctx.set(dut.flags, {name: int(value) for name, value in flags.items()})
            for group in range(config.lane_groups):
                at = cycle - group
                if 0 <= at < len(timeline) and timeline[at]:
                    ctx.set(dut.fields[group], field_bits(timeline[at][2], group))
            if ctx.get(dut.drain):
                drains.append(cycle)
            for number, begin in enumerate(drains):
                word_cycles = RAW_WORDS if tiles[number]["raw"] else 1
                for lane in range(lanes):
                    column, byte = divmod(cycle - begin - lane // lane_group, word_cycles)
                    if 0 <= column < columns:
                        seen[number, column, byte, lane] = ctx.get(dut.sums[lane])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()

    for number, tile in enumerate(tiles):
        for byte in range(RAW_WORDS if tile["raw"] else 1):
            got = [
                [seen[number, column, byte, lane] for lane in range(lanes)]
                for column in range(columns)
            ]
            assert np.array_equal(got, _expected_sums(tile, config)), f"tile {number}"
