"""Every command of the tutorials runs, and prints what they say."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from tutorials import ORDER, PAGES, difference, made, order, run, served, steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("trl", reason="needs the extra local")
    place = tmp_path_factory.mktemp("tutorials")
    os.environ.setdefault("UNDERTOW_CACHE", str(place / "cache"))
    return made(place)


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with served(folder) as port:
        yield port


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_a_tutorial_prints_what_it_shows(name: str, folder: Path, port: int) -> None:
    if name not in order():
        pytest.skip("needs the extra ray")
    taken = list(steps((PAGES / f"{name}.md").read_text(encoding="utf-8")))
    assert taken
    for step in taken:
        got = run(step.commands, folder, port)
        if step.shown is not None:
            wrong = difference(step.shown, got, step.varies)
            assert not wrong, f"make tutorials writes it anew\n{step.commands}\n{wrong}\n{got}"


def test_all_tutorials_are_run() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(ORDER)


@pytest.mark.parametrize(
    ("shown", "got", "same"),
    [
        ("1,330 rows in 0.9 s", "1,400 rows in 0.8 s", True),
        ("1,330 rows", "2,000 rows", False),
        ("rate 0.96", "rate 0.70", False),
        ("fixed 0.96", "unchanged 0.96", False),
        ("a\n…\nz", "a b c z", True),
        ("a\n…\nz", "a b c", False),
        ("┏━━┳━━┓\n┃ a ┃ b ┃", "┏━━━━┳━━┓\n┃ a   ┃ b ┃", True),
        ("one line", "one line more", False),
        ("one line", "", False),
    ],
)
def test_what_differs_is_seen(shown: str, got: str, same: bool) -> None:
    assert (difference(shown, got) == "") is same


def test_a_part_that_varies_is_named() -> None:
    shown, varies = "confirmed The query is formal 0.96", "(?<=confirmed )The query .*?(?= \\d)"
    assert not difference(shown, "confirmed The query has a word 0.93", varies)
    assert difference(shown, "rejected The query has a word 0.93", varies)
    assert difference(shown, "confirmed The query has a word 0.93")
