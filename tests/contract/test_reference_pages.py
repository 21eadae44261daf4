"""The committed reference pages are those of the contract."""

from pathlib import Path

import pytest
from amaranth.lib import data

from coprune_hw.contract.instructions import LAYOUTS
from coprune_hw.contract.reference_pages import PAGES, write_pages
from coprune_hw.contract.registers import ERROR_MEANING, REGISTERS, address_of

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_is_up_to_date(name):
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == PAGES[name](), f"docs/{name} is stale: run scripts/generate-docs"


def test_writes_every_page(tmp_path):
    write_pages(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)


def test_names_every_field_of_every_instruction():
    page = PAGES["instructions.md"]()
    for opcode, layout in LAYOUTS.items():
        section = page.split(f"\n## {opcode.name}\n")[1].split("\n## ")[0]
        for name, _ in data.Layout.cast(layout):
            assert f"| `{name}` |" in section or f"| `{name}." in section, (opcode, name)


def test_names_every_register_and_error():
    page = PAGES["registers.md"]()
    for name, _ in REGISTERS:
        assert f"| `0x{address_of(name):02x}` | `{name}` |" in page
    for code, meaning in ERROR_MEANING.items():
        assert f"| {int(code)} | `{code.name}` | {meaning} |" in page
