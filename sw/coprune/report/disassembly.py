"""Instructions in words, and who waits for whom."""

from __future__ import annotations

from collections import deque

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.work import UNITS, payload_bytes, token_partners


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
    """The kind of a LOAD, such as ``"slots"``; else the opcode's name."""
    opcode = Opcode(instruction["prefix"]["opcode"])
    if opcode == Opcode.LOAD:
        return LoadKind(instruction["kind"]).name.lower()
    return opcode.name.lower()


def find_senders(instructions: list[dict]) -> list[tuple[int, ...]]:
    """Find the instructions whose tokens every instruction takes.

    Tokens between two neighbours are taken in the order in which they are sent.

    Returns
    -------
    list of tuples of int
        For every instruction, positions in `instructions`; empty where it takes no token.
    """
    sent: dict[tuple[Opcode, Opcode], deque[int]] = {}
    units = [
        (index, instruction["prefix"])
        for index, instruction in enumerate(instructions)
        if instruction["prefix"]["opcode"] in UNITS
    ]
    for index, prefix in units:
        for receiver in token_partners(prefix, action="signal"):
            sent.setdefault((prefix["opcode"], receiver), deque()).append(index)
    senders: list[tuple[int, ...]] = [()] * len(instructions)
    for index, prefix in units:
        queues = [
            sent.get((sender, prefix["opcode"])) for sender in token_partners(prefix, action="wait")
        ]
        senders[index] = tuple(queue.popleft() for queue in queues if queue)
    return senders


def _describe_load(load: dict, *, config: AcceleratorConfig) -> str:
    size = f"{payload_bytes(load, config):,} bytes from {load['source']:#x}"
    base = load["place"]["base"]
    if load["kind"] == LoadKind.PIXELS:
        return f"{_rows(load['window'])} of input, {size}, to bank words {base} and on"
    noun, memory = {
        LoadKind.SLOTS: ("slots", "slot"),
        LoadKind.PARAMETERS: ("channels' parameters", "parameter"),
        LoadKind.TABLES: ("values of an activation function", "table"),
    }[load["kind"]]
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
    if execute["interleaved"]:
        text += f", every second pixel from ({execute['row_phase']}, {execute['column_phase']}) on"
    text += f", through table {execute['table']}" if execute["tabulated"] else ""
    return text + (", after a barrier" if execute["barrier"] else "")


def _describe_store(store: dict, *, config: AcceleratorConfig) -> str:
    size = payload_bytes(store, config)
    return (
        f"{_rows(store['window'])}, {size:,} bytes, from bank words {store['place']['base']} "
        f"and on to {store['destination']:#x}"
    )


def _rows(window: dict) -> str:
    begin, end = window["row_begin"], window["row_begin"] + window["rows"] - 1
    rows = f"row {begin}" if begin == end else f"rows {begin}..{end}"
    return f"{rows}, {window['width']} pixels wide"
