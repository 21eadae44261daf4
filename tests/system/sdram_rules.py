"""The rules that the SDRAM model checks."""

import re

from coprune_sim.cosim.sdram import SDRAM_MODEL

_PARAMETERS = SDRAM_MODEL.read_text().partition("// Rules")[2].partition("reg [")[0]

RULES = {name: int(bit) for name, bit in re.findall(r"localparam (\w+) = (\d+);", _PARAMETERS)}
"""Bits of `broken` by name."""


def broken_rules(broken: int) -> set[str]:
    """Names of the rules whose bits are set."""
    return {name for name, bit in RULES.items() if broken >> bit & 1}
