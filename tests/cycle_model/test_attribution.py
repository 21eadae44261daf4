"""Layers of instructions, against a walk through the program with memories that know who wrote."""

from dataclasses import replace

import numpy as np
import pytest

import coprune
from coprune import zoo
from coprune.data import cifar10
from coprune.program import compile_graph
from coprune_hw.contract.instructions import (
    RAW_WORDS,
    TABLE_BYTES,
    LoadKind,
    Opcode,
    encode_instruction,
)
from coprune_hw.contract.program import MachineProgram
from coprune_sim.cycle_model.attribution import layer_of_instructions

from ..end_to_end.configurations import NARROW, SMALL
from ..graphs import GRAPHS


def walk_forward(program: MachineProgram) -> list[int | None]:
    """The layer of the first EXECUTE that finds a LOAD's content in its memory."""
    config, instructions = program.config, program.instructions()
    layers: list[int | None] = [None] * len(instructions)
    layer_of = {k: layer for layer, record in enumerate(program.layers) for k in record.executes}
    brought = {
        LoadKind.SLOTS: np.zeros(config.slot_depth, int),
        LoadKind.PARAMETERS: np.zeros(config.parameter_depth, int),
        LoadKind.TABLES: np.zeros(config.tables * TABLE_BYTES, int),
    }
    executes, pixels, wrote = 0, [], {}
    for index, instruction in enumerate(instructions):
        opcode = instruction["prefix"]["opcode"]
        if opcode == Opcode.LOAD and instruction["kind"] == LoadKind.PIXELS:
            pixels.append(index)
        elif opcode == Opcode.LOAD:
            memory = brought[instruction["kind"]]
            memory[instruction["place"]["base"] :][: instruction["count"]] = index
        elif opcode == Opcode.EXECUTE:
            layers[index] = layer_of[executes]
            executes += 1
            spans = [
                (LoadKind.SLOTS, instruction["slot_base"], instruction["slot_count"]),
                (LoadKind.PARAMETERS, instruction["parameter_base"], config.lanes),
            ]
            if instruction["tabulated"]:
                table = instruction["table"] * TABLE_BYTES
                spans.append((LoadKind.TABLES, table, TABLE_BYTES))
            read = [load for kind, base, count in spans for load in brought[kind][base:][:count]]
            for load in {*read, *pixels}:
                assert load, "an EXECUTE reads what no LOAD brought"
                if layers[load] is None:
                    layers[load] = layers[index]
            pixels.clear()
            place = instruction["output"]
            for word in range(RAW_WORDS if instruction["raw"] else 1):
                base = place["base"] + word * place["plane_words"]
                wrote[tuple({**place, "base": base}.items())] = layers[index]
        elif opcode == Opcode.STORE:
            layers[index] = wrote[tuple(instruction["place"].items())]
    return layers


def assert_attributed(program: MachineProgram) -> list[int | None]:
    layers = layer_of_instructions(program)
    assert layers == walk_forward(program)
    opcodes = [instruction["prefix"]["opcode"] for instruction in program.instructions()]
    for opcode, layer in zip(opcodes, layers, strict=True):
        assert (layer is None) == (opcode in (Opcode.HEADER, Opcode.END))
    # LOAD brings one layer after the other, and the last layer is the one that is stored.
    loads = [layer for opcode, layer in zip(opcodes, layers, strict=True) if opcode == Opcode.LOAD]
    assert loads == sorted(loads)
    assert set(loads) == set(range(len(program.layers)))
    stores = {
        layer for opcode, layer in zip(opcodes, layers, strict=True) if opcode == Opcode.STORE
    }
    assert stores == {len(program.layers) - 1}
    return layers


@pytest.mark.parametrize("config", [SMALL, NARROW], ids=["8x4", "16x2"])
@pytest.mark.parametrize("network", GRAPHS)
def test_every_instruction_of_a_small_network_has_its_layer(network, config):
    assert_attributed(compile_graph(GRAPHS[network](), config).machine)


@pytest.fixture(scope="module")
def resnet20() -> MachineProgram:
    images = cifar10.normalize(cifar10.load_sample().calibration.images[:32])
    accelerator = coprune.AcceleratorConfig.preset("16x16")
    return coprune.compile(zoo.build("resnet20"), accelerator, calibration=[images]).machine


def test_every_instruction_of_resnet20_has_its_layer(resnet20):
    layers = assert_attributed(resnet20)
    loads = [
        (layer, instruction)
        for layer, instruction in zip(layers, resnet20.instructions(), strict=True)
        if instruction.get("kind") == LoadKind.SLOTS
    ]
    for number, record in enumerate(resnet20.layers):
        tiles = sum(layer == number for layer, _ in loads)
        assert tiles == -(-record.channels // resnet20.config.lanes), record.name


def change(program: MachineProgram, instructions: list[dict]) -> MachineProgram:
    return replace(program, image=b"".join(map(encode_instruction, instructions)))


def test_load_that_is_overwritten_before_it_is_read_has_no_layer():
    program = compile_graph(GRAPHS["odd"](), SMALL).machine
    instructions = program.instructions()
    twice = next(
        index
        for index, instruction in enumerate(instructions)
        if instruction.get("kind") == LoadKind.SLOTS
    )
    layers = layer_of_instructions(program)
    doubled = change(program, [*instructions[: twice + 1], *instructions[twice:]])
    assert layer_of_instructions(doubled) == [*layers[:twice], None, *layers[twice:]]


def test_load_that_two_layers_read_is_the_first_one_s():
    program = compile_graph(GRAPHS["odd"](), SMALL).machine
    instructions = program.instructions()
    executes = [
        index
        for index, instruction in enumerate(instructions)
        if instruction["prefix"]["opcode"] == Opcode.EXECUTE
    ]
    layers = layer_of_instructions(program)
    last_of_first = max(index for index in executes if layers[index] == 0)
    first_of_next = min(index for index in executes if layers[index] == 1)
    used = instructions[last_of_first]["slot_base"]
    instructions[first_of_next]["slot_base"] = used
    changed = layer_of_instructions(change(program, instructions))
    load = max(
        index
        for index, instruction in enumerate(instructions[:last_of_first])
        if instruction.get("kind") == LoadKind.SLOTS and instruction["place"]["base"] == used
    )
    assert changed[load] == 0


def test_store_is_for_the_last_layer_that_wrote_its_place():
    program = compile_graph(GRAPHS["odd"](), SMALL).machine
    instructions = program.instructions()
    layers = layer_of_instructions(program)
    opcodes = [instruction["prefix"]["opcode"] for instruction in instructions]
    store = opcodes.index(Opcode.STORE)
    instructions[opcodes.index(Opcode.EXECUTE)]["output"] = instructions[store]["place"]
    assert layer_of_instructions(change(program, instructions)) == layers
