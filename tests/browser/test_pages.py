"""Report and viewer in a real Chromium: nothing is fetched, nothing refused, all can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (1280, 400)
REPORTS = ("demo", "search", "trace")
HOSTILE = (
    "run?run=hostile/search", "findings?words=code", "samples?run=hostile/search", "?verb=surf",
    *(f"finding?run=hostile/search&n={n}" for n in range(1, 58, 7)), "report?run=hostile/search",
)  # fmt: skip
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


def test_hostile_texts_do_nothing_in_a_browser(browser, folder: Path, address: str):
    """No script runs, no dialog opens, nothing is fetched and nothing was even tried."""
    with opened(browser, 1280, True) as watched:
        for place in (
            (folder / "hostile/search/report.html").as_uri(),
            *(address + path for path in HOSTILE),
        ):
            watched.page.goto(place)
            assert watched.page.locator("script, iframe, object, img, base, form[action^=http]").count() == 0
        assert watched.wrong == []
        assert [url for url in watched.abroad(address) if not url.startswith("file://")] == []


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


@pytest.mark.parametrize(("theme", "pages"), [("light", PAGES), ("dark", PAGES[2:12:5])])
def test_axe_finds_nothing_serious(
    browser, axe: str, folder: Path, address: str, theme: str, pages: tuple[str]
):
    places = [(folder / name / "report.html").as_uri() for name in REPORTS[: 2 if theme == "light" else 1]]
    places += [address + path for path in pages if not path.startswith("report")]
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, bypass_csp=True, color_scheme=theme
    )
    page = context.new_page()
    found = []
    for place in places:
        page.goto(place)
        page.evaluate(axe)
        found += [(place.rpartition("/")[2], *each) for each in serious(page)]
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<input type=text>')")
    assert [name for name, _ in serious(page)] == ["label"], "axe does see what is wrong"
    context.close()
    assert found == []


def serious(page: Any) -> list[tuple[str, list[str]]]:
    """Rules that a page breaks, with the first places."""
    broken = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        (each["id"], [node["html"][:120] for node in each["nodes"][:2]])
        for each in broken
        if each["impact"] in ("serious", "critical")
    ]
