"""Untrusted text on a terminal: shown, never obeyed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from undertow.cli import output
from undertow.cli.app import main
from undertow.errors import UsageError
from undertow.text import one_line


def _payloads():
    spec = importlib.util.spec_from_file_location("payloads", Path(__file__).parents[1] / "payloads.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["payloads"] = module
    spec.loader.exec_module(module)
    return module


SHARED = _payloads()
FOR_TERMINALS = [text for text in SHARED.PAYLOADS if "\ud800" not in text]


class Terminal(io.StringIO):
    """Says that it is one, so that colours and links would be used."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def printed(monkeypatch) -> Callable[[Callable[[], None]], str]:
    """What a terminal would be sent."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")

    def run(print_it: Callable[[], None]) -> str:
        with contextlib.redirect_stdout(Terminal()) as made:
            print_it()
        return made.getvalue()

    return run


def plain(text: str) -> str:
    """Without the styles that are ours: bold and italic heads."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\n", "")


@pytest.mark.parametrize("text", FOR_TERMINALS)
def test_lines_and_tables_obey_nothing(printed, text):
    said = printed(lambda: output.show([text, output.table((text, "b"), [(text, "x")], title=text)]))
    assert not SHARED.HIDDEN.search(plain(said))
    assert "\x1b]8" not in said, "no link is made of it"
    assert "\x1b[31m" not in said
    parts = re.split(SHARED.HIDDEN.pattern + r"|\s", text)
    assert max(parts, key=len)[:8] in plain(said), "it is there to read"


def test_markup_of_a_text_is_text(printed):
    made = output.table(("[b]h[/b]",), [("[i]c[/i]",)])
    said = plain(printed(lambda: output.show(["[bold red]x[/] [link=http://evil.example]y[/link]", made])))
    for part in ("[bold red]x[/]", "[link=http://evil.example]y[/link]", "[b]h[/b]", "[i]c[/i]"):
        assert part in said


@pytest.mark.parametrize("text", FOR_TERMINALS)
def test_json_on_a_terminal_is_ascii_and_says_the_same(printed, text):
    said = printed(lambda: output.emit_json({"a": text, text: 1}))
    assert said.isascii()
    assert not SHARED.HIDDEN.search(said.replace("\n", ""))
    assert json.loads(said) == {"a": text, text: 1}


@pytest.mark.parametrize("text", SHARED.PAYLOADS)
def test_an_error_is_one_visible_line(capsys, text):
    module = type(sys)("hostile_verb")

    def command() -> None:
        raise UsageError(f"rubric {text}: unknown")

    module.command = command
    sys.modules["hostile_verb"] = module
    assert main(["go"], [("go", "hostile_verb"), ("other", "hostile_verb")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not SHARED.HIDDEN.search(said.replace("\n", ""))


@pytest.mark.parametrize("text", [*SHARED.PAYLOADS, SHARED.LONG])
def test_a_line_of_the_console_is_short_and_visible(text):
    line = one_line(text, 80)
    assert len(line) <= 80
    assert not SHARED.HIDDEN.search(line)
