"""The page in a real browser: it draws, sorts, selects and answers the pointer."""

import json
from itertools import pairwise

import pytest

from coprune.report import Subject, describe, render
from coprune_sim.chrome_trace import chrome_trace

from . import programs
from .test_page import HOSTILE, with_hostile_names

pytest.importorskip("playwright", reason="playwright is not installed")

from .browser import find_chromium, open_file, settle, start_chromium

CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser():
    with start_chromium(CHROMIUM) as started:
        yield started


@pytest.fixture(scope="module")
def demo_network():
    return programs.demo_network()


@pytest.fixture
def open_report(browser, tmp_path):
    """Opens the report of programs; at the end nothing may have gone wrong in it."""
    opened = []

    def write_and_open(*reported, origin="x.coprune", timeline=None, **more):
        subjects = [Subject(program, origin, timeline) for program in reported]
        content = describe(subjects)
        path = tmp_path / f"report{len(opened)}.html"
        path.write_text(render(content), encoding="utf-8")
        opened.append((open_file(browser, path, **more), path))
        page = opened[-1][0].page
        page.set_default_timeout(5000)
        return page, content

    yield write_and_open
    for one, path in opened:
        assert one.messages == []
        assert one.requests == [path.as_uri()]
        one.page.close()


def read_column(page, label: str, *, table: str = "layer-table") -> list[str]:
    """The texts of a column of a table, from top to bottom."""
    return page.evaluate(
        """([table, label]) => {
            const node = document.querySelector(`[data-testid=${table}]`);
            const headings = [...node.querySelectorAll("thead th[aria-sort]")];
            const index = headings.findIndex((heading) => heading.textContent === label);
            return [...node.tBodies[0].rows].map((row) => row.cells[index].textContent);
        }""",
        [table, label],
    )


def sort_by(page, label: str, *, table: str = "layer-table") -> str:
    """Click on a heading; returns the direction that it then states."""
    button = page.get_by_test_id(table).get_by_role("button", name=label, exact=True)
    button.click()
    return button.locator("xpath=..").get_attribute("aria-sort")


def count_inked(page, selector: str) -> int:
    """How many different colours a canvas has: more than one if anything is drawn."""
    return page.evaluate(
        """(selector) => {
            const canvas = document.querySelector(selector);
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            return new Set(new Uint32Array(data.buffer)).size;
        }""",
        selector,
    )


def hover_instruction(page, index: int) -> str:
    """Move the pointer over an instruction of the timeline; returns what the tooltip says."""
    timeline = page.get_by_test_id("timeline").first
    timeline.evaluate("node => node.scrollIntoView({ block: 'center' })")
    settle(page)
    place = timeline.evaluate("(node, index) => node.locate(index)", index)
    page.mouse.move(place["x"] - 1, place["y"])
    page.mouse.move(place["x"], place["y"])
    return page.locator("#tooltip").inner_text()


def test_the_report_of_the_demo_network(demo_network, open_report):
    page, content = open_report(demo_network)
    (described,) = content["programs"]
    layers = described["layers"]
    cycles = demo_network.cycles().total.cycles
    assert page.get_by_test_id("roofline-point").count() == len(layers) == 21
    assert page.get_by_test_id("timeline").get_attribute("data-total-cycles") == str(cycles)
    names = [layer["name"] for layer in layers]
    assert read_column(page, "layer") == names
    assert sort_by(page, "cycles") == "descending"
    assert read_column(page, "layer") == [
        layer["name"] for layer in sorted(layers, key=lambda layer: -layer["cycles"])
    ]
    assert f"takes {cycles:,} cycles" in page.locator("#summary").inner_text()
    assert count_inked(page, "[data-testid=timeline] canvas") > 20


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("#", lambda program, index: index),
        ("layer", lambda program, index: program["layers"][index]["name"]),
        ("op", lambda program, index: program["layers"][index]["op"]),
        ("MACs", lambda program, index: program["layers"][index]["macs"]),
        ("non-zero", lambda program, index: program["layers"][index]["nonzero_macs"]),
        (
            "density",
            lambda program, index: (
                program["layers"][index]["nonzero_macs"] / program["layers"][index]["macs"]
            ),
        ),
        ("cycles", lambda program, index: program["layers"][index]["cycles"]),
        ("slots", lambda program, index: program["layers"][index]["slots"]),
        ("floor", lambda program, index: program["layers"][index]["floor_cycles"]),
        (
            "× floor",  # noqa: RUF001
            lambda program, index: (
                program["layers"][index]["cycles"] / program["layers"][index]["floor_cycles"]
            ),
        ),
        ("limit", lambda program, index: program["layers"][index]["limit"]),
        ("use", lambda program, index: program["layers"][index]["multiplier_use"]),
        ("tiles", lambda program, index: program["layers"][index]["tiles"]),
        (
            "bytes",
            lambda program, index: (
                program["layers"][index]["load_bytes"] + program["layers"][index]["store_bytes"]
            ),
        ),
        (
            "energy",
            lambda program, index: sum(program["energy"][index]["picojoules"].values()),
        ),
    ],
)
def test_sorts_by_every_column(sparse_page, label, value):
    page, content = sparse_page
    (program,) = content["programs"]
    indices = range(len(program["layers"]))
    for _ in range(2):
        direction = sort_by(page, label)
        shown = [int(text) for text in read_column(page, "#")]
        values = [value(program, index) for index in shown]
        assert values == sorted(values, reverse=direction == "descending")
        assert sorted(shown) == list(indices)
        # Equals stay in the order of the program.
        for before, after in pairwise(shown):
            if value(program, before) == value(program, after):
                assert before < after


