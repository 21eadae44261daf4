"""Instructions in words, and who waits for whom."""

from __future__ import annotations

from collections import deque

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.parameters import PARAMETER_BYTES
from coprune_hw.contract.slots import slot_bytes

NEIGHBOURS = {
    Opcode.LOAD: (None, Opcode.EXECUTE),
    Opcode.EXECUTE: (Opcode.LOAD, Opcode.STORE),
    Opcode.STORE: (Opcode.EXECUTE, None),
}
"""The previous and the next unit of each, with which it exchanges tokens."""


def describe_instruction(instruction: dict, *, config: AcceleratorConfig) -> str:
    """Say in a few words what a LOAD, EXECUTE or STORE does, without its tokens."""
    opcode = Opcode(instruction["prefix"]["opcode"])
    match opcode:
        case Opcode.LOAD:
            return _describe_load(instruction, config=config)
        case Opcode.EXECUTE:
            return _describe_execute(instruction, config=config)
        case Opcode.STORE:
            return _describe_store(instruction, config=config)
    raise ValueError(f"opcode must be LOAD, EXECUTE or STORE, not {opcode.name}")


def kind_of(instruction: dict) -> str:
    """``"slots"``, ``"parameters"`` or ``"pixels"`` of a LOAD; else the opcode's name."""
    opcode = Opcode(instruction["prefix"]["opcode"])
    if opcode == Opcode.LOAD:
        return LoadKind(instruction["kind"]).name.lower()
    return opcode.name.lower()


def payload_bytes(instruction: dict, *, config: AcceleratorConfig) -> int:
    """Bytes that a LOAD or STORE moves, the padding to whole bus beats not counted; else 0."""
    window = instruction.get("window", {"rows": 0, "width": 0})
    pixels = window["rows"] * window["width"]
    match kind_of(instruction):
        case "slots":
            return instruction["count"] * slot_bytes(config.lanes)
        case "parameters":
            return instruction["count"] * PARAMETER_BYTES
        case "pixels":
            return pixels * instruction["pixel_bytes"]
        case "store":
            return pixels * config.lanes
    return 0


def issued_slots(instruction: dict) -> int:
    """Slots that an EXECUTE issues over all its tiles; else 0."""
    if instruction["prefix"]["opcode"] != Opcode.EXECUTE:
        return 0
    return instruction["tile_rows"] * instruction["tile_columns"] * instruction["slot_count"]


def find_senders(instructions: list[dict]) -> list[tuple[int, ...]]:
    """Find the instructions whose tokens every instruction takes.

    Tokens between two neighbours are taken in the order in which they are sent.

    Returns
    -------
    list of tuples of int
        For every instruction, positions in `instructions`; empty where it takes no token.
    """
    sent: dict[tuple[Opcode, Opcode], deque[int]] = {}
    senders: list[list[int]] = [[] for _ in instructions]
    signals = ("signal_previous", "signal_next")
    waits = ("wait_previous", "wait_next")
    for index, instruction in enumerate(instructions):
        opcode = instruction["prefix"]["opcode"]
        for neighbour, signal in zip(NEIGHBOURS.get(opcode, ()), signals, strict=False):
            if neighbour is not None and instruction["prefix"][signal]:
                sent.setdefault((opcode, neighbour), deque()).append(index)
    for index, instruction in enumerate(instructions):
        opcode = instruction["prefix"]["opcode"]
        for neighbour, wait in zip(NEIGHBOURS.get(opcode, ()), waits, strict=False):
            queue = sent.get((neighbour, opcode))
            if queue and instruction["prefix"][wait]:
                senders[index].append(queue.popleft())
    return [tuple(found) for found in senders]


def _describe_load(load: dict, *, config: AcceleratorConfig) -> str:
    size = f"{payload_bytes(load, config=config):,} bytes from {load['source']:#x}"
    base = load["place"]["base"]
    if load["kind"] == LoadKind.PIXELS:
        return f"{_rows(load['window'])} of input, {size}, to bank words {base} and on"
    noun = "slots" if load["kind"] == LoadKind.SLOTS else "channels' parameters"
    memory = "slot" if load["kind"] == LoadKind.SLOTS else "parameter"
    end = base + load["count"] - 1
    return f"{load['count']:,} {noun}, {size}, to {memory} memory {base}..{end}"


def _describe_execute(execute: dict, *, config: AcceleratorConfig) -> str:
    bank_columns = 1 << execute["log2_bank_columns"]
    bank_rows = config.columns // bank_columns
    slots = execute["slot_count"]
    end = execute["slot_base"] + slots - 1
    tiles = execute["tile_rows"] * execute["tile_columns"]
    text = (
        f"{tiles:,} tile{'' if tiles == 1 else 's'} of {bank_rows} x {bank_columns} pixels, "
        f"each {slots:,} slots ({execute['slot_base']}..{end}): {tiles * slots:,} slots, "
        f"to bank words {execute['output']['base']} and on"
    )
    text += f", from row {execute['row_begin']} on" if execute["row_begin"] else ""
    text += ", maximum" if execute["maximum"] else ""
    return text + (", after a barrier" if execute["barrier"] else "")


def _describe_store(store: dict, *, config: AcceleratorConfig) -> str:
    size = payload_bytes(store, config=config)
    return (
        f"{_rows(store['window'])}, {size:,} bytes, from bank words {store['place']['base']} "
        f"and on to {store['destination']:#x}"
    )


def _rows(window: dict) -> str:
    begin, end = window["row_begin"], window["row_begin"] + window["rows"] - 1
    rows = f"row {begin}" if begin == end else f"rows {begin}..{end}"
    return f"{rows}, {window['width']} pixels wide"
