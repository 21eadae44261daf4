"""What a report says is what the program is and what the cycle model counts."""

import base64
import json
import math

import numpy as np
import pytest

from coprune.report import Subject, describe
from coprune.report.content import ENERGY_PARTS, pair_layers
from coprune.report.patterns import DIAGONAL
from coprune_hw.contract.instructions import Opcode
from coprune_sim.cycle_model import WAIT_CAUSES, MemoryModel
from coprune_sim.energy import estimate_energy

PROGRAMS = ("sparse", "dense", "odd", "tabulated", "single_layer")


@pytest.fixture(params=PROGRAMS)
def program(request):
    return request.getfixturevalue(request.param)


def describe_one(program, **more) -> dict:
    """The part of a report about one program that is about it."""
    return describe([Subject(program, "x.coprune")], **more)["programs"][0]


def decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8)


def test_layers_are_those_of_the_cycle_table(program):
    described = describe_one(program)
    table = program.cycles()
    assert len(described["layers"]) == len(table.layers)
    for shown, counted in zip(described["layers"], table.layers, strict=True):
        for name in ("name", "op", "macs", "nonzero_macs", "slots", "cycles", "tiles", "waits"):
            assert shown[name] == getattr(counted, name), name
        for name in ("load_bytes", "store_bytes", "floor_cycles", "limit", "multiplier_use"):
            assert shown[name] == getattr(counted, name), name
        assert shown["slots"] + sum(shown["waits"].values()) == shown["cycles"]
        assert set(shown["waits"]) == set(WAIT_CAUSES)
    assert described["total"]["cycles"] == table.total.cycles
    assert described["total"]["weight_bytes"] == program.weight_bytes


def test_the_timeline_has_every_instruction_and_ends_with_the_program(program):
    timeline = describe_one(program)["timeline"]
    timing = program.cycles().timing
    shown = [
        (span["index"], span["unit"], span["ready"], span["begin"], span["end"])
        for span in timeline["instructions"]
    ]
    counted = [
        (one.index, one.opcode.name, one.ready, one.begin, one.end) for one in timing.instructions
    ]
    assert shown == counted
    assert timeline["cycles"] == program.cycles().total.cycles
    assert max(span["end"] for span in timeline["instructions"]) <= timeline["cycles"]
    assert timeline["marks"] == [layer.end for layer in timing.layers]


def test_instructions_say_what_they_move_and_issue(program):
    described = describe_one(program)
    spans = described["timeline"]["instructions"]
    weights = [span for span in spans if span["kind"] in ("slots", "parameters")]
    assert sum(span["bytes"] for span in weights) == program.weight_bytes
    assert sum(span["slots"] for span in spans) == sum(
        layer["slots"] for layer in described["layers"]
    )
    for span in spans:
        assert (span["slots"] > 0) == (span["unit"] == "EXECUTE")
        assert (span["bytes"] > 0) == (span["unit"] != "EXECUTE")
        number = span["slots"] or span["bytes"]
        assert f"{number:,}" in span["text"]


def test_cycles_are_counted_for_the_memory_that_is_asked_for(sparse):
    near, far = (
        describe_one(sparse, memory=MemoryModel(latency_cycles=cycles)) for cycles in (1, 400)
    )
    assert near["total"]["cycles"] < far["total"]["cycles"]
    assert far["hardware"]["latency_cycles"] == 400
    assert "400 cycles of memory latency" in far["summary"]


def test_the_summary_states_network_and_hardware(sparse):
    described = describe_one(sparse)
    total = described["total"]
    for text in (
        "sparse makes 10 x 1 x 1 outputs of an image of 3 x 16 x 16 in 9 layers",
        f"{total['macs']:,} multiply-accumulates",
        f"{total['nonzero_macs']:,} ({total['nonzero_macs'] / total['macs']:.1%})",
        "On 8 x 4 multipliers",
        "bus of 64 bits",
        f"takes {total['cycles']:,} cycles",
        f"{1e8 / total['cycles']:,.0f} images/s at 100 MHz",
    ):
        assert text in described["summary"]


