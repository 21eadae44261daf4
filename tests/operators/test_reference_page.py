"""The committed page of operators is that of the table, whose operators are those tested."""

from pathlib import Path

from coprune.compiler.operators import ADVICE, LOWERINGS, OPERATORS
from coprune.compiler.operators.reference_page import PAGE, operators_page, write_page

from .matrix import MATRIX

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_page_is_up_to_date():
    committed = (DOCS / PAGE).read_text(encoding="utf-8")
    assert committed == operators_page(), f"docs/{PAGE} is stale: run scripts/generate-docs"


def test_writes_the_page(tmp_path):
    write_page(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PAGE]


def test_every_operator_of_the_table_is_tested():
    tested = {name for names in MATRIX for name in names}
    assert tested == {name for name in LOWERINGS if not name.endswith("_")}


def test_a_name_stands_in_one_line():
    names = [name for operator in OPERATORS for name in operator.names]
    assert len(names) == len(set(names))
    assert not set(names) & set(ADVICE)
