"""The reference is what the program says of itself, and the README's commands are the program's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from undertow.cli.app import VERBS, build_app
from undertow.cli.reference import reference

ROOT = Path(__file__).parents[2]


def test_the_reference_is_current() -> None:
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert page == reference(), "run: make docs"
    assert all(f"## undertow {verb}\n" in page for verb, _ in VERBS)


FENCE = re.compile(r"^```(?:sh|bash)\n(.*?)^```$", re.M | re.S)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(text: str) -> Iterator[list[str]]:
    """Every ``undertow …`` of the page's blocks, as its words."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["undertow"]:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_page_are_those_of_the_program(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        check(words)


def check(words: list[str]) -> None:
    """Every verb and option is known to the program."""
    app = typer.main.get_command(build_app())
    found, rest = app, words
    while rest and rest[0] in getattr(found, "commands", {}):
        found, rest = found.commands[rest[0]], rest[1:]
    found = getattr(found, "commands", {}).get("audit", found)  # prefs DATA is prefs audit DATA
    known = {name for parameter in found.params for name in [*parameter.opts, *parameter.secondary_opts]}
    assert found is not app, words
    assert {word.partition("=")[0] for word in rest if re.match(r"-+[a-z]", word)} <= known, words


def test_the_workflow_is_one_and_its_steps_are_those_of_the_page() -> None:
    text = (ROOT / "examples/gate.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["jobs"]["gate"]["steps"]
    run = [command for step in steps for command in commands(f"```sh\n{step.get('run', '')}\n```")]
    assert [words[0] for words in run] == ["surf", "gate", "report"]
    for words in run:
        check(words)
    page = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
    shown = re.search(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    assert shown
    assert shown[1] in text


def test_the_readme_shows_every_verb() -> None:
    shown = {words[0] for words in commands((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {verb for verb, _ in VERBS} <= shown | {"demo"}
