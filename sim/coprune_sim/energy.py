"""The energy of a program, estimated: counted events times published energies.

Events are counted from the instructions and slots of a program, so they are exact, and the same for
every input. The energies are those of a 45 nm chip, not measured and not those of an FPGA: compare
programs by them, dense with sparse, rather than read them as joules. What is not counted: clocks,
wires, registers and crossbar, control, leakage, and memories that are idle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import INSTRUCTION_BYTES, LoadKind, Opcode
from coprune_hw.contract.parameters import PARAMETER_BYTES
from coprune_hw.contract.program import MachineProgram
from coprune_hw.contract.slots import CONTROL_BITS, LANE_BITS, slot_bytes, unpack_slots
from coprune_hw.contract.work import chunks_of, transfer_beats, written_words
from coprune_sim.cycle_model.attribution import layer_of_instructions

ACCESS_BYTES = 8
"""Published memory energies are for 64 bits."""

EVENTS = {
    "multiplications": "by the array: all lanes and columns in every slot, zero weights included",
    "nonzero_multiplications": "those of them whose weight is not zero; free of charge",
    "accumulations": "of the array's products",
    "requantizations": "of output values",
    "slot_bytes_read": "slot words, once for every tile",
    "slot_bytes_written": "by LOAD",
    "parameter_bytes_read": "one record per lane for every EXECUTE",
    "parameter_bytes_written": "by LOAD",
    "activation_bytes_read": "a word of every bank for every block of every tile, and by STORE",
    "activation_bytes_written": "words of the drain, and by LOAD",
    "dram_bytes_read": "by LOAD, in bus beats",
    "dram_bytes_written": "by STORE, in bus beats",
    "instruction_bytes": "read from DRAM, HEADER to END",
}
"""What is counted."""


@dataclass(frozen=True)
class EnergyTable:
    """Energies of operations, in picojoules.

    Parameters
    ----------
    add_int32, multiply_int8, multiply_int32 : float
    sram_access : tuple of (int, float)
        Size of a memory in bytes, ascending, and the energy of an access of 64 bits to it.
    dram_access : float
        Of 64 bits.
    """

    add_int32: float
    multiply_int8: float
    multiply_int32: float
    sram_access: tuple[tuple[int, float], ...]
    dram_access: float

    def sram_byte(self, size_bytes: int) -> float:
        """Energy of a byte read from or written to a memory of some size, in picojoules.

        A power law goes through neighbouring sizes of `sram_access`, and on beyond the outer ones.
        """
        segments = list(pairwise(self.sram_access))
        (size, energy), (next_size, next_energy) = next(
            (segment for segment in segments if size_bytes <= segment[1][0]), segments[-1]
        )
        exponent = math.log(next_energy / energy) / math.log(next_size / size)
        return energy * (size_bytes / size) ** exponent / ACCESS_BYTES

    @property
    def dram_byte(self) -> float:
        """Energy of a byte read from or written to DRAM, in picojoules."""
        return self.dram_access / ACCESS_BYTES


SOURCE = (
    'M. Horowitz, "Computing\'s Energy Problem (and what we can do about it)", ISSCC 2014, '
    "pages 10-14"
)
"""Where the energies of operations come from."""

HOROWITZ_2014 = EnergyTable(
    add_int32=0.1,
    multiply_int8=0.2,
    multiply_int32=3.1,
    sram_access=((8 << 10, 10.0), (32 << 10, 20.0), (1 << 20, 100.0)),
    dram_access=1950.0,
)
"""Those of `SOURCE`: 45 nm, 0.9 V; for DRAM the middle of the published 1.3 to 2.6 nJ."""


@dataclass(frozen=True)
class LayerEnergy:
    """A layer's events and their energies.

    Parameters
    ----------
    name : str
    counts : dict
        Every one of `EVENTS`.
    picojoules : dict
        Of the same events, but those that are free of charge.
    """

    name: str
    counts: dict[str, int]
    picojoules: dict[str, float]

    @property
    def total_picojoules(self) -> float:
        """Energy of all events."""
        return sum(self.picojoules.values())


@dataclass(frozen=True)
class ProgramEnergy:
    """The energies of all layers of a program, for one image."""

    layers: tuple[LayerEnergy, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Events of all layers."""
        return {event: sum(layer.counts[event] for layer in self.layers) for event in EVENTS}

    @property
    def picojoules(self) -> dict[str, float]:
        """Energies of all layers, by event."""
        events = self.layers[0].picojoules
        return {event: sum(layer.picojoules[event] for layer in self.layers) for event in events}

    @property
    def total_picojoules(self) -> float:
        """Energy of the program."""
        return sum(layer.total_picojoules for layer in self.layers)


