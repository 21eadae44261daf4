"""What instructions of tests have in common."""

PLAIN = {
    "maximum": 0,
    "raw": 0,
    "interleaved": 0,
    "row_phase": 0,
    "column_phase": 0,
    "tabulated": 0,
    "table": 0,
}
"""Fields of an EXECUTE that adds up, and writes every pixel as it is requantized."""
