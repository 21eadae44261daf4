"""Which layer an instruction is for."""

from __future__ import annotations

from collections.abc import Sequence

from coprune_hw.contract.instructions import RAW_WORDS, LoadKind, Opcode
from coprune_hw.contract.program import LayerRecord, MachineProgram
from coprune_hw.contract.work import read_addresses


def layer_of_instructions(program: MachineProgram) -> list[int | None]:
    """Find the layer that every instruction of a program is for; see `attribute`."""
    return attribute(program.instructions(), program.layers)


def attribute(instructions: list[dict], records: Sequence[LayerRecord]) -> list[int | None]:
    """Find the layer that every instruction is for.

    An EXECUTE is for the layer that lists it; a LOAD for the layer of the first EXECUTE that reads
    what it brings, which may come long after it; a STORE for the layer that wrote what it stores.

    Returns
    -------
    list of int or None
        For each instruction, an index into `records`. None for HEADER, END and an instruction that
        no layer needs.
    """
    layers = _layers_of_executes(instructions, records)
    _attribute_loads(instructions, layers)
    _attribute_stores(instructions, layers)
    return layers


def _layers_of_executes(
    instructions: list[dict], records: Sequence[LayerRecord]
) -> list[int | None]:
    """The layer of every EXECUTE; None elsewhere."""
    layer_of = {
        execute: layer for layer, record in enumerate(records) for execute in record.executes
    }
    layers: list[int | None] = [None] * len(instructions)
    executes = 0
    for index, instruction in enumerate(instructions):
        if instruction["prefix"]["opcode"] == Opcode.EXECUTE:
            layers[index] = layer_of.get(executes)
            executes += 1
    return layers


def _attribute_loads(instructions: list[dict], layers: list[int | None]) -> None:
    # From the end on, with the reads that no LOAD has been found for. Memories are rings: a read
    # belongs to the last LOAD before it that brings its address.
    reads: dict[LoadKind, list[tuple[int, int | None]]] = {
        LoadKind(kind): [] for kind in LoadKind if kind != LoadKind.PIXELS
    }
    next_layer = None
    for index in reversed(range(len(instructions))):
        instruction = instructions[index]
        opcode = instruction["prefix"]["opcode"]
        if opcode == Opcode.EXECUTE:
            next_layer = layers[index]
            for kind, address in read_addresses(instruction).items():
                reads[kind].append((address, next_layer))
        elif opcode == Opcode.LOAD and instruction["kind"] == LoadKind.PIXELS:
            layers[index] = next_layer
        elif opcode == Opcode.LOAD:
            begin = instruction["place"]["base"]
            brought = range(begin, begin + instruction["count"])
            waiting = reads[instruction["kind"]]
            found = [layer for address, layer in waiting if address in brought]
            if found:
                layers[index] = found[-1]
            waiting[:] = [read for read in waiting if read[0] not in brought]


def _attribute_stores(instructions: list[dict], layers: list[int | None]) -> None:
    writers: list[tuple[dict, int | None]] = []
    for index, instruction in enumerate(instructions):
        opcode = instruction["prefix"]["opcode"]
        if opcode == Opcode.EXECUTE:
            place = instruction["output"]
            for word in range(RAW_WORDS if instruction["raw"] else 1):
                base = place["base"] + word * place["plane_words"]
                writers.append(({**place, "base": base}, layers[index]))
        elif opcode == Opcode.STORE:
            place = instruction["place"]
            layers[index] = next(
                (layer for written, layer in reversed(writers) if written == place), None
            )
