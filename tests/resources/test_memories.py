"""The memories of the gateware and their mapping, against the gateware itself and against Yosys."""

import pytest
from amaranth.hdl import Fragment, Shape
from amaranth.hdl._mem import MemoryInstance

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.machine import Machine
from coprune_sim.resources import MemoryShape, estimate_resources, list_memories, map_memory
from coprune_sim.resources.runs import read_runs

CONFIGS = {
    "default": AcceleratorConfig(),
    "small": AcceleratorConfig(
        lanes=8,
        columns=2,
        lane_group=8,
        bus_bits=32,
        tables=0,
        queue_depth=5,
        outstanding_bursts=3,
        burst_beats=8,
        mark_depth=9,
    ),
    "odd depths": AcceleratorConfig(
        lanes=8, columns=4, bus_bits=128, activation_depth=300, slot_depth=700, tables=1
    ),
}

MAPPED = [
    # Bits, depth, block RAMs, distributed RAMs: what `memory_libmap` of Yosys 0.70 makes of a
    # memory with one write port and one registered read port.
    (1, 3, 0, 0),
    (2, 3, 0, 0),
    (1, 7, 0, 1),
    (3, 3, 0, 1),
    (8, 128, 0, 16),
    (8, 255, 1, 0),
    (8, 2049, 2, 0),
    (9, 16385, 9, 0),
    (10, 6000, 5, 0),
    (16, 64, 0, 16),
    (16, 128, 1, 0),
    (19, 6000, 9, 0),
    (24, 63, 0, 24),
    (24, 1536, 3, 0),
    (24, 2049, 4, 0),
    (27, 63, 1, 0),
    (36, 63, 1, 0),
    (37, 64, 0, 40),
    (37, 8192, 19, 0),
    (48, 64, 0, 48),
    (48, 512, 2, 0),
    (48, 513, 3, 0),
    (48, 2049, 8, 0),
    (58, 63, 2, 0),
    (58, 1024, 4, 0),
    (64, 32, 0, 32),
    (64, 63, 2, 0),
    (64, 2048, 8, 0),
    (73, 8192, 36, 0),
    (117, 3, 0, 30),
    (128, 512, 4, 0),
    (128, 1000, 8, 0),
    (128, 2048, 15, 0),
    (224, 32, 0, 112),
    (224, 128, 7, 0),
    (224, 1025, 19, 0),
    (224, 16385, 213, 0),
]


def elaborated_memories(fragment, path=()):
    if isinstance(fragment, MemoryInstance):
        shape = Shape.cast(fragment._data.shape)
        registered = fragment._read_ports[0]._domain != "comb"
        yield MemoryShape(".".join(path), shape.width, fragment._data.depth, registered)
    for subfragment, name, *_ in fragment.subfragments:
        yield from elaborated_memories(subfragment, (*path, str(name)))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_lists_the_memories_of_the_gateware(config):
    fragment = Fragment.get(Machine(config), None)
    listed = list(list_memories(config))
    assert set(listed) == set(elaborated_memories(fragment))
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(("bits", "depth", "block_rams", "lut_rams"), MAPPED)
def test_maps_memories_as_yosys_does(bits, depth, block_rams, lut_rams):
    assert map_memory(MemoryShape("m", bits, depth)) == (block_rams, lut_rams)


@pytest.mark.parametrize(
    ("bits", "depth", "lut_rams"),
    [(1, 4, 0), (1, 8, 1), (7, 17, 4), (64, 16, 16), (175, 255, 704), (175, 4, 44)],
)
def test_memories_that_are_read_without_a_clock_are_distributed(bits, depth, lut_rams):
    assert map_memory(MemoryShape("m", bits, depth, registered=False)) == (0, lut_rams)


@pytest.mark.parametrize("cell", ["MULT18X18D", "DP16KD", "TRELLIS_DPR16X4"])
def test_counts_are_those_of_every_recorded_run(cell):
    for run in read_runs():
        counted = estimate_resources(run.config)
        name = {"MULT18X18D": "multipliers", "DP16KD": "block_rams", "TRELLIS_DPR16X4": "lut_rams"}
        assert getattr(counted, name[cell]) == run.cells[cell], run.config
