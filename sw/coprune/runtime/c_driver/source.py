"""C sources from what is written by hand, `templates`, and what is generated."""

from __future__ import annotations

from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).parent / "templates"


def fill(name: str, values: dict[str, object]) -> str:
    """A template with the values that its ``$NAMES`` stand for.

    Raises
    ------
    KeyError
        A name has no value.
    """
    return Template((TEMPLATES / name).read_text(encoding="utf-8")).substitute(values)
