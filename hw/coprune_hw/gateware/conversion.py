"""Conversion of components to Verilog."""

import re

from amaranth.back import verilog
from amaranth.build import Platform
from amaranth.lib import wiring

_ZEROED_MEMORY = re.compile(
    r"  initial begin\n(?:    (?P<memory>\w+)\[0\] = (?P<zero>\d+'h0+);\n)"
    r"(?:    (?P=memory)\[\d+\] = (?P=zero);\n)*"
    r"    (?P=memory)\[(?P<last>\d+)\] = (?P=zero);\n  end\n"
)
"""A memory that is set to 0 a line a word: tens of thousands of lines in all."""


def convert(component: wiring.Component, *, name: str, platform: Platform | None = None) -> str:
    """Convert a component to Verilog: the module `name` and the modules that it needs.

    Without a `platform` it is of no vendor; with one it may instantiate the cells of its family.
    """
    text = verilog.convert(
        component, platform=platform, name=name, emit_src=False, strip_internal_attrs=True
    )
    return _ZEROED_MEMORY.sub(_zero_in_a_loop, text)


def _zero_in_a_loop(match: re.Match) -> str:
    memory, zero, last = match["memory"], match["zero"], match["last"]
    return (
        f"  integer {memory}_word;\n  initial\n"
        f"    for ({memory}_word = 0; {memory}_word <= {last}; {memory}_word = {memory}_word + 1)\n"
        f"      {memory}[{memory}_word] = {zero};\n"
    )
