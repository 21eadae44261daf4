"""Where things lie: in DRAM, in the activation banks, in slot, parameter and table memory."""

from __future__ import annotations

from collections.abc import Sequence

from coprune.program import Program
from coprune_hw.contract.instructions import INSTRUCTION_BYTES, TABLE_BYTES, LoadKind, Opcode
from coprune_hw.contract.work import payload_bytes, read_addresses
from coprune_sim.cycle_model import InstructionTiming

from .disassembly import kind_of


def describe_memory(
    program: Program, *, instructions: list[dict], timings: Sequence[InstructionTiming]
) -> dict:
    """Regions of the DRAM image, tensors in the banks, and pieces of the on-chip rings."""
    config = program.config
    tensors = _describe_tensors(program, instructions=instructions)
    has_tables = any(layer.table is not None for layer in program.graph.layers)
    return {
        "dram": _describe_dram(program, instructions=instructions, timings=timings),
        "banks": {
            "depth_words": config.activation_depth,
            "peak_words": max(tensor["base"] + tensor["words"] for tensor in tensors),
            "least_words": _most_alive(tensors),
            "tensors": tensors,
        },
        "rings": [
            {
                "name": name,
                "depth": depth,
                "pieces": _describe_pieces(instructions, timings=timings, kind=kind),
            }
            for name, depth, kind in (
                ("slots", config.slot_depth, LoadKind.SLOTS),
                ("parameters", config.parameter_depth, LoadKind.PARAMETERS),
                *([("tables", config.tables * TABLE_BYTES, LoadKind.TABLES)] if has_tables else []),
            )
        ],
    }


def _describe_dram(
    program: Program, *, instructions: list[dict], timings: Sequence[InstructionTiming]
) -> dict:
    """Regions in the order of their offsets; `layer` is None where one is for no single layer."""
    layer_of = {timing.index: timing.layer for timing in timings}
    regions = [("instructions", 0, len(instructions) * INSTRUCTION_BYTES, None)]
    loads = {}
    for index, instruction in enumerate(instructions):
        kind = kind_of(instruction)
        if kind in ("slots", "parameters", "tables"):
            size = payload_bytes(instruction, program.config)
            loads.setdefault(instruction["source"], (kind, size, layer_of.get(index)))
    regions += [(kind, offset, size, layer) for offset, (kind, size, layer) in loads.items()]
    for kind, region in (("input", program.machine.input), ("output", program.machine.output)):
        regions.append((kind, region.offset, region.size_bytes, None))
    return {
        "size_bytes": len(program.machine.image),
        "regions": [
            dict(zip(("kind", "offset", "size_bytes", "layer"), region, strict=True))
            for region in sorted(regions, key=lambda region: region[1])
        ],
    }


def _describe_tensors(program: Program, *, instructions: list[dict]) -> list[dict]:
    """The tensors' words, the same in every bank, and the first and last layer that needs them."""
    layers = program.graph.layers
    last_reader = {
        source.tensor: number for number, layer in enumerate(layers) for source in layer.sources
    }
    base, words = _input_words(instructions)
    name = program.graph.input.name
    tensors = [_tensor(name, base, words, first=0, last=last_reader.get(name, 0))]
    for number, (layer, record) in enumerate(zip(layers, program.machine.layers, strict=True)):
        place = record.placement
        last = last_reader.get(layer.output.name, number)
        tensors.append(_tensor(record.name, place.base, place.words, first=number, last=last))
    return tensors


def _most_alive(tensors: list[dict]) -> int:
    """Words of the tensors that are needed during one layer, at the most: no plan takes fewer."""
    layers = range(1 + max(tensor["last"] for tensor in tensors))
    return max(
        sum(tensor["words"] for tensor in tensors if tensor["first"] <= layer <= tensor["last"])
        for layer in layers
    )


def _tensor(name: str, base: int, words: int, *, first: int, last: int) -> dict:
    return {"name": name, "base": base, "words": words, "first": first, "last": last}


def _input_words(instructions: list[dict]) -> tuple[int, int]:
    """First word and number of words that the LOADs of pixels fill."""
    places = [
        instruction["place"] for instruction in instructions if kind_of(instruction) == "pixels"
    ]
    spans = [
        (place["base"], place["base"] + (place["plane_words"] << (2 * place["log2_stride"])))
        for place in places
    ]
    begin = min(begin for begin, _ in spans)
    return begin, max(end for _, end in spans) - begin


def _describe_pieces(
    instructions: list[dict], *, timings: Sequence[InstructionTiming], kind: LoadKind
) -> list[dict]:
    """What the LOADs of a kind bring, from the LOAD's begin to the end of the last EXECUTE."""
    timing_of = {timing.index: timing for timing in timings}
    pieces: list[dict] = []
    for index, instruction in enumerate(instructions):
        opcode = instruction["prefix"]["opcode"]
        if opcode == Opcode.LOAD and instruction["kind"] == kind:
            timing = timing_of[index]
            pieces.append(
                {
                    "instruction": index,
                    "layer": timing.layer,
                    "base": instruction["place"]["base"],
                    "count": instruction["count"],
                    "begin": timing.begin,
                    "end": timing.end,
                }
            )
        elif opcode == Opcode.EXECUTE and kind in (addresses := read_addresses(instruction)):
            address = addresses[kind]
            # A ring: a read belongs to the last LOAD before it that brings its address.
            for piece in reversed(pieces):
                if piece["base"] <= address < piece["base"] + piece["count"]:
                    piece["end"] = max(piece["end"], timing_of[index].end)
                    break
    return pieces
