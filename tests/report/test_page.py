"""The page is one file that loads nothing, and no name in it is markup."""

import dataclasses
import json
import re
from importlib import resources

import pytest

from coprune.report import Subject, describe, render, write_report
from coprune.report.page import SCRIPTS
from coprune_sim.cycle_model import WAIT_CAUSES

HOSTILE = "</script><script>alert(1)</script><!-- %%script%% &amp;"


def embedded(page: str) -> dict:
    """The data in a page."""
    pattern = r'<script type="application/json" id="report-data">(.*?)</script>'
    return json.loads(re.search(pattern, page, re.DOTALL)[1])


def with_hostile_names(program):
    """The program with names that would be markup, were they not escaped."""
    layers = list(program.graph.layers)
    output = dataclasses.replace(layers[-1].output, name=HOSTILE)
    layers[-1] = dataclasses.replace(layers[-1], name=HOSTILE, output=output)
    return dataclasses.replace(
        program,
        network=HOSTILE,
        graph=dataclasses.replace(program.graph, layers=tuple(layers)),
    )


def test_holds_what_it_says(sparse):
    content = describe([Subject(sparse, "x.coprune")])
    assert embedded(render(content)) == json.loads(json.dumps(content))


def test_loads_nothing(sparse, dense):
    page = render(describe([Subject(sparse, "a.coprune"), Subject(dense, "b.coprune")]))
    drawn = page.replace("http://www.w3.org/2000/svg", "")
    for pattern in (
        r"https?://(?!doi)",
        r"\ssrc=",
        r"@import",
        r"url\((?!#)",
        r"import\(",
        "fetch",
    ):
        assert not re.search(pattern, drawn.split('id="report-data"')[0]), pattern
        assert not re.search(pattern, drawn.rsplit("<script>", 1)[1]), pattern
    assert "default-src 'none'" in page


def test_is_the_same_every_time(sparse):
    pages = {render(describe([Subject(sparse, "x.coprune")])) for _ in range(2)}
    assert len(pages) == 1


def test_names_are_no_markup(single_layer):
    page = render(describe([Subject(with_hostile_names(single_layer), "x.coprune")]))
    assert "alert(1)</script>" not in page
    assert page.count("<script") == 2
    assert embedded(page)["programs"][0]["network"] == HOSTILE
    assert "<title>&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_every_script_is_in_the_page(sparse):
    folder = resources.files("coprune.report") / "assets"
    files = {file.name for file in folder.iterdir()}
    assert files == {*SCRIPTS, "page.html", "report.css"}
    page = render(describe([Subject(sparse, "x.coprune")]))
    for name in files - {"page.html"}:
        assert (folder / name).read_text(encoding="utf-8") in page


def test_every_cause_of_a_wait_has_a_colour_in_light_and_dark(sparse):
    page = render(describe([Subject(sparse, "x.coprune")]))
    for cause in WAIT_CAUSES:
        assert page.count(f"--wait-{cause}: #") == 2


def test_writes_a_file_whole_or_not_at_all(sparse, tmp_path):
    path = tmp_path / "report.html"
    content = write_report([Subject(sparse, "x.coprune")], path)
    assert path.read_text(encoding="utf-8") == render(content)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_report([Subject(sparse, "x.coprune")], tmp_path / "missing" / "report.html")
