"""Waveforms: which signals Verilator traces, and an FST file of what it writes as VCD."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coprune_hw.gateware.accelerator import TOP_NAME

from .fst import FstWriter

TRACE_FILE = "trace.vcd"
"""What `bench.v` writes."""

UNIT_DEPTH = 3
"""Units are the machine, its modules and their modules."""

CYCLE_NS = 10
"""A cycle in a waveform: cycle c begins at c times that."""

_MODULE = re.compile(r"^module \\?(\S+?) ?\((.*?)\);$(.*?)^endmodule", re.DOTALL | re.MULTILINE)
_DECLARATION = re.compile(
    r"^  (?:input|output|wire|reg) (?:signed )?(?:\[\d+:0\] )?\\?(\S+?) ?(?: = .*)?;$", re.MULTILINE
)
_INSTANCE = re.compile(rf"^  \\{TOP_NAME}\.\S+ .*\($", re.MULTILINE)
_NUMBER = re.compile(r"\$\d+")
"""What makes a name unique in Verilog that the gateware gives to a signal and a module."""


@dataclass(frozen=True)
class Trace:
    """What a waveform is of.

    Parameters
    ----------
    unit : str, optional
        All signals of one of `list_units`, and of what it consists of; by default the accelerator's
        pins and the ports of all units.
    begin, end : int
        The cycles ``begin .. end - 1`` since the start; by default all.
    """

    unit: str | None = None
    begin: int = 0
    end: int = (1 << 32) - 1

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end < 1 << 32:
            raise ValueError(
                f"a window of cycles must begin at 0 or later and before its end, "
                f"not {self.begin}:{self.end}"
            )

    def plusargs(self) -> list[str]:
        """What to tell `bench.v`."""
        return [f"+trace_begin={self.begin}", f"+trace_end={self.end}"]


def list_units(verilog: str) -> dict[str, str]:
    """Names of the units in an accelerator's Verilog, and of their modules."""
    modules = (match[1] for match in _MODULE.finditer(verilog))
    return {
        _NUMBER.sub("", module.rpartition(".")[2]): module
        for module in modules
        if 1 <= module.count(".") <= UNIT_DEPTH
    }


def mark_traced(verilog: str, *, unit: str | None) -> str:
    """Tell Verilator which signals of an accelerator to trace.

    Parameters
    ----------
    verilog : str
        As `coprune_hw.gateware.accelerator.to_verilog` writes it.
    unit : str, optional
        As in `Trace`.

    Raises
    ------
    ValueError
        There is no such unit.
    """
    units = list_units(verilog)
    if unit is not None and unit not in units:
        raise ValueError(
            f"the unit to trace must be one of {', '.join(sorted(units))}, not {unit!r}"
        )

    def mark_module(match: re.Match) -> str:
        module = match[1]
        ports = {port.strip().removeprefix("\\") for port in match[2].split(",")}

        def is_traced(name: str) -> bool:
            if unit is not None:
                is_within = f"{module}.".startswith(f"{units[unit]}.")
                return is_within and not name.startswith("$")
            # A field of a structure is named after it: port.field.
            return module.count(".") <= UNIT_DEPTH and not ports.isdisjoint(
                (name, name.partition(".")[0])
            )

        declared = _DECLARATION.sub(
            lambda found: _traced(found) if is_traced(found[1]) else found[0], match[0]
        )
        # Where an instance is not traced, nothing in it is.
        return _INSTANCE.sub(_traced, declared)

    return "/*verilator tracing_off*/\n" + _MODULE.sub(mark_module, verilog)


def _traced(match: re.Match) -> str:
    return f"/*verilator tracing_on*/{match[0]}/*verilator tracing_off*/"


def vcd_to_fst(path: Path, *, begin: int) -> bytes:
    """Convert a VCD file of Verilator, whose first time is the beginning of cycle `begin`.

    Returns
    -------
    bytes
        The FST file. A cycle takes `CYCLE_NS`, and cycle 0 begins at 0.
    """
    with open(path, encoding="ascii") as lines:
        signals, writer = _read_declarations(lines)
        first_ps = None
        for line in lines:
            kind = line[0]
            if kind in "01":
                writer.change(signals[line[1:-1]], int(kind))
            elif kind == "b":
                value, _, code = line[1:-1].partition(" ")
                writer.change(signals[code], int(value, 2))
            elif kind == "#":
                ps = int(line[1:])
                if first_ps is None:
                    first_ps = ps
                writer.set_time(begin * CYCLE_NS + (ps - first_ps) // 1000)
    return writer.finish()


def _read_declarations(lines: Iterator[str]) -> tuple[dict[str, int], FstWriter]:
    """Declare what the head of a VCD file does; returns the numbers of signals by their codes."""
    writer = FstWriter(log10_seconds=-9)
    signals: dict[str, int] = {}
    for line in lines:
        match line.split():
            case ["$scope", _, name, "$end"]:
                writer.enter_scope(_NUMBER.sub("", name))
            case ["$upscope", "$end"]:
                writer.leave_scope()
            case ["$var", _, bits, code, *name, "$end"]:
                alias = signals.get(code)
                signals[code] = writer.add_signal(" ".join(name), bits=int(bits), alias=alias)
            case ["$enddefinitions", "$end"]:
                break
    return signals, writer
