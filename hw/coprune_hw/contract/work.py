"""How much an instruction does: what it moves and writes, and whom it waits for."""

from __future__ import annotations

from .config import AcceleratorConfig
from .instructions import RAW_WORDS, TABLE_BYTES, LoadKind, Opcode
from .parameters import PARAMETER_BYTES
from .slots import slot_bytes

UNITS = (Opcode.LOAD, Opcode.EXECUTE, Opcode.STORE)
"""The units in the order in which they are neighbours."""


def token_partners(prefix: dict, *, action: str) -> list[Opcode]:
    """The units that an instruction takes tokens from, or sends them to.

    Tokens for a neighbour that a unit does not have are neither waited for nor sent.

    Parameters
    ----------
    prefix : dict
        Of the instruction.
    action : {"wait", "signal"}
    """
    position = UNITS.index(prefix["opcode"])
    partners = []
    if prefix[f"{action}_previous"] and position > 0:
        partners.append(UNITS[position - 1])
    if prefix[f"{action}_next"] and position < len(UNITS) - 1:
        partners.append(UNITS[position + 1])
    return partners


def chunks_of(instruction: dict, config: AcceleratorConfig) -> tuple[int, int]:
    """Size in bytes and number of what a LOAD or STORE moves.

    Slot words, parameter records, bytes of tables, pixels as they lie in DRAM, or whole words of a
    STORE.
    """
    if instruction["prefix"]["opcode"] == Opcode.LOAD:
        if instruction["kind"] == LoadKind.SLOTS:
            return slot_bytes(config.lanes), instruction["count"]
        if instruction["kind"] == LoadKind.PARAMETERS:
            return PARAMETER_BYTES, instruction["count"]
        if instruction["kind"] == LoadKind.TABLES:
            return 1, instruction["count"]
        size = instruction["pixel_bytes"]
    else:
        size = config.lanes
    return size, instruction["window"]["rows"] * instruction["window"]["width"]


def payload_bytes(instruction: dict, config: AcceleratorConfig) -> int:
    """Bytes that a LOAD or STORE moves."""
    size, count = chunks_of(instruction, config)
    return size * count


def transfer_beats(instruction: dict, config: AcceleratorConfig) -> int:
    """Beats that a LOAD or STORE takes on the bus: whole ones."""
    return -(-payload_bytes(instruction, config) // config.bus_bytes)


def issued_slots(execute: dict) -> int:
    """Slots that an EXECUTE issues over all its tiles."""
    return execute["tile_rows"] * execute["tile_columns"] * execute["slot_count"]


def drain_cycles(execute: dict, config: AcceleratorConfig) -> int:
    """Cycles in which a tile leaves the array: a word each."""
    return config.columns * (RAW_WORDS if execute["raw"] else 1)


def read_addresses(execute: dict) -> dict[LoadKind, int]:
    """Where an EXECUTE begins to read what LOADs of each kind but pixels brought."""
    addresses = {
        LoadKind.SLOTS: execute["slot_base"],
        LoadKind.PARAMETERS: execute["parameter_base"],
    }
    if execute["tabulated"]:
        addresses[LoadKind.TABLES] = execute["table"] * TABLE_BYTES
    return addresses


def output_pixel(execute: dict, y, x):
    """Row and column of the output to which the pixel computed at (y, x) is written."""
    if not execute["interleaved"]:
        return y, x
    return 2 * y + execute["row_phase"], 2 * x + execute["column_phase"]


def written_words(execute: dict, config: AcceleratorConfig) -> int:
    """Words that the drain writes for an EXECUTE: of pixels of its tiles inside the output."""
    bank_columns = 1 << execute["log2_bank_columns"]
    bank_rows = config.columns >> execute["log2_bank_columns"]
    height, width = execute["output_height"], execute["output_width"]
    if execute["interleaved"]:
        height = (height - execute["row_phase"] + 1) // 2
        width = (width - execute["column_phase"] + 1) // 2
    row_end = min(execute["row_begin"] + execute["tile_rows"] * bank_rows, height)
    column_end = min(execute["tile_columns"] * bank_columns, width)
    pixels = max(row_end - execute["row_begin"], 0) * column_end
    return pixels * (RAW_WORDS if execute["raw"] else 1)
