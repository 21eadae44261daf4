"""Energy estimates: events counted by hand, and sums that other code gives too."""

from collections import Counter

import numpy as np
import pytest

import coprune
from coprune import zoo
from coprune.data import cifar10
from coprune.program import Program, compile_graph
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_sim import machine
from coprune_sim.energy import EVENTS, HOROWITZ_2014, estimate_energy
from coprune_sim.graph import Source
from tests.graphs import GRAPHS, GraphBuilder, random_graph

CONFIG = AcceleratorConfig.preset("16x16")
SLOT_BYTES = 27
RECORD_BYTES = 8
BUS_BYTES = 8


def pointwise_program(*, channels: int = 8, zero_weights: int = 0) -> Program:
    """A 1x1 convolution to 16 channels on 4x4 pixels: one tile, one block, a slot per channel."""
    builder = GraphBuilder(channels, (4, 4), seed=1)
    weight = np.full((16, channels, 1, 1), 5, np.int16)
    weight[:zero_weights, 0] = 0
    builder.add(Source("input", weight))
    return compile_graph(builder.graph(), CONFIG)


def compile_network(name: str) -> Program:
    images = cifar10.normalize(cifar10.load_sample().calibration.images)
    return coprune.compile(zoo.build(name), CONFIG, calibration=list(images.split(64)))


@pytest.fixture(scope="module")
def sparse() -> Program:
    return compile_network("resnet20")


def test_events_of_one_tile_are_those_counted_by_hand():
    counts = estimate_energy(pointwise_program(zero_weights=3).machine).counts
    slots, pixels, word_bytes = 8, 16, 16
    assert counts == {
        "multiplications": slots * 256,
        "nonzero_multiplications": slots * 256 - 3 * 16,
        "accumulations": slots * 256,
        "requantizations": pixels * 16,
        "slot_bytes_read": slots * SLOT_BYTES,
        "slot_bytes_written": slots * SLOT_BYTES,
        "parameter_bytes_read": 16 * RECORD_BYTES,
        "parameter_bytes_written": 16 * RECORD_BYTES,
        # One block, and the output for STORE.
        "activation_bytes_read": 2 * pixels * word_bytes,
        # The input's words, and the drain's.
        "activation_bytes_written": 2 * pixels * word_bytes,
        # Eight bytes a pixel, slots and parameters: all multiples of the bus.
        "dram_bytes_read": pixels * 8 + slots * SLOT_BYTES + 16 * RECORD_BYTES,
        "dram_bytes_written": pixels * word_bytes,
        # HEADER, three LOAD, EXECUTE, STORE, END.
        "instruction_bytes": 7 * 32,
    }
    assert list(counts) == list(EVENTS)


