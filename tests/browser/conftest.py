"""A real Chromium, the viewer in a process of its own, and pages to open."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from by_path import module
from undertow.report.build import write_report
from undertow.text import whole_text

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of this machine, nothing downloaded; for one module, as asyncio.run fails while it runs."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine: pages are not opened in a browser")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's source, put here by ``make install`` through npm."""
    source = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        pytest.skip("no axe-core: npm ci --prefix tests/browser")
    return source.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every kind with long and short texts, each with its report."""
    made = tmp_path_factory.mktemp("pages")
    planting = module("benchmarks/viewer.py")
    planting.plant(made, samples=300, findings=4, rows=120)
    payloads = [whole_text(text) for text in module("tests/payloads.py").PAYLOADS]
    planting.plant(made / "hostile", 60, len(payloads), 60, lambda i: payloads[i % len(payloads)])
    runs = module("tests/report/conftest.py")
    demo = runs.Runs(made).demo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("undertow.report.cards._CHARTED_CARDS", 2)
        for run in (made / "search", made / "trace", demo, made / "hostile" / "search"):
            write_report(run)
    return made


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    """Where the viewer listens."""
    command = [sys.executable, "-m", "undertow", "view", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield server.stdout.readline().split()[0]
    server.terminate()
    server.wait(20)
