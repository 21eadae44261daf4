"""The reference pages of the documentation, generated from the layouts that the gateware uses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from amaranth.hdl import Shape
from amaranth.lib import data, enum

from . import slots, system
from .config import CONTRACT_VERSION
from .instructions import (
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    LAYOUTS,
    LoadKind,
    Opcode,
    Place,
    Prefix,
    Window,
)
from .parameters import PARAMETER_BYTES, ChannelParameters
from .registers import COUNTERS, ERROR_MEANING, REGISTERS, State, address_of
from .slots import LANE_BITS, LaneField, SlotControl, slot_bits, slot_bytes
from .system import DESCRIPTION_ADDRESS, SystemDescription

NOTICE = "<!-- Generated from the contract by scripts/generate-docs; do not edit. -->"


def write_pages(folder: Path | str) -> None:
    """Write every page of `PAGES` into `folder`."""
    for name, render in PAGES.items():
        (Path(folder) / name).write_text(render(), encoding="utf-8")


def instructions_page() -> str:
    """The instruction set: instructions, slot word, parameter record."""
    parts = [
        NOTICE,
        "# Instructions",
        f"Contract version {CONTRACT_VERSION}. A program image starts with instructions of "
        f"{INSTRUCTION_BITS} bits ({INSTRUCTION_BYTES} bytes, little-endian), HEADER to END. "
        "Bits that a layout does not name are 0.",
        _enumeration("Opcodes", Opcode),
        *_structure("Prefix", Prefix, level=2),
        "A LOAD has no previous neighbour and a STORE no next one.",
    ]
    for opcode, layout in LAYOUTS.items():
        parts += _structure(opcode.name, layout, level=2)
        if opcode == Opcode.LOAD:
            parts.append(_enumeration("Kinds of LOAD", LoadKind, level=3))
    parts += _structure("Place", Place, level=2)
    parts += _structure("Window", Window, level=2)
    parts += ["## Slot word", _prose(slots)]
    parts.append(
        _table(
            ("lanes", "bits", "bytes in DRAM", "lane fields", "control"),
            [
                (
                    lanes,
                    slot_bits(lanes),
                    slot_bytes(lanes),
                    _bit_range(0, LANE_BITS * lanes),
                    _bit_range(LANE_BITS * lanes, slot_bits(lanes) - LANE_BITS * lanes),
                )
                for lanes in (8, 16)
            ],
        )
    )
    parts += _structure("Lane field", LaneField, level=3)
    parts += _structure("Slot control", SlotControl, level=3)
    parts += _structure("Parameter record", ChannelParameters, level=2)
    parts.append(f"A record has {PARAMETER_BYTES} bytes in DRAM.")
    return _page(parts)


def registers_page() -> str:
    """The register map: addresses, fields, counters, errors."""
    registers = [(name, field.shape) for name, field in REGISTERS]
    plain = [(name, shape) for name, shape in registers if _counter_of(name) is None]
    parts = [
        NOTICE,
        "# Registers",
        f"Contract version {CONTRACT_VERSION}. Every register has 32 bits. Addresses are bytes "
        "from the start of the AXI4-Lite slave's region; R is readable, W writable.",
        _table(
            ("address", "register", "access", "meaning"),
            [
                (f"`0x{address_of(name):02x}`", f"`{name}`", *describe_register(name, shape))
                for name, shape in registers
            ],
        ),
        "## Fields",
    ]
    for name, shape in plain:
        if [field for field, _ in data.Layout.cast(shape)] != ["value"]:
            parts += _structure(f"`{name}`", shape, level=3)
    parts += [
        _enumeration("States", State),
        "## Errors",
        "`error` in `status` says why the machine stopped.",
        _table(
            ("value", "name", "meaning"),
            [(int(code), f"`{code.name}`", text) for code, text in ERROR_MEANING.items()],
        ),
        "## Description of a system",
        _prose(system),
        _prose(SystemDescription),
        _table(
            ("address", "field"),
            [
                (f"`{DESCRIPTION_ADDRESS + field.offset // 8:#05x}`", f"`{name}`")
                for name, field in data.Layout.cast(SystemDescription)
            ],
        ),
    ]
    return _page(parts)


def describe_register(name: str, shape: type[data.Struct]) -> tuple[str, str]:
    """Access (``"R"``, ``"W"`` or ``"R/W"``) and meaning of a register."""
    return _access(shape), _meaning(name, shape)


PAGES = {"instructions.md": instructions_page, "registers.md": registers_page}
"""File name of each page, and the function that renders it."""


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _table(header: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _prose(documented: object) -> str:
    """A docstring as Markdown: literals of reStructuredText have two backquotes, ours one."""
    return re.sub(r"``(.+?)``", r"`\1`", inspect.getdoc(documented), flags=re.DOTALL)


def _structure(title: str, layout: type[data.Struct], *, level: int) -> list[str]:
    rows = [
        (_bit_range(offset, shape.width), f"`{name}`", kind)
        for name, offset, shape, kind in _fields(data.Layout.cast(layout))
    ]
    return [
        f"{'#' * level} {title}",
        _prose(layout),
        _table(("bits", "field", "type"), rows),
    ]


def _fields(
    layout: data.Layout, *, path: str = "", offset: int = 0
) -> Iterator[tuple[str, int, Shape, str]]:
    """Name, offset, shape and kind of every field; only `Prefix` stays whole."""
    for name, field in layout:
        nested = isinstance(field.shape, type) and issubclass(field.shape, data.Struct)
        begin, full_name = offset + field.offset, f"{path}{name}"
        if nested and field.shape is not Prefix:
            yield from _fields(data.Layout.cast(field.shape), path=f"{full_name}.", offset=begin)
            continue
        shape = Shape.cast(field.shape)
        if nested or isinstance(field.shape, enum.EnumType):
            kind = f"`{field.shape.__name__}`"
        else:
            kind = f"{'signed' if shape.signed else 'unsigned'} {shape.width}"
        yield full_name, begin, shape, kind


def _bit_range(offset: int, width: int) -> str:
    return str(offset) if width == 1 else f"{offset + width - 1}:{offset}"


def _enumeration(title: str, values: type[enum.Enum], *, level: int = 2) -> str:
    rows = [(int(member), f"`{member.name}`") for member in values]
    return f"{'#' * level} {title}\n\n{_prose(values)}\n\n{_table(('value', 'name'), rows)}"


def _counter_of(register: str) -> str | None:
    name = register.removeprefix("mark_")
    return name if name in COUNTERS else None


def _access(register: type[data.Struct]) -> str:
    """As the register's docstring says it; what says nothing can be read and written."""
    text = inspect.getdoc(register)
    if "Read-only." in text:
        return "R"
    return "W" if "reads as 0" in text else "R/W"


def _meaning(name: str, register: type[data.Struct]) -> str:
    counter = _counter_of(name)
    if counter is None:
        return _prose(register).split("\n\n")[0].replace(" Read-only.", "").replace("\n", " ")
    at_mark = "" if name == counter else ", at the selected mark"
    return COUNTERS[counter] + at_mark
