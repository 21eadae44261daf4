"""The memories of an accelerator, and the cells of an ECP5 that Yosys makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import (
    TABLE_BYTES,
    Execute,
    Load,
    Prefix,
    Store,
)
from coprune_hw.contract.parameters import ChannelParameters
from coprune_hw.contract.slots import CONTROL_BITS, LANE_BITS
from coprune_hw.gateware.activation_memory import ActivationMemory
from coprune_hw.gateware.counters import COUNTER_VALUES
from coprune_hw.gateware.fetch import Fetcher
from coprune_hw.gateware.interfaces import BANK_ADDRESS_BITS
from coprune_hw.gateware.load import Loader
from coprune_hw.gateware.load_plan import load_job_layout
from coprune_hw.gateware.raster_walk import RasterWalk
from coprune_hw.gateware.sequencer import (
    MOST_IN_FLIGHT,
    MOST_UNWRITTEN_TILES,
    DrainSettings,
    DrainTile,
)
from coprune_hw.gateware.stream_fifo import StreamFifo
from coprune_hw.gateware.word_reader import WordReader

BLOCK_RAM_MODES = ((4, 512), (2, 1024), (1, 2048))
"""Of a DP16KD with its ninth bits: bytes of 9 bits in a word, and words."""
NARROW_MODES = ((4, 4096), (2, 8192), (1, 16384))
"""Of a DP16KD without its ninth bits: bits in a word, and words."""
LUT_RAM_BITS, LUT_RAM_DEPTH = 4, 16
"""Shape of a TRELLIS_DPR16X4."""
BLOCK_RAM_COST, LUT_RAM_COST = 128, 4
"""``cost`` in Yosys' ``lattice/brams_16kd.txt`` and ``lattice/lutrams_trellis.txt``."""
MULTIPLEXER_COST = 0.5
"""Of a bit that is chosen from one more row: ``FACTOR_MUX`` in Yosys' ``memory_libmap.cc``."""
PORT_COST = 10
"""Of what makes a block RAM's ports behave as those of the gateware. Observed: between 8 and 24."""
FLIP_FLOP_BITS = 6
"""A memory of no more bits becomes flip-flops. Observed, as Yosys 0.70 maps it."""


@dataclass(frozen=True)
class MemoryShape:
    """One memory of the gateware, with a write port and a read port.

    Parameters
    ----------
    name : str
        Of the submodules that lead to it, joined by dots.
    bits, depth : int
        Of a word, and words.
    registered : bool
        It is read with a clock. Block RAMs can only be read so.
    """

    name: str
    bits: int
    depth: int
    registered: bool = True


def list_memories(config: AcceleratorConfig) -> Iterator[MemoryShape]:
    """All memories of an accelerator, those of its FIFOs included."""
    location_bits = config.log2_columns + BANK_ADDRESS_BITS + 1
    arrived_depth = WordReader.depth(ActivationMemory.store_latency(config))
    burst_bits = config.burst_beats.bit_length() + 1
    for name, bits, depth in (
        ("access.fetcher.buffer", config.bus_bits, Fetcher.buffer_beats(config)),
        ("access.arbiter.owners", 1, 2 * config.outstanding_bursts),
        ("access.loader.jobs", load_job_layout(config).size, Loader.AHEAD),
        ("access.loader.writer.walk.ahead", location_bits, RasterWalk.AHEAD),
        ("access.storer.reader.walk.ahead", location_bits, RasterWalk.AHEAD),
        ("access.storer.reader.arrived", config.word_bits, arrived_depth),
        ("access.storer.writer.bursts", burst_bits, config.outstanding_bursts),
    ):
        words = StreamFifo.memory_words(depth)
        yield MemoryShape(f"{name}.storage", bits, words, registered=False)
    for name, bits, depth in (
        ("access.dispatcher.load_queue", Load.as_shape().size, config.queue_depth),
        ("access.dispatcher.execute_queue", Execute.as_shape().size, config.queue_depth),
        ("access.dispatcher.store_queue", Store.as_shape().size, config.queue_depth),
        ("access.storer.writer.buffer", config.bus_bits, 2 * config.burst_beats),
        ("execute.drain.jobs", DrainSettings.as_shape().size, MOST_IN_FLIGHT),
        ("execute.drain.prefixes", Prefix.as_shape().size, MOST_IN_FLIGHT),
        ("execute.drain.tiles", DrainTile.as_shape().size, MOST_UNWRITTEN_TILES),
    ):
        yield MemoryShape(f"{name}.storage", bits, StreamFifo.memory_words(depth))
    yield MemoryShape("access.counters.records", COUNTER_VALUES.size, config.mark_depth)
    yield MemoryShape("execute.slots.control_memory", CONTROL_BITS, config.slot_depth)
    for group in range(config.lane_groups):
        group_bits = LANE_BITS * config.lane_group
        yield MemoryShape(f"execute.slots.lane_memory_{group}", group_bits, config.slot_depth)
    record_bits = ChannelParameters.as_shape().size
    yield MemoryShape("execute.parameters.records", record_bits, config.parameter_depth)
    for bank in range(config.columns):
        name = f"execute.activations.bank_{bank}"
        yield MemoryShape(name, config.word_bits, config.activation_depth)
    if config.tables:
        for lane in range(config.lanes):
            name = f"execute.drain.tables.tables_{lane}"
            yield MemoryShape(name, 8, config.tables * TABLE_BYTES)


def map_memory(memory: MemoryShape) -> tuple[int, int]:
    """Block RAMs (DP16KD) and distributed RAMs (TRELLIS_DPR16X4) that a memory becomes.

    As the pass ``memory_libmap`` of Yosys does, the cheapest cells are taken: those of one kind,
    and multiplexers where several rows of them make the depth.
    """
    if memory.bits * memory.depth <= FLIP_FLOP_BITS:
        return 0, 0
    rows = -(-memory.depth // LUT_RAM_DEPTH)
    lut_rams = -(-memory.bits // LUT_RAM_BITS) * rows
    if not memory.registered:
        return 0, lut_rams
    layouts = [
        # A last row or column of less than a block RAM's width shares it with others.
        (-(-(-(-memory.bits // 9) * -(-memory.depth // depth)) // width), -(-memory.depth // depth))
        for width, depth in BLOCK_RAM_MODES
    ]
    layouts += [
        (-(-memory.bits // width) * -(-memory.depth // depth), -(-memory.depth // depth))
        for width, depth in NARROW_MODES
    ]
    cost, block_rams = min(
        (BLOCK_RAM_COST * cells + _multiplexers(memory, rows) + PORT_COST, cells)
        for cells, rows in layouts
    )
    if LUT_RAM_COST * lut_rams + _multiplexers(memory, rows) <= cost:
        return 0, lut_rams
    return block_rams, 0


def _multiplexers(memory: MemoryShape, rows: int) -> float:
    return MULTIPLEXER_COST * memory.bits * (rows - 1)
