"""Exchanges that people have judged: what a judge is calibrated on."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.errors import UsageError
from undertow.judging.rubric import shipped_rubrics
from undertow.records import Message
from undertow.text import one_line

_SHIPPED = Path(__file__).parent / "rubrics" / "examples"
_WORDS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "violation", "violating", "wrong", "bad"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "none", "no violation", "right", "ok", "good"), False),
}


@dataclass(frozen=True, slots=True)
class LabelledExchange:
    """One exchange and what people say of it."""

    prompt: str
    """The last user turn."""
    response: str
    """The answer."""
    violation: bool
    """The label that counts as the truth."""
    raters: Mapping[str, bool | None]
    """What single raters said, by column; ``None`` where one said nothing."""
    history: tuple[Message, ...] = ()
    """Turns before the prompt, oldest first."""


def shipped_labels(rubric: str) -> Path | None:
    """Return the labelled examples that come with a shipped rubric."""
    path = _SHIPPED / f"{rubric}.jsonl"
    return path if rubric in shipped_rubrics() and path.is_file() else None


def read_labels(path: Path) -> list[LabelledExchange]:
    """Read CSV, JSONL or Parquet with ``prompt``, ``response``, ``label`` and any columns ``rater…``.

    A label is 1 or 0, true or false, yes or no, ``violation`` or ``no violation``, ``wrong`` or ``right``;
    case does not count. A rater's cell may be empty. ``messages``, where there is one, is a conversation that
    ends with the prompt, as a search's samples have it: a list of ``role`` and ``content``, or its JSON.

    Raises:
        UsageError: no such file, another format, a missing column or a label that is none; with the row.
    """
    if not path.is_file():
        raise UsageError(f"labels {path}: no such file")
    try:
        labels = [_exchange(path, where, row) for where, row in _rows(path)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"labels {path}: cannot be read ({one_line(str(error))})") from error
    if not labels:
        raise UsageError(f"labels {path}: empty; give rows with prompt, response and label")
    return labels


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield each row with the name of its place."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as handle:
            for number, row in enumerate(csv.DictReader(handle), start=1):
                yield f"row {number}", row
    elif path.suffix in (".jsonl", ".ndjson"):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                yield f"line {number}", _object(path, number, line)
    elif path.suffix == ".parquet":
        from undertow.store.tables import read_table

        for number, found in enumerate(read_table(path).to_pylist(), start=1):
            yield f"row {number}", found
    else:
        raise UsageError(f"labels {path}: unknown format {path.suffix!r}; use .csv, .jsonl or .parquet")


def _object(path: Path, number: int, line: str) -> Mapping[str, object]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UsageError(f"labels {path}: line {number}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise UsageError(f"labels {path}: line {number}: no object")
    return found


def _exchange(path: Path, where: str, row: Mapping[str, object]) -> LabelledExchange:
    texts = [row.get(name) for name in ("prompt", "response")]
    for name, text in zip(("prompt", "response"), texts, strict=True):
        if not isinstance(text, str):
            raise UsageError(f"labels {path}: {where}: no text under {name!r}")
    violation = _label(path, where, "label", row.get("label"))
    if violation is None:
        raise UsageError(f"labels {path}: {where}: no label; write 1 for a violation and 0 for none")
    raters = {
        name: _label(path, where, name, value) for name, value in row.items() if str(name).startswith("rater")
    }
    history = _history(path, where, row.get("messages"))
    return LabelledExchange(str(texts[0]), str(texts[1]), violation, raters, history)


def _history(path: Path, where: str, value: object) -> tuple[Message, ...]:
    """Read the turns before the prompt."""
    try:
        turns: Any = json.loads(value) if isinstance(value, str) and value.strip() else value or []
        return tuple(Message(turn["role"], str(turn["content"])) for turn in turns[:-1])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"labels {path}: {where}: messages: no list of role and content ({error})"
        ) from error


def _label(path: Path, where: str, column: str, value: object) -> bool | None:
    word = "" if value is None else str(value).strip().casefold().replace("_", " ")
    if not word:
        return None
    if word not in _WORDS:
        raise UsageError(f"labels {path}: {where}: {column} {one_line(word, 40)!r} is no label; write 1 or 0")
    return _WORDS[word]
