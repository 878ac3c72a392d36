"""Report and viewer in a real Chromium: nothing is fetched, nothing refused, all can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (1280, 400)
REPORTS = ("demo", "search", "trace")
PAGES = (
    "", "?verb=surf", "run?run=search", "run?run=demo", "run?run=index", "findings", "finding?run=search&n=2",
    "finding?run=demo&n=1", "rows?run=trace&id=code-2", "row?index=index&id=row-7", "samples?words=word1",
    "sample?run=search&file=samples.parquet&n=3", "compare?first=search&second=later",
    "report?run=search", "nope",
)  # fmt: skip
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Watched:
    """A page and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self.asked.append(request.url))

    def abroad(self, home: str) -> list[str]:
        return [url for url in self.asked if not url.startswith((home, "data:"))]


@contextmanager
def opened(browser: Any, width: int, scripts: bool) -> Iterator[Watched]:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=scripts, bypass_csp=False
    )
    yield Watched(context.new_page())
    context.close()


def first_screen(page: Any) -> str:
    """Text of the report's head, and that it begins on the first screen."""
    head = page.locator("header.masthead")
    assert head.bounding_box()["y"] < 100
    text: str = head.inner_text()
    return text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scripts", [True, False])
def test_reports_are_whole_and_ask_nothing(browser, folder: Path, width: int, scripts: bool):
    with opened(browser, width, scripts) as watched:
        for name in REPORTS:
            watched.page.goto((folder / name / "report.html").as_uri())
            text = first_screen(watched.page)
            assert "What was audited" in text
            assert "What it cost" in text
            if scripts:
                assert watched.page.evaluate(OVERFLOW) <= 0, f"{name} is wider than {width} px"
        assert watched.wrong == []
        assert watched.abroad("file://") == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scripts", [True, False])
def test_the_viewer_is_whole_and_asks_nobody_else(browser, address: str, width: int, scripts: bool):
    with opened(browser, width, scripts) as watched:
        for path in PAGES:
            answer = watched.page.goto(address + path)
            assert answer.status == (404 if path == "nope" else 200), path
            if scripts and not path.startswith("report"):
                assert watched.page.evaluate(OVERFLOW) <= 0, f"{path} is wider than {width} px"
        refused = [line for line in watched.wrong if "404" not in line]
        assert refused == []
        assert watched.abroad(address) == []


def test_from_a_finding_to_its_row_by_keyboard_alone(browser, address: str):
    with opened(browser, 1280, False) as watched:
        page = watched.page
        page.goto(address + "run?run=search")
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to the content"
        for kind in ("/finding?", "/row?"):
            for _ in range(80):
                page.keyboard.press("Tab")
                focus = page.locator(":focus")
                if (focus.get_attribute("href") or "").startswith(kind):
                    break
            assert focus.evaluate("e => getComputedStyle(e).outlineStyle") != "none", "the focus is seen"
            page.keyboard.press("Enter")
            page.wait_for_url(f"**{kind.replace('?', '')}**")
        assert page.locator("h1").inner_text().startswith("Row row-")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, axe: str, folder: Path, address: str, theme: str):
    found = []
    places = [(folder / name / "report.html").as_uri() for name in REPORTS]
    places += [address + path for path in PAGES if not path.startswith("report")]
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, bypass_csp=True, color_scheme=theme
    )
    page = context.new_page()
    for place in places:
        page.goto(place)
        page.evaluate(axe)
        for violation in page.evaluate("axe.run()")["violations"]:
            if violation["impact"] in ("serious", "critical"):
                nodes = [node["html"][:120] for node in violation["nodes"][:2]]
                found.append((place.rpartition("/")[2], violation["id"], nodes))
    context.close()
    assert found == []