def test_bytes_of_dram_are_whole_beats():
    counts = estimate_energy(pointwise_program(channels=3).machine).counts
    beats = [-(-size // BUS_BYTES) for size in (16 * 3, 3 * SLOT_BYTES, 16 * RECORD_BYTES)]
    assert counts["dram_bytes_read"] == BUS_BYTES * sum(beats)
    assert 3 * SLOT_BYTES % BUS_BYTES


def test_energies_are_counts_times_published_energies():
    energy = estimate_energy(pointwise_program().machine)
    picojoules = energy.picojoules
    assert picojoules["multiplications"] == pytest.approx(2048 * 0.2)
    assert picojoules["accumulations"] == pytest.approx(2048 * 0.1)
    assert picojoules["requantizations"] == pytest.approx(256 * 3.3)
    # A bank has 8 KiB: 10 pJ for 8 bytes.
    assert picojoules["activation_bytes_read"] == pytest.approx(512 / 8 * 10)
    assert picojoules["parameter_bytes_read"] == pytest.approx(128 / 8 * 10)
    assert picojoules["dram_bytes_written"] == pytest.approx(256 / 8 * 1950)
    # Control bits in 6 KiB, lane groups in 12 KiB each: 10 pJ at 8 KiB, times the size's root.
    word = (3 * 10 * (6 / 8) ** 0.5 + 24 * 10 * (12 / 8) ** 0.5) / 8
    assert picojoules["slot_bytes_read"] == pytest.approx(8 * word)
    assert "nonzero_multiplications" not in picojoules


@pytest.mark.parametrize(
    ("size_bytes", "access"), [(2 << 10, 5), (8 << 10, 10), (16 << 10, 14.142), (32 << 10, 20)]
)
def test_memory_energies_follow_the_published_sizes(size_bytes, access):
    assert HOROWITZ_2014.sram_byte(size_bytes) == pytest.approx(access / 8, rel=1e-4)


def test_memory_energies_meet_the_largest_published_size_and_go_on():
    assert HOROWITZ_2014.sram_byte(1 << 20) == pytest.approx(100 / 8)
    growth = HOROWITZ_2014.sram_byte(1 << 25) / HOROWITZ_2014.sram_byte(1 << 20)
    assert growth == pytest.approx(5)


@pytest.mark.parametrize("name", [*GRAPHS, 0, 1, 2])
def test_bytes_are_those_that_the_instructions_name(name):
    graph = random_graph(seed=name) if isinstance(name, int) else GRAPHS[name]()
    program = compile_graph(graph, CONFIG).machine
    chunk_bytes = {
        LoadKind.SLOTS: SLOT_BYTES,
        LoadKind.PARAMETERS: RECORD_BYTES,
        LoadKind.TABLES: 1,
    }
    expected = Counter()
    for instruction in program.instructions():
        opcode, window = instruction["prefix"]["opcode"], instruction.get("window")
        if opcode == Opcode.LOAD and instruction["kind"] == LoadKind.PIXELS:
            size = window["rows"] * window["width"] * instruction["pixel_bytes"]
            expected["dram_bytes_read"] += -(-size // BUS_BYTES) * BUS_BYTES
        elif opcode == Opcode.LOAD:
            size = instruction["count"] * chunk_bytes[instruction["kind"]]
            expected["dram_bytes_read"] += -(-size // BUS_BYTES) * BUS_BYTES
        elif opcode == Opcode.STORE:
            expected["dram_bytes_written"] += window["rows"] * window["width"] * CONFIG.lanes
        expected["instruction_bytes"] += 32
    counts = estimate_energy(program).counts
    assert {event: counts[event] for event in expected} == expected


@pytest.mark.parametrize("name", GRAPHS)
def test_drained_words_and_slots_are_those_of_the_instruction_simulator(name):
    program = compile_graph(GRAPHS[name](), CONFIG).machine
    region = program.input
    run = machine.run(program, np.zeros((region.channels, region.height, region.width), np.int8))
    counts = estimate_energy(program).counts
    assert counts["requantizations"] == run.drained.word.size
    assert counts["multiplications"] == 256 * sum(layer.slots for layer in program.layers)


def test_layers_add_up_and_slots_are_each_layer_s_own(sparse):
    energy = estimate_energy(sparse.machine)
    for layer, record in zip(energy.layers, sparse.machine.layers, strict=True):
        assert layer.name == record.name
        assert layer.counts["slot_bytes_read"] == SLOT_BYTES * record.slots
    for event, count in energy.counts.items():
        assert count == sum(layer.counts[event] for layer in energy.layers)
    by_event, by_layer = energy.picojoules.values(), [e.total_picojoules for e in energy.layers]
    assert energy.total_picojoules == pytest.approx(sum(by_event))
    assert energy.total_picojoules == pytest.approx(sum(by_layer))


def test_sparse_network_takes_less_than_the_dense_one(sparse):
    few = estimate_energy(sparse.machine)
    many = estimate_energy(compile_network("resnet20-dense").machine)
    for event in ("multiplications", "slot_bytes_read", "dram_bytes_read"):
        assert few.counts[event] < many.counts[event] / 3
    assert few.total_picojoules < many.total_picojoules / 3
    assert few.counts["requantizations"] == many.counts["requantizations"]
