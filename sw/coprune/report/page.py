"""The page: what the report says, with its style and scripts, in one HTML file."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from coprune import atomic_file
from coprune_sim.cycle_model import MemoryModel

from .content import Subject, describe

STYLE = "report.css"
SCRIPTS = (
    "format.js",
    "tooltip.js",
    "colours.js",
    "table.js",
    "layers.js",
    "changes.js",
    "roofline.js",
    "timeline.js",
    "weights.js",
    "memory.js",
    "energy.js",
    "report.js",
)
"""In the order in which they stand in the page."""


def render(content: dict) -> str:
    """Make the page of what `describe` returns. It loads nothing, so it opens without a network."""
    title = " and ".join(program["network"] for program in content["programs"])
    parts = {
        "title": html.escape(f"{title}: coprune report"),
        "style": _asset(STYLE),
        "data": _embed(content),
        "script": "".join(_asset(name) for name in SCRIPTS),
    }
    # Split once, so that no part is searched for the marks of the next.
    pieces = _asset("page.html").split("%%")
    pieces[1::2] = [parts[name] for name in pieces[1::2]]
    return "".join(pieces)


def write_report(
    subjects: Sequence[Subject], path: str | Path, *, memory: MemoryModel | None = None
) -> dict:
    """Write the page about one program or two, whole or not at all.

    Parameters
    ----------
    subjects : sequence of Subject
    path : str or Path
    memory : MemoryModel
        That the cycles are counted for.

    Returns
    -------
    dict
        What it says, as `describe` returns it.

    Raises
    ------
    ValueError, FileNotFoundError
        As `describe`.
    OSError
        The file cannot be written.
    """
    atomic_file.check(path)
    content = describe(subjects, memory=memory)
    atomic_file.write(path, render(content))
    return content


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _embed(content: dict) -> str:
    """JSON in which nothing ends a script element or begins a comment in it."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
