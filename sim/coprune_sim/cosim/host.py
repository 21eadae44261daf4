"""What a host must know: where the program lies, and the words of the registers."""

from __future__ import annotations

from amaranth.lib import data

from coprune_hw.contract.layout import decode, encode
from coprune_hw.contract.registers import Control, Status

PROGRAM_ADDRESS = 0x0001_0000
"""Where the program image lies in the simulated memory; not 0, so that the base address counts."""


def control_word(name: str) -> int:
    """What to write to `Control` so that one of its fields acts."""
    layout = data.Layout.cast(Control)
    return encode(layout, {field: int(field == name) for field, _ in layout})


def decode_status(word: int) -> dict[str, int]:
    """Fields of a `Status` word."""
    return decode(data.Layout.cast(Status), word)
