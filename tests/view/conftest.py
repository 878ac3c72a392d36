"""A folder of runs as the benchmark plants it, small, and the viewer over it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from by_path import module
from undertow.view.server import build_viewer

SIZES = {"samples": 300, "findings": 60, "rows": 200}


@pytest.fixture(scope="session")
def planting() -> ModuleType:
    return module("benchmarks/viewer.py")


@pytest.fixture(scope="session")
def payloads() -> ModuleType:
    return module("tests/payloads.py")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, planting: ModuleType) -> Path:
    """Two searches, the trace of the first, its index, a fix, a verification, and a demo."""
    made = tmp_path_factory.mktemp("runs")
    planting.plant(made, **SIZES)
    written = module("tests/report/conftest.py")
    demo = written.Runs(made).demo()
    (demo / "manifest.json").rename(demo / "config.json")
    written.write(demo / "manifest.json", written.manifest("demo", {"world": "paper", "seed": 0}))
    (made / "search" / "report.html").write_text("<!doctype html><title>r</title><script>alert(1)</script>")
    return made


@pytest.fixture
def client(folder: Path) -> TestClient:
    return over(folder)


def over(folder: Path) -> TestClient:
    return TestClient(build_viewer(folder), base_url="http://127.0.0.1:8420")