def estimate_energy(
    program: MachineProgram, *, table: EnergyTable = HOROWITZ_2014
) -> ProgramEnergy:
    """Estimate the energy of one run of a program, by layer.

    Parameters
    ----------
    program : MachineProgram
    table : EnergyTable

    Returns
    -------
    ProgramEnergy
        An instruction counts for the layer that `layer_of_instructions` finds; one that is for no
        layer, such as HEADER and END, for the layer of the instruction before it, or the first.
    """
    counts = [Counter() for _ in program.layers]
    current = 0
    events_of_instructions = _count_instructions(program)
    for layer, events in zip(layer_of_instructions(program), events_of_instructions, strict=True):
        current = current if layer is None else layer
        counts[current].update(events)
    prices = _price_events(program.config, table=table)
    return ProgramEnergy(
        tuple(
            LayerEnergy(
                name=record.name,
                counts={event: events[event] for event in EVENTS},
                picojoules={event: events[event] * price for event, price in prices.items()},
            )
            for record, events in zip(program.layers, counts, strict=True)
        )
    )


def _price_events(config: AcceleratorConfig, *, table: EnergyTable) -> dict[str, float]:
    """Picojoules of every event that is charged."""
    # The slot memory is one memory of control bits, and one for every group of lanes.
    parts_bits = (CONTROL_BITS, *[LANE_BITS * config.lane_group] * config.lane_groups)
    slot_word = sum(
        bits / 8 * table.sram_byte(config.slot_depth * bits // 8) for bits in parts_bits
    )
    slot_byte = slot_word / slot_bytes(config.lanes)
    parameter_byte = table.sram_byte(config.parameter_depth * PARAMETER_BYTES)
    activation_byte = table.sram_byte(config.activation_depth * config.lanes)
    return {
        "multiplications": table.multiply_int8,
        "accumulations": table.add_int32,
        # An 18 x 18 product, the bias and the zero point.
        "requantizations": table.multiply_int32 + 2 * table.add_int32,
        "slot_bytes_read": slot_byte,
        "slot_bytes_written": slot_byte,
        "parameter_bytes_read": parameter_byte,
        "parameter_bytes_written": parameter_byte,
        "activation_bytes_read": activation_byte,
        "activation_bytes_written": activation_byte,
        "dram_bytes_read": table.dram_byte,
        "dram_bytes_written": table.dram_byte,
        "instruction_bytes": table.dram_byte,
    }


def _count_instructions(program: MachineProgram) -> Iterator[dict[str, int]]:
    """Events of every instruction, in program order."""
    config = program.config
    slots = np.zeros((config.slot_depth, slot_bytes(config.lanes)), np.uint8)
    for instruction in program.instructions():
        events = {"instruction_bytes": INSTRUCTION_BYTES}
        opcode = instruction["prefix"]["opcode"]
        if opcode == Opcode.LOAD:
            events |= _count_load(instruction, config)
            if instruction["kind"] == LoadKind.SLOTS:
                _load_slots(instruction, program.image, slots=slots)
        elif opcode == Opcode.EXECUTE:
            events |= _count_execute(instruction, config, slots=slots)
        elif opcode == Opcode.STORE:
            window = instruction["window"]
            events["activation_bytes_read"] = window["rows"] * window["width"] * config.lanes
            events["dram_bytes_written"] = transfer_beats(instruction, config) * config.bus_bytes
        yield events


def _load_slots(load: dict, image: bytes, *, slots: np.ndarray) -> None:
    begin, size = load["place"]["base"], load["count"] * slots.shape[1]
    words = np.frombuffer(image, np.uint8)[load["source"] :][:size]
    slots[begin : begin + load["count"]] = words.reshape(-1, slots.shape[1])


def _count_load(load: dict, config: AcceleratorConfig) -> dict[str, int]:
    chunk_bytes, chunks = chunks_of(load, config)
    event, written_bytes = {
        LoadKind.SLOTS: ("slot_bytes_written", chunks * chunk_bytes),
        LoadKind.PARAMETERS: ("parameter_bytes_written", chunks * chunk_bytes),
        # Every lane has a copy of the tables.
        LoadKind.TABLES: ("parameter_bytes_written", chunks * config.lanes),
        LoadKind.PIXELS: ("activation_bytes_written", chunks * config.lanes),
    }[load["kind"]]
    return {
        "dram_bytes_read": transfer_beats(load, config) * config.bus_bytes,
        event: written_bytes,
    }


def _count_execute(
    execute: dict, config: AcceleratorConfig, *, slots: np.ndarray
) -> dict[str, int]:
    base, count = execute["slot_base"], execute["slot_count"]
    stream = unpack_slots(slots[base : base + count].tobytes(), lanes=config.lanes)
    tiles = execute["tile_rows"] * execute["tile_columns"]
    products = tiles * count * config.multipliers
    blocks = tiles * int(stream.new_block.sum())
    output_bytes = written_words(execute, config) * config.lanes
    return {
        "multiplications": products,
        "nonzero_multiplications": tiles * config.columns * int(np.count_nonzero(stream.weight)),
        "accumulations": products,
        "requantizations": output_bytes,
        "slot_bytes_read": tiles * count * slots.shape[1],
        "parameter_bytes_read": config.lanes * PARAMETER_BYTES
        + (output_bytes if execute["tabulated"] else 0),
        "activation_bytes_read": blocks * config.columns * config.lanes,
        "activation_bytes_written": output_bytes,
    }