def test_pattern_bits_are_the_weights_that_are_not_zero(program):
    for layer, pattern in zip(program.graph.layers, describe_one(program)["patterns"], strict=True):
        for source, shown in zip(layer.sources, pattern["sources"], strict=True):
            bits = np.unpackbits(decode(shown["bits"]))[: source.weight.size]
            assert np.array_equal(bits.reshape(source.weight.shape), source.weight != 0)
            assert shown["nonzero"] == np.count_nonzero(source.weight)


def test_slots_of_blocks_add_up_to_the_stream(program):
    """A tile's slots times its pixel tiles are what its layer issues."""
    config = program.config
    for record, pattern, layer in zip(
        program.machine.layers,
        describe_one(program)["patterns"],
        program.graph.layers,
        strict=True,
    ):
        if layer.input_dilation > 1:
            # A tile has a stream for every phase, none of them with all blocks.
            assert pattern["slots"] is None
            continue
        slots = decode(pattern["slots"]) & ~np.uint8(DIAGONAL)
        executes = [
            instruction
            for instruction in program.machine.instructions()
            if instruction["prefix"]["opcode"] == Opcode.EXECUTE
        ]
        strips = [executes[index] for index in record.executes]
        tiles = sum(strip["tile_rows"] * strip["tile_columns"] for strip in strips)
        channel_tiles = math.ceil(layer.output.channels / config.lanes)
        assert slots.astype(int).sum() * (tiles // channel_tiles) == record.slots


def test_a_block_takes_as_many_slots_as_its_busiest_lane_has_weights(sparse):
    lanes = sparse.config.lanes
    layer = sparse.graph.layers[1]
    pattern = describe_one(sparse)["patterns"][1]
    (source,) = layer.sources
    outputs, inputs, rows, columns = source.weight.shape
    groups = inputs // lanes
    slots = decode(pattern["slots"]).reshape(outputs // lanes, rows, columns, groups)
    counts = (
        (source.weight != 0).reshape(outputs // lanes, lanes, groups, lanes, rows, columns).sum(3)
    )
    assert np.array_equal(slots, counts.max(axis=1).transpose(0, 2, 3, 1))


def test_a_depthwise_convolution_has_diagonal_slots(odd):
    pattern = describe_one(odd)["patterns"][2]
    slots = decode(pattern["slots"])
    assert set(slots[slots > 0]) == {DIAGONAL + 1}


def test_a_large_network_has_densities_of_blocks(sparse, monkeypatch):
    monkeypatch.setattr("coprune.report.patterns.MOST_WEIGHTS", 100)
    lanes = sparse.config.lanes
    for layer, pattern in zip(sparse.graph.layers, describe_one(sparse)["patterns"], strict=True):
        for source, shown in zip(layer.sources, pattern["sources"], strict=True):
            assert "bits" not in shown
            outputs, inputs, *taps = source.weight.shape
            densities = decode(shown["densities"]).reshape(
                -(-outputs // lanes), -(-inputs // lanes), *taps
            )
            block = source.weight[:lanes, :lanes, 0, 0] != 0
            assert densities[0, 0, 0, 0] == round(255 * block.mean())


def test_dram_regions_do_not_overlap(program):
    dram = describe_one(program)["memory"]["dram"]
    end = 0
    for region in dram["regions"]:
        assert region["offset"] >= end, region
        end = region["offset"] + region["size_bytes"]
    assert end <= dram["size_bytes"] == len(program.machine.image)
    kinds = [region["kind"] for region in dram["regions"]]
    tables = {"tables"} if any(layer.table is not None for layer in program.graph.layers) else set()
    assert set(kinds) == {"instructions", "slots", "parameters", "input", "output"} | tables
    sizes = {
        kind: sum(one["size_bytes"] for one in dram["regions"] if one["kind"] == kind)
        for kind in kinds
    }
    assert sizes["slots"] + sizes["parameters"] == program.weight_bytes
    assert sizes["input"] == program.machine.input.size_bytes


def test_tensors_that_are_needed_at_once_do_not_overlap(program):
    banks = describe_one(program)["memory"]["banks"]
    tensors = banks["tensors"]
    assert len(tensors) == 1 + len(program.graph.layers)
    for number, one in enumerate(tensors):
        assert one["base"] + one["words"] <= banks["depth_words"]
        for other in tensors[:number]:
            together = one["first"] <= other["last"] and other["first"] <= one["last"]
            apart = (
                one["base"] + one["words"] <= other["base"]
                or other["base"] + other["words"] <= one["base"]
            )
            assert apart or not together, (one, other)


def test_peak_of_the_banks_is_stated_against_what_layers_need_at_once(program):
    banks = describe_one(program)["memory"]["banks"]
    needed = np.zeros(len(program.graph.layers), int)
    for one in banks["tensors"]:
        needed[one["first"] : one["last"] + 1] += one["words"]
    used = np.zeros(banks["depth_words"], bool)
    for one in banks["tensors"]:
        used[one["base"] : one["base"] + one["words"]] = True
    assert banks["least_words"] == needed.max()
    assert banks["peak_words"] == np.flatnonzero(used)[-1] + 1
    assert banks["least_words"] <= banks["peak_words"] <= banks["depth_words"]


def test_pieces_of_a_ring_do_not_overlap_while_they_are_needed(program):
    for ring in describe_one(program)["memory"]["rings"]:
        pieces = ring["pieces"]
        assert pieces
        for number, one in enumerate(pieces):
            assert one["base"] + one["count"] <= ring["depth"]
            assert one["begin"] < one["end"]
            for other in pieces[:number]:
                together = one["begin"] < other["end"] and other["begin"] < one["end"]
                apart = (
                    one["base"] + one["count"] <= other["base"]
                    or other["base"] + other["count"] <= one["base"]
                )
                assert apart or not together, (ring["name"], one, other)


def test_every_layer_has_energy(program):
    energy = describe_one(program)["energy"]
    assert len(energy) == len(program.graph.layers)
    for layer in energy:
        assert list(layer["picojoules"]) == list(ENERGY_PARTS)
    estimated = estimate_energy(program.machine)
    for layer, expected in zip(energy, estimated.layers, strict=True):
        total = sum(layer["picojoules"].values())
        assert total == pytest.approx(expected.total_picojoules, abs=1)


def test_is_the_same_every_time_and_fits_json(sparse, dense):
    subjects = [Subject(dense, "a.coprune"), Subject(sparse, "b.coprune")]
    texts = {json.dumps(describe(subjects), allow_nan=False) for _ in range(2)}
    assert len(texts) == 1


def test_two_programs_are_paired(sparse, dense):
    described = describe([Subject(dense, "a.coprune"), Subject(sparse, "b.coprune")])
    names = [layer.name for layer in sparse.graph.layers]
    assert described["pairs"] == [
        {"name": name, "before": index, "after": index} for index, name in enumerate(names)
    ]
    assert describe([Subject(sparse, "b.coprune")])["pairs"] is None


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("abc", "abc", "abc"),
        ("abc", "ac", "abc"),
        ("ac", "abc", "abc"),
        ("xab", "ab", "xab"),
        ("axyb", "apb", "axypb"),
        ("ab", "cd", "abcd"),
        ("", "a", "a"),
    ],
)
def test_pairs_layers_by_name(before, after, names):
    pairs = pair_layers(before, after)
    assert "".join(pair["name"] for pair in pairs) == names
    for pair in pairs:
        for layers, index in ((before, pair["before"]), (after, pair["after"])):
            assert index is None or layers[index] == pair["name"]
            assert (index is None) == (pair["name"] not in layers)


@pytest.mark.parametrize("count", [0, 3])
def test_refuses_another_number_of_programs(sparse, count):
    with pytest.raises(ValueError, match=f"one program or two, not {count}"):
        describe([Subject(sparse, "x.coprune")] * count)
