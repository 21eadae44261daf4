"""What C reads back as the same value, without a warning, as C99 and as C++."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

VALUES_PER_LINE = 24
LINE_WIDTH = 100


def float_literal(value: float) -> str:
    """The float32 nearest to a number."""
    return f"{np.float32(value)!s}f"


def integer_literal(value: int) -> str:
    """A signed integer of 32 bits: C has no literal of the lowest one."""
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)


def string_literal(text: str) -> str:
    """A string in UTF-8; what is not plain is escaped in octal, which ends after three digits."""
    plain = {ord(character) for character in map(chr, range(0x20, 0x7F))} - set(b'"\\?')
    escaped = (chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(escaped)}"'


def values_in_lines(values: Iterable[str], *, per_line: int = VALUES_PER_LINE) -> str:
    """The values of an initializer."""
    values = list(values)
    lines = (
        ",".join(values[begin : begin + per_line]) for begin in range(0, len(values), per_line)
    )
    return "\n".join(f"  {line}," for line in lines)


def commented(code: str, comment: str) -> str:
    """A line with a comment behind it, or above it where that makes it too long."""
    line = f"{code} /* {comment} */"
    if len(line) <= LINE_WIDTH:
        return line
    indentation = code[: len(code) - len(code.lstrip())]
    return f"{indentation}/* {comment} */\n{code}"
