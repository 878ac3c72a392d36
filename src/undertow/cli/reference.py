"""``docs/reference.md``: every verb and option, from the application itself (``make docs``)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from undertow.cli.app import build_app

HEAD = """# Reference

Every verb and option, written from the program by `make docs`; `undertow VERB --help` prints the same.
Exit codes: 0 done, 1 unexpected (or a training run that learned nothing), 2 bad input, 3 inconclusive, 10
gate failed; 130 and 143 where a signal stopped it.
"""


def reference() -> str:
    """Return the page, Markdown."""
    app = typer.main.get_command(build_app())
    parts = [HEAD]
    for verb, command in app.commands.items():  # type: ignore[attr-defined]
        parts += _verb(f"undertow {verb}", command)
    return "\n".join(parts)


def _verb(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}\n" if name.count(" ") == 1 else f"### {name}\n"
    yield f"{_plain(command.help or '')}\n"
    if hasattr(command, "commands"):
        for sub, inner in command.commands.items():
            yield from _verb(f"{name} {sub}", inner)
        return
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{name} {usage}\n```\n"
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [
        f"| `{left.replace('|', chr(92) + '|')}` | {_plain(right)} |" for left, right in filter(None, records)
    ]
    yield "\n".join(["| option | |", "|---|---|", *rows, ""])


def _plain(text: str) -> str:
    """Keep Markdown from reading ``text``: a cell of a table, one line."""
    flat = " ".join(text.split())
    for mark in "\\|<*_":
        flat = flat.replace(mark, f"\\{mark}")
    return flat


if __name__ == "__main__":
    sys.stdout.write(reference())