@pytest.fixture(scope="module")
def sparse_page(browser, sparse, tmp_path_factory):
    """A report that several tests sort."""
    content = describe([Subject(sparse, "x.coprune")])
    path = tmp_path_factory.mktemp("sparse") / "report.html"
    path.write_text(render(content), encoding="utf-8")
    opened = open_file(browser, path)
    opened.page.set_default_timeout(5000)
    yield opened.page, content
    assert opened.messages == []


def test_the_keyboard_sorts_and_selects(sparse, open_report):
    page, _ = open_report(sparse)
    heading = page.get_by_test_id("layer-table").get_by_role("button", name="slots", exact=True)
    heading.focus()
    page.keyboard.press("Enter")
    assert heading.locator("xpath=..").get_attribute("aria-sort") == "descending"
    page.locator("[data-testid=layer-table] tr[data-key=layer3]").focus()
    page.keyboard.press("Enter")
    assert page.locator("tr[aria-selected=true]").get_attribute("data-key") == "layer3"


def test_hovering_over_an_instruction_gives_what_it_does_and_its_stall(sparse, open_report):
    page, content = open_report(sparse)
    spans = content["programs"][0]["timeline"]["instructions"]
    stalled = max(spans, key=lambda span: span["begin"] - span["ready"])
    text = hover_instruction(page, stalled["index"])
    assert f"#{stalled['index']} {stalled['unit']}" in text
    assert stalled["text"].replace(" x ", "\xa0×\xa0") in text.replace("\n", " ")  # noqa: RUF001
    stall = stalled["begin"] - stalled["ready"]
    assert stall > 0
    assert f"{stall:,} cycles" in text
    assert f"Waited from {stalled['ready']:,} on for #{stalled['senders'][0]}" in text
    ready = next(span for span in spans if span["begin"] == span["ready"])
    page.locator("#timeline select").select_option("kind")
    assert "none" in hover_instruction(page, ready["index"])
    page.mouse.move(5, 5)
    assert page.locator("#tooltip").is_hidden()


def test_the_timeline_zooms_and_moves(sparse, open_report):
    page, content = open_report(sparse)
    timeline = content["programs"][0]["timeline"]
    # One right of the middle, which stays in view.
    index = min(
        timeline["instructions"], key=lambda one: abs(one["begin"] - 0.6 * timeline["cycles"])
    )["index"]
    canvas = page.locator("[data-testid=timeline] canvas")
    canvas.evaluate("node => node.scrollIntoView({ block: 'center' })")

    def place() -> float:
        node = page.get_by_test_id("timeline")
        return node.evaluate("(node, index) => node.locate(index).x", index)

    box = canvas.bounding_box()
    whole = place()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 30)
    page.mouse.wheel(0, -500)
    page.wait_for_function(
        """([index, x]) =>
            document.querySelector("[data-testid=timeline]").locate(index).x > x""",
        arg=[index, whole + 10],
    )
    zoomed = place()
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 30, steps=3)
    page.mouse.up()
    assert place() == pytest.approx(zoomed - 0.1 * box["width"], abs=2)
    page.get_by_role("button", name="Show everything").click()
    assert place() == pytest.approx(whole, abs=0.01)
    canvas.focus()
    page.keyboard.press("+")
    assert place() > whole
    page.keyboard.press("0")
    assert place() == pytest.approx(whole, abs=0.01)
    page.keyboard.press("ArrowDown")
    first = min(timeline["instructions"], key=lambda one: one["begin"])
    assert f"#{first['index']} LOAD" in page.locator("#tooltip").inner_text()


def test_selecting_a_layer_changes_every_section(sparse, open_report):
    page, _ = open_report(sparse)
    read_picture = "() => document.querySelector('[data-testid=weights-picture]').toDataURL()"
    pictures = set()
    for name in ("layer0", "layer1", "layer8"):
        page.locator(f"[data-testid=layer-table] tr[data-key={name}]").click()
        pictures.add(page.evaluate(read_picture))
        assert page.get_by_test_id("weights-layer").input_value() == name
        assert page.locator("#energy [aria-current=true]").inner_text() == name
        assert page.get_by_test_id("layer-card").locator("h3").inner_text() == name
        assert name in page.get_by_test_id("weights-facts").inner_text()
    assert len(pictures) == 3
    page.get_by_test_id("weights-layer").select_option("layer2")
    assert page.locator("tr[aria-selected=true]").get_attribute("data-key") == "layer2"


