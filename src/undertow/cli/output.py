"""What a verb leaves on stdout: its summary as JSON, or a few plain words and tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from undertow.text import redact, safe_text

if TYPE_CHECKING:
    from rich.table import Table

EXIT_CODES = {"complete": 0, "failed": 1, "inconclusive": 3}

Render = Callable[[dict[str, Any]], "Iterable[str | Table]"]
"""Turns a summary into lines and tables for a person."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """Make a Rich table whose every cell is shown as it is: no markup, no control characters."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(safe_text(title)) if title else None, title_justify="left")
    for column in columns:
        made.add_column(Text(safe_text(column)), overflow="fold")
    for row in rows:
        made.add_row(*(Text(redact(safe_text(_cell(value)))) for value in row))
    return made


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def emit(summary: Mapping[str, Any], as_json: bool, render: Render) -> None:
    """Print the summary on stdout: exactly ``summary.json`` with ``--json``, else what ``render`` makes.

    Raises:
        typer.Exit: with code 3 for status ``inconclusive``, 1 for ``failed``.
    """
    if as_json:
        emit_json(summary)
    else:
        show(render(dict(summary)))
    code = EXIT_CODES.get(str(summary.get("status")), 0)
    if code:
        raise typer.Exit(code)


def reasons(rows: Mapping[str, int], first: Mapping[str, str]) -> Iterator[str]:
    """Say which rows of a data set were left out or are odd: how many, why, and the first place."""
    for reason, n in rows.items():
        yield f"{n:,} × {reason}" + (f", first at {first[reason]}" if reason in first else "")


def emit_json(value: object) -> None:
    """Print ``value`` as our JSON files hold it.

    On a terminal in ASCII, so that no control or bidi character of untrusted text reaches it.
    """
    from undertow.store.tables import json_text

    sys.stdout.write(json_text(value, ascii_only=sys.stdout.isatty()))
    sys.stdout.flush()


def show(parts: Iterable[str | Table]) -> None:
    """Print lines, as they are, and tables made by :func:`table` on stdout."""
    from rich.console import Console

    console = Console(file=sys.stdout, emoji=False)
    for part in parts:
        if isinstance(part, str):
            console.print(redact(safe_text(part)), markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(part)
    sys.stdout.flush()
