"""Which weights of a layer are zero, and how many slots its blocks take."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.program import MachineProgram
from coprune_hw.contract.slots import slot_bytes, unpack_slots
from coprune_sim.graph import IntegerGraph, Layer, Source

MOST_WEIGHTS = 4_000_000
"""Of a network whose page has a bit for every weight; in larger ones, a byte for every block."""

DIAGONAL = 0x80
"""Added to the number of slots of a block whose slots are diagonal."""


def describe_patterns(
    graph: IntegerGraph, machine: MachineProgram, *, layer_of: Sequence[int | None]
) -> list[dict]:
    """The zero pattern of every layer.

    Parameters
    ----------
    graph : IntegerGraph
    machine : MachineProgram
        Its program.
    layer_of : sequence of int or None
        The layer that each instruction is for.

    Returns
    -------
    list of dict
        For each layer ``sources`` and ``slots``. A source has ``bits``: a bit for every weight
        [outputs, inputs / groups, rows, columns], most significant bit first, set where it is not
        zero; or, in a large network, ``densities``: a byte for every block of `lanes` outputs and
        inputs [tiles, blocks, rows, columns], 255 where all weights are not zero. ``slots`` has a
        byte for every channel tile and block, in the stream's order: the slots it takes, 0 where it
        is not in the stream, `DIAGONAL` added where they are diagonal; None where the tiles' slots
        are not one LOAD each, as in layers that write in phases, or their blocks are not those of
        the weights, as where phases of the input are channels. All are base64.
    """
    lanes = machine.config.lanes
    weights = sum(source.weight.size for layer in graph.layers for source in layer.sources)
    runs = _read_runs(machine, layer_of=layer_of)
    return [
        {
            "sources": [
                _describe_source(source, lanes=lanes, whole=weights <= MOST_WEIGHTS)
                for source in layer.sources
            ],
            "slots": _describe_slots(layer, runs[number], lanes=lanes),
        }
        for number, layer in enumerate(graph.layers)
    ]


def _describe_source(source: Source, *, lanes: int, whole: bool) -> dict:
    nonzero = source.weight != 0
    described = {
        "tensor": source.tensor,
        "shape": list(nonzero.shape),
        "groups": source.groups,
        "stride": source.stride,
        "nonzero": int(nonzero.sum()),
        "selects": source.selects,
    }
    if whole:
        return {**described, "bits": _encode(np.packbits(nonzero))}
    return {**described, "densities": _encode(_block_densities(nonzero, lanes=lanes))}


def _block_densities(nonzero: np.ndarray, *, lanes: int) -> np.ndarray:
    outputs, inputs, *taps = nonzero.shape
    padded = np.pad(nonzero, ((0, -outputs % lanes), (0, -inputs % lanes), (0, 0), (0, 0)))
    blocks = padded.reshape(-(-outputs // lanes), lanes, -(-inputs // lanes), lanes, *taps)
    counts = blocks.sum(axis=(1, 3))
    heights = np.minimum(lanes, outputs - lanes * np.arange(counts.shape[0]))
    widths = np.minimum(lanes, inputs - lanes * np.arange(counts.shape[1]))
    sizes = (heights[:, None] * widths)[:, :, None, None]
    return np.round(255 * counts / sizes).astype(np.uint8)


def _read_runs(
    machine: MachineProgram, *, layer_of: Sequence[int | None]
) -> list[list[np.ndarray]]:
    """For each layer and each of its LOADs of slots, the blocks' slots as in `slots` above."""
    lanes = machine.config.lanes
    size = slot_bytes(lanes)
    runs: list[list[np.ndarray]] = [[] for _ in machine.layers]
    for instruction, layer in zip(machine.instructions(), layer_of, strict=True):
        opcode = instruction["prefix"]["opcode"]
        if opcode != Opcode.LOAD or instruction["kind"] != LoadKind.SLOTS or layer is None:
            continue
        begin = instruction["source"]
        stream = unpack_slots(
            machine.image[begin : begin + instruction["count"] * size], lanes=lanes
        )
        begins = np.flatnonzero(stream.new_block)
        lengths = np.diff(begins, append=len(stream))
        runs[layer].append((lengths + DIAGONAL * stream.diagonal[begins]).astype(np.uint8))
    return runs


def _describe_slots(layer: Layer, runs: list[np.ndarray], *, lanes: int) -> str | None:
    for keeps_zeros in (False, True):
        present = _present_blocks(layer, lanes=lanes, keeps_zeros=keeps_zeros)
        if [len(run) for run in runs] == present.sum(axis=1).tolist():
            slots = np.zeros(present.shape, np.uint8)
            slots[present] = np.concatenate(runs)
            return _encode(slots)
    return None


def _present_blocks(layer: Layer, *, lanes: int, keeps_zeros: bool) -> np.ndarray:
    """Which blocks are in the stream of each channel tile: bool array [tiles, blocks]."""
    tiles = -(-layer.output.channels // lanes)
    parts = []
    for source in layer.sources:
        listed = source.weight != 0
        if keeps_zeros and not source.selects:
            listed = np.ones_like(listed)
        outputs, inputs, *taps = listed.shape
        groups = -(-inputs * source.groups // lanes)
        output, group_input, row, column = np.nonzero(listed)
        channel = group_input + output // (outputs // source.groups) * inputs
        present = np.zeros((tiles, *taps, groups), bool)
        present[output // lanes, row, column, channel // lanes] = True
        parts.append(present.reshape(tiles, -1))
    present = np.concatenate(parts, axis=1)
    # A tile without any weight has one slot of zeros.
    present[~present.any(axis=1), 0] = True
    return present


def _encode(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