def test_the_picture_tells_of_weights_and_blocks(sparse, open_report):
    page, _ = open_report(sparse)
    weight = sparse.graph.layers[1].sources[0].weight
    page.locator("[data-testid=layer-table] tr[data-key=layer1]").click()
    picture = page.get_by_test_id("weights-picture")
    picture.evaluate("node => node.scrollIntoView({ block: 'center' })")
    settle(page)
    box = picture.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    text = page.locator("#tooltip").inner_text()
    verdict = "not zero" if weight[0, 0, 0, 0] else "zero"
    assert f"output 0, input 0: {verdict}" in text
    lanes = sparse.config.lanes
    slots = (weight[:lanes, :lanes, 0, 0] != 0).sum(axis=1).max()
    assert f"{slots} slot" in text
    histogram = page.get_by_test_id("slot-histogram").locator("rect").count()
    assert histogram > 1


def test_tables_have_a_memory_of_their_own(tabulated, open_report):
    page, _ = open_report(tabulated)
    assert page.get_by_test_id("ring-map").count() == 3
    assert "tables" in page.get_by_test_id("dram-map").inner_text()


def test_memory_and_energy_are_drawn(odd, open_report):
    page, content = open_report(odd)
    (program,) = content["programs"]
    tensors = page.get_by_test_id("bank-map").get_by_test_id("tensor")
    assert tensors.count() == len(program["memory"]["banks"]["tensors"])
    regions = page.get_by_test_id("dram-map").locator("rect.region")
    assert regions.count() == len(program["memory"]["dram"]["regions"])
    assert page.get_by_test_id("ring-map").count() == 2
    assert page.get_by_test_id("energy").locator(".bar").count() == len(program["layers"])
    assert "An estimate" in page.locator("#energy").inner_text()


def test_compares_two_programs(dense, sparse, open_report):
    page, content = open_report(dense, sparse)
    before, after = content["programs"]
    assert page.get_by_test_id("timeline").count() == 2
    totals = [
        int(node.get_attribute("data-total-cycles"))
        for node in page.get_by_test_id("timeline").all()
    ]
    assert totals == [dense.cycles().total.cycles, sparse.cycles().total.cycles]
    assert page.get_by_test_id("roofline-point").count() == 2 * len(after["layers"])
    assert page.get_by_test_id("roofline-arrow").count() > 0
    assert read_column(page, "layer", table="change-table") == [
        layer["name"] for layer in after["layers"]
    ]
    ratio = before["layers"][2]["cycles"] / after["layers"][2]["cycles"]
    row = page.locator("[data-testid=change-table] tr[data-key=layer2]")
    assert f"{ratio:.2f}" in row.inner_text()
    facts = page.get_by_test_id("weights-facts")
    shown = facts.inner_text()
    page.get_by_role("button", name="B: x.coprune").click()
    assert facts.inner_text() != shown


def test_shows_layers_that_only_one_program_has(sparse, single_layer, open_report):
    page, _ = open_report(sparse, single_layer)
    assert len(read_column(page, "layer", table="change-table")) == len(sparse.graph.layers)
    row = page.locator("[data-testid=change-table] tr[data-key=layer5]")
    assert "only in A" in row.inner_text()
    row.click()
    page.get_by_role("button", name="B: x.coprune").click()
    assert page.get_by_test_id("weights-layer").input_value() == "layer0"


def test_lays_a_measurement_beside_the_model(sparse, open_report, tmp_path):
    timeline = tmp_path / "measured.json"
    trace = chrome_trace(sparse.cycles().timing.instructions, sparse.machine)
    timeline.write_text(json.dumps(trace))
    page, content = open_report(sparse, timeline=timeline)
    note = page.get_by_test_id("measured-note")
    assert note.get_attribute("data-largest-difference") == "0"
    assert "in the cycle that the model says" in note.inner_text()
    last = content["programs"][0]["timeline"]["instructions"][-1]
    assert "measured" in hover_instruction(page, last["index"])


def test_names_are_shown_as_they_are(single_layer, open_report):
    page, _ = open_report(with_hostile_names(single_layer), origin=HOSTILE)
    assert page.locator("h1").inner_text() == HOSTILE
    assert read_column(page, "layer") == [HOSTILE]
    assert page.evaluate("document.scripts.length") == 2


@pytest.mark.parametrize("width", [390, 1440])
def test_a_page_is_no_wider_than_its_window(dense, sparse, open_report, width):
    page, _ = open_report(dense, sparse, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for canvas in ("[data-testid=timeline] canvas", "[data-testid=weights-picture]"):
        assert count_inked(page, canvas) > 1


def test_follows_the_system_to_dark_colours(sparse, open_report):
    page, _ = open_report(sparse, color_scheme="dark")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    read_picture = "document.querySelector('[data-testid=timeline] canvas').toDataURL()"
    dark, drawn = page.evaluate(background), page.evaluate(read_picture)
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) != dark
    # The page draws anew when it is told of the change; this fails where it never does.
    page.wait_for_function(f"drawn => {read_picture} !== drawn", arg=drawn, timeout=5000)
