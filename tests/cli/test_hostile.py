"""Untrusted text on a terminal: shown, never obeyed."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable

import pytest

import payloads
from undertow.cli import output
from undertow.cli.app import main
from undertow.errors import UsageError
from undertow.text import one_line

FOR_TERMINALS = [text for text in payloads.PAYLOADS if "\ud800" not in text]


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
    assert not payloads.HIDDEN.search(plain(said))
    assert "\x1b]8" not in said, "no link is made of it"
    assert "\x1b[31m" not in said
    parts = re.split(payloads.HIDDEN.pattern + r"|\s", text)
    assert max(parts, key=len)[:8] in plain(said), "it is there to read"


def test_markup_of_a_text_is_text(printed):
    made = output.table(("[b]h[/b]",), [("[i]c[/i] :boat:",)])
    line = "[bold red]x[/] [link=http://evil.example]y[/link] prefix:kite: z"
    said = plain(printed(lambda: output.show([line, made])))
    for part in (line, "[b]h[/b]", "[i]c[/i]", ":boat:"):
        assert part in said


@pytest.mark.parametrize("text", FOR_TERMINALS)
def test_json_on_a_terminal_is_ascii_and_says_the_same(printed, text):
    said = printed(lambda: output.emit_json({"a": text, text: 1}))
    assert said.isascii()
    assert not payloads.HIDDEN.search(said.replace("\n", ""))
    assert json.loads(said) == {"a": text, text: 1}


@pytest.mark.parametrize("text", payloads.PAYLOADS)
def test_an_error_is_one_visible_line(capsys, text):
    module = type(sys)("hostile_verb")

    def command() -> None:
        raise UsageError(f"rubric {text}: unknown")

    module.command = command
    sys.modules["hostile_verb"] = module
    assert main(["go"], [("go", "hostile_verb"), ("other", "hostile_verb")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not payloads.HIDDEN.search(said.replace("\n", ""))


@pytest.mark.parametrize("text", [*payloads.PAYLOADS, payloads.LONG])
def test_a_line_of_the_console_is_short_and_visible(text):
    line = one_line(text, 80)
    assert len(line) <= 80
    assert not payloads.HIDDEN.search(line)
