"""Programs that no compiler makes: small instructions at random between those of a layer."""

from dataclasses import replace

import numpy as np

from coprune.program import compile_graph
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import (
    BARRIER_BITS,
    INSTRUCTION_BYTES,
    RAW_WORDS,
    LoadKind,
    Opcode,
    encode_instruction,
    prefix,
)
from coprune_hw.contract.program import MachineProgram
from coprune_hw.contract.work import UNITS, payload_bytes

from ..graphs import single_layer_graph

MANY_BURSTS = AcceleratorConfig(
    lanes=8,
    columns=8,
    activation_depth=1024,
    slot_depth=1024,
    parameter_depth=32,
    bus_bits=32,
    lane_group=8,
    queue_depth=8,
    burst_beats=4,
    outstanding_bursts=8,
    mark_depth=32,
)
"""More bursts under way than LOADs that wait for their beats; several beats to a word."""

SCRATCH_BYTES = 4096
"""Behind the program, where STOREs may write."""


def scrambled_program(config: AcceleratorConfig, *, seed: int) -> MachineProgram:
    """A random layer with other instructions in between, and marks of one unit everywhere.

    What it computes is nonsense, but how many cycles that takes depends on no pixel. Tokens are
    those of the layer, so it ends. Its layers are its marks.
    """
    rng = np.random.default_rng(seed)
    program = compile_graph(single_layer_graph(seed=seed), config).machine
    old = program.instructions()
    slots_end = max(
        each["place"]["base"] + each["count"] for each in old if each.get("kind") == LoadKind.SLOTS
    )
    header, *middle, end = old
    instructions = [header]
    density = rng.choice([0.2, 0.6])
    for instruction in middle:
        if rng.random() < density:
            make = NOISE[int(rng.integers(len(NOISE)))]
            for _ in range(rng.integers(1, 9)):
                instructions.append(make(rng, config, slots_end))
        if instruction["prefix"]["opcode"] == Opcode.EXECUTE:
            for _ in range(rng.integers(0, 3)):
                part = part_of(rng, instruction, config=config)
                instructions.append(part)
                # The part waits in place of the whole, which is done behind it.
                instruction = replace_prefix(instruction, wait_previous=0, wait_next=0)
        instructions.append(instruction)
    instructions.append(end)
    instructions = mark_one_unit(rng, instructions, depth=config.mark_depth)

    old_bytes = len(old) * INSTRUCTION_BYTES
    moved = len(instructions) * INSTRUCTION_BYTES - old_bytes
    moved += int(rng.integers(0, 64)) * config.bus_bytes
    scratch = len(program.image) + moved
    for instruction in instructions:
        if instruction["prefix"]["opcode"] == Opcode.LOAD:
            if instruction["source"] is None:
                room = len(program.image) - old_bytes - payload_bytes(instruction, config)
                place = int(rng.integers(0, max(room, 0) // config.bus_bytes + 1))
                instruction["source"] = old_bytes + place * config.bus_bytes
            instruction["source"] += moved
        elif instruction["prefix"]["opcode"] == Opcode.STORE:
            if instruction["destination"] is None:
                room = SCRATCH_BYTES - payload_bytes(instruction, config) - config.bus_bytes
                place = int(rng.integers(0, room // config.bus_bytes))
                instruction["destination"] = scratch + place * config.bus_bytes
            else:
                instruction["destination"] += moved
    encoded = b"".join(map(encode_instruction, instructions))
    data = program.image[old_bytes:] + bytes(SCRATCH_BYTES)
    gap = bytes(old_bytes + moved - len(encoded))
    (record,) = program.layers
    marks = [each["prefix"]["mark"] for each in instructions if each["prefix"]["mark_valid"]]
    return replace(
        program,
        image=encoded + gap + data,
        input=replace(program.input, offset=program.input.offset + moved),
        output=replace(program.output, offset=program.output.offset + moved),
        layers=tuple(replace(record, name=f"mark {mark}", mark=mark) for mark in marks),
    )


def replace_prefix(instruction: dict, **fields: int) -> dict:
    return {**instruction, "prefix": {**instruction["prefix"], **fields}}


def part_of(rng: np.random.Generator, execute: dict, *, config: AcceleratorConfig) -> dict:
    """Some slots of some tiles of an EXECUTE, into a smaller output; it sends no tokens."""
    part = replace_prefix(execute, signal_previous=0, signal_next=0)
    for name in ("slot_count", "tile_rows", "tile_columns", "output_height", "output_width"):
        part[name] = int(rng.integers(1, part[name] + 1))
    place = part["output"]
    raw_end = place["base"] + RAW_WORDS * place["plane_words"]
    can_be_raw = raw_end <= config.activation_depth and place["log2_stride"] == 0
    return {
        **part,
        "barrier": int(rng.integers(0, 1 << BARRIER_BITS)),
        "raw": int(can_be_raw and rng.integers(0, 2)),
    }


def mark_one_unit(rng: np.random.Generator, instructions: list[dict], *, depth: int) -> list[dict]:
    """Mark instructions of one unit at random: marks of two units would get in their way."""
    unit = UNITS[rng.integers(len(UNITS))]
    own = [k for k, each in enumerate(instructions) if each["prefix"]["opcode"] == unit]
    marked = rng.permutation(own)[:depth]
    mark_of = {int(k): mark for mark, k in enumerate(sorted(marked))}
    return [
        replace_prefix(each, mark_valid=int(k in mark_of), mark=mark_of.get(k, 0))
        for k, each in enumerate(instructions)
    ]


def some_place(rng: np.random.Generator, config: AcceleratorConfig) -> tuple[dict, dict]:
    """Place and window of a few pixels."""
    place = {
        "base": int(rng.integers(0, 400)),
        "plane_words": 100,
        "pitch": 12,
        "log2_stride": int(rng.integers(0, 2)),
        "log2_bank_columns": int(rng.integers(0, config.log2_columns + 1)),
    }
    rows, width = int(rng.integers(1, 7)), int(rng.integers(1, 13))
    return place, {"row_begin": int(rng.integers(0, 3)), "rows": rows, "width": width}


NOWHERE = {"base": 0, "plane_words": 0, "pitch": 0, "log2_stride": 0, "log2_bank_columns": 0}
NOTHING = {"row_begin": 0, "rows": 0, "width": 0}


def load_slots(rng: np.random.Generator, config: AcceleratorConfig, slots_end: int) -> dict:
    """A few slots that nobody reads."""
    count = int(rng.integers(1, 4))
    if slots_end + count > config.slot_depth:
        return load_parameters(rng, config, slots_end)
    base = int(rng.integers(slots_end, config.slot_depth - count + 1))
    return {
        "prefix": prefix(Opcode.LOAD),
        "kind": LoadKind.SLOTS,
        "source": None,
        "count": count,
        "place": {**NOWHERE, "base": base},
        "window": NOTHING,
        "pixel_bytes": 0,
    }


def load_parameters(rng: np.random.Generator, config: AcceleratorConfig, _: int) -> dict:
    """A few channels' parameters."""
    count = int(rng.integers(1, 4))
    return {
        "prefix": prefix(Opcode.LOAD),
        "kind": LoadKind.PARAMETERS,
        "source": None,
        "count": count,
        "place": {**NOWHERE, "base": int(rng.integers(0, config.parameter_depth - count))},
        "window": NOTHING,
        "pixel_bytes": 0,
    }


def load_pixels(rng: np.random.Generator, config: AcceleratorConfig, _: int) -> dict:
    """A few pixels of any size."""
    place, window = some_place(rng, config)
    size = int(rng.integers(1, config.lanes + 1))
    return {
        "prefix": prefix(Opcode.LOAD),
        "kind": LoadKind.PIXELS,
        "source": None,
        "count": 0,
        "place": place,
        "window": {**window, "rows": 1} if rng.random() < 0.5 else window,
        "pixel_bytes": size,
    }


def store_pixels(rng: np.random.Generator, config: AcceleratorConfig, _: int) -> dict:
    """A few words."""
    place, window = some_place(rng, config)
    return {
        "prefix": prefix(Opcode.STORE),
        "destination": None,
        "place": place,
        "window": window,
    }


NOISE = (load_slots, load_parameters, load_pixels, load_pixels, store_pixels)
