"""The documentation's page of operators, generated from their table."""

from __future__ import annotations

from pathlib import Path

from coprune.compiler.operators.table import ADVICE, OPERATORS

PAGE = "operators.md"


def write_page(folder: Path | str) -> None:
    """Write the page into `folder`."""
    (Path(folder) / PAGE).write_text(operators_page(), encoding="utf-8")


def operators_page() -> str:
    """Operators, their conditions, what they become; and what to do about some others."""
    supported = [
        (_names(operator.names), operator.conditions or "none", operator.realization)
        for operator in OPERATORS
    ]
    refused: dict[str, list[str]] = {}
    for name, advice in ADVICE.items():
        refused.setdefault(advice, []).append(name)
    parts = [
        "<!-- Generated from the table of operators by scripts/generate-docs; do not edit. -->",
        "# Operators",
        "What a network may consist of, by the names of PyTorch's ATen operators; modules and "
        "functions of `torch.nn` become these when a network is exported. A last underscore (an "
        "operator that overwrites its operand) makes no difference where the name with one is "
        "listed. Inputs are [N, C, H, W], [N, C, L] or [N, C], and [N, C, L] counts as one row.",
        "Everything becomes layers that sum shifted planes of weights: see "
        "[numerics.md](numerics.md). Each line is tested with 50 random networks: the float graph "
        "against PyTorch, the instruction simulator against the integer reference, and some of "
        "them on the RTL, with equal outputs and cycles (`tests/operators`).",
        _table(("operators", "conditions", "what the accelerator does"), supported),
        "An image is read up to 8 pixels beyond its upper and left border and 7 beyond the others "
        "in one layer; more zeros above and left take more layers. Operators of parameters alone "
        "are computed when the network is compiled.",
        "## Not supported",
        "Another operator, or another use of one, gives one error that names the operator, its "
        "node in the exported graph, its module and the line of the user's source. With "
        "`--host-fallback` the host runs it: see [host_fallback.md](host_fallback.md). For some "
        "operators the error says what else to do:",
        _table(
            ("operators", "what to do"),
            [(_names(tuple(names)), advice) for advice, names in refused.items()],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
