"""coprune.h and coprune.c: the driver, from the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amaranth.hdl import Shape
from amaranth.lib import data

from coprune import atomic_file
from coprune.runtime.c_driver.literals import commented, string_literal
from coprune.runtime.c_driver.source import fill
from coprune.runtime.device import PAGE_BYTES
from coprune_hw.contract import CONTRACT_VERSION, registers
from coprune_hw.contract.instructions import RAW_WORDS
from coprune_hw.contract.reference_pages import describe_register
from coprune_hw.contract.registers import ErrorCode, Geometry, State, Status, address_of

FIRST_OWN_RESULT = 1 << Shape.cast(ErrorCode).width
"""Results below are the machine's error codes."""

OWN_RESULTS = {
    "STOPPED_UNKNOWN": "the machine stopped with an error that this driver does not know",
    "NO_ACCELERATOR": "no accelerator answers: the identity register is another",
    "OTHER_VERSION": "the accelerator is of another contract version than this driver",
    "OTHER_GEOMETRY": "the program was compiled for another accelerator than this one",
    "MEMORY_TOO_SMALL": "the program takes more bytes than the memory has",
    "MEMORY_UNALIGNED": f"the memory does not begin at a multiple of {PAGE_BYTES} bytes",
    "NO_PROGRAM": "no program is loaded",
    "NO_LAYER": "the program has no layer of that number",
    "NOT_FINITE": "an input value is NaN or infinite",
    "TIMEOUT": "the machine did not end in time",
    "BUS_FAILED": "an access to registers or memory failed",
}
"""What the driver itself says, beside the machine's errors, by the name without ``COPRUNE_``."""


def write_driver(folder: str | Path) -> list[Path]:
    """Write coprune.h and coprune.c into a folder, which is made where it is missing.

    Raises
    ------
    OSError
        The folder cannot be made or written to.
    """
    folder = Path(folder)
    atomic_file.make_folder(folder)
    values = _contract()
    paths = [folder / name for name in ("coprune.h", "coprune.c")]
    for path in paths:
        atomic_file.write(path, fill(path.name, values))
    return paths


def _contract() -> dict[str, object]:
    """What the templates take from the contract."""
    return {
        "CONTRACT_VERSION": CONTRACT_VERSION,
        "IDENTITY": f"{registers.IDENTITY:#010x}",
        "PAGE_BYTES": PAGE_BYTES,
        "RAW_WORDS": RAW_WORDS,
        "REGISTERS": "\n".join(_addresses()),
        "FIELDS": "\n".join(_field_macros()),
        "STATES": "\n".join(f"  COPRUNE_STATE_{state.name} = {state:d}," for state in State),
        "RESULTS": "\n".join(
            commented(f"  COPRUNE_{name} = {number},", meaning)
            for name, number, meaning in _results()
        ),
        "MEANINGS": "\n".join(
            f"  case COPRUNE_{name}:\n    return {string_literal(meaning)};"
            for name, _, meaning in _results()
        ),
        "STOPPED_CASES": "\n".join(
            f"  case {code:d}:\n    return COPRUNE_{_stopped(code)};" for code in _stopping()
        ),
        "STATUS_MEMBERS": _members(Status),
        "READ_STATUS": _assignments("status", Status),
        "GEOMETRY_MEMBERS": _members(Geometry),
        "READ_GEOMETRY": _assignments("geometry", Geometry),
        "COUNTER_MEMBERS": "\n".join(
            commented(f"  uint32_t {name};", meaning)
            for name, meaning in registers.COUNTERS.items()
        ),
        "READ_COUNTERS": _counter_reads(prefix=""),
        "READ_MARK_COUNTERS": _counter_reads(prefix="mark_"),
    }


def _addresses() -> Iterator[str]:
    for name, field in registers.REGISTERS:
        _, meaning = describe_register(name, field.shape)
        yield commented(f"#define {_register(name)} 0x{address_of(name):02x}u", meaning)


def _register(name: str) -> str:
    return f"COPRUNE_REGISTER_{name.upper()}"


def _field_macros() -> Iterator[str]:
    for register, layout in registers.REGISTERS:
        fields = dict(_fields(layout.shape))
        if list(fields) == ["value"]:
            continue
        for name, field in fields.items():
            macro = f"COPRUNE_{register.upper()}_{name.upper()}"
            mask = ((1 << field.width) - 1) << field.offset
            yield f"#define {macro}_MASK 0x{mask:08x}u"
            yield f"#define {macro}_SHIFT {field.offset}u"


def _fields(register: type[data.Struct]) -> Iterator[tuple[str, data.Field]]:
    """The fields that mean something."""
    for name, field in data.Layout.cast(register):
        if not name.startswith("reserved"):
            yield name, field


def _members(register: type[data.Struct]) -> str:
    return "\n".join(f"  uint32_t {name};" for name, _ in _fields(register))


def _assignments(register: str, layout: type[data.Struct]) -> str:
    """Statements that take the fields of a register, `word`, into a structure of its name."""
    return "\n".join(
        f"  {register}->{name} = FIELD(word, {register.upper()}_{name.upper()});"
        for name, _ in _fields(layout)
    )


def _counter_reads(*, prefix: str) -> str:
    return "\n".join(
        f"  counters->{name} = read_register(device, {_register(prefix + name)});"
        for name in registers.COUNTERS
    )


def _results() -> Iterator[tuple[str, int, str]]:
    """Name without ``COPRUNE_``, number and meaning of all that functions return."""
    yield "OK", int(ErrorCode.NONE), registers.ERROR_MEANING[ErrorCode.NONE]
    for code in _stopping():
        yield _stopped(code), int(code), f"the machine stopped: {registers.ERROR_MEANING[code]}"
    for number, (name, meaning) in enumerate(OWN_RESULTS.items(), start=FIRST_OWN_RESULT):
        yield name, number, meaning


def _stopping() -> list[ErrorCode]:
    return [code for code in ErrorCode if code != ErrorCode.NONE]


def _stopped(code: ErrorCode) -> str:
    return f"STOPPED_{code.name}"
