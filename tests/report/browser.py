"""Opens pages in Chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names under which systems install it."""


def find_chromium() -> str | None:
    """Path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@contextmanager
def start_chromium(path: str) -> Iterator[Browser]:
    """Run a Chromium for as long as the context lasts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@dataclass
class OpenPage:
    """A page that is open, and what went wrong in it.

    Parameters
    ----------
    page : Page
    messages : list of str
        Errors of its script, and what it wrote to the console.
    requests : list of str
        Addresses that it asked for, its own file's included.
    """

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def open_file(browser: Browser, path: Path, *, width: int = 1440, **more) -> OpenPage:
    """Open a file in a window of its own. `more` is what `Browser.new_page` takes."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **more)
    opened = OpenPage(page)
    page.on("pageerror", lambda error: opened.messages.append(str(error)))
    page.on("console", lambda message: opened.messages.append(message.text))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(path.as_uri())
    return opened


def settle(page: Page) -> None:
    """Wait until what was scrolled or resized is drawn, and the page has heard of it."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
