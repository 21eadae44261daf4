"""Makes the picture of a report in docs/: run by scripts/screenshot."""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

import coprune
from coprune import atomic_file
from coprune.report import Subject, write_report

from .browser import find_chromium, open_file, settle, start_chromium

WIDTH = 1360
COLOURS = 256
"""As many as a palette has; it takes a third of the bytes."""


def take_screenshot(program: Path) -> bytes:
    """PNG of a report from its top to its timeline, with the pointer over an EXECUTE."""
    chromium = find_chromium()
    if chromium is None:
        raise FileNotFoundError("there is no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, start_chromium(chromium) as browser:
        report = Path(folder) / "report.html"
        content = write_report([Subject(coprune.load(program), program.name)], report)
        page = open_file(browser, report, width=WIDTH).page
        bottom = page.locator("#timeline").evaluate("node => node.getBoundingClientRect().bottom")
        # So tall that nothing scrolls, with room for the tooltip.
        page.set_viewport_size({"width": WIDTH, "height": int(bottom) + 140})
        settle(page)
        page.mouse.move(*_place_of_stall(page, content))
        return _shrink(page.screenshot())


def _place_of_stall(page, content: dict) -> tuple[float, float]:
    """Where the instruction that waited longest is drawn."""
    spans = content["programs"][0]["timeline"]["instructions"]
    loads = [span for span in spans if span["unit"] == "LOAD"]
    longest = max(loads, key=lambda span: span["begin"] - span["ready"])
    timeline = page.get_by_test_id("timeline")
    place = timeline.evaluate("(node, index) => node.locate(index)", longest["index"])
    return place["x"], place["y"]


def _shrink(png: bytes) -> bytes:
    # By coverage, as rare colours would be lost among the greys otherwise; then as near as k-means
    # gets to all of them.
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image = image.quantize(
        COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
    )
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """Parse the arguments, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, nargs="?", default="build/demo/resnet20.coprune")
    parser.add_argument("-o", "--output", type=Path, default="docs/report.png")
    arguments = parser.parse_args()
    atomic_file.write(arguments.output, take_screenshot(arguments.program))


if __name__ == "__main__":
    main()
