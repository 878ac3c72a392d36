"""A capability set: questions with known answers, put to the model before and after a fix."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undertow.errors import UsageError
from undertow.records import Failure, Message, Reply
from undertow.stats.intervals import paired_difference, rate
from undertow.store.tables import to_jsonable

_EDGE = " \t\r\n\"'`*.!?,;:"
SHOWN = 10
"""Lost questions that a summary names."""


@dataclass(frozen=True)
class Task:
    """A question and what answers it."""

    messages: tuple[Message, ...]
    """What is asked."""
    answers: frozenset[str]
    """Right answers, folded; the whole reply must be one of them."""
    pattern: re.Pattern[str] | None
    """Or the pattern that a right reply holds."""

    @property
    def prompt(self) -> str:
        """The last turn."""
        return self.messages[-1].content

    def right(self, reply: str) -> bool:
        """Say whether a reply is right: an answer but for case, white space and marks at its ends."""
        if self.pattern is not None:
            return bool(self.pattern.search(reply))
        return folded(reply) in self.answers


def folded(text: str) -> str:
    """Fold case and white space, drop marks at the ends."""
    return " ".join(text.casefold().split()).strip(_EDGE)


def load_tasks(path: Path) -> tuple[Task, ...]:
    """Read a capability set: JSONL with ``prompt`` or ``messages``, and ``answer`` (or several) or ``regex``.

    Raises:
        UsageError: it cannot be read, is empty, or a line is none; the line is named.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable text file ({type(error).__name__})") from None
    tasks = tuple(_task(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip())
    if not tasks:
        raise UsageError(f"{path}: no questions; write a line of prompt and answer, or regex, for each")
    return tasks


def _task(where: str, line: str) -> Task:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UsageError(f'{where}: is no JSON object; write {{"prompt": …, "answer": …}}')
    return Task(_asked(where, row), _answers(where, row), _pattern(where, row))


def _asked(where: str, row: Mapping[str, Any]) -> tuple[Message, ...]:
    turns = row.get("messages") or [{"role": "user", "content": row.get("prompt")}]
    try:
        asked = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    except (TypeError, KeyError):
        raise UsageError(f"{where}: messages must be a list of role and content") from None
    if not all(isinstance(turn.content, str) for turn in asked) or not asked[-1].content.strip():
        raise UsageError(f"{where}: has no prompt")
    return asked


def _answers(where: str, row: Mapping[str, Any]) -> frozenset[str]:
    given = row.get("answer")
    answers = given if isinstance(given, list) else [] if given is None else [given]
    found = frozenset(folded(str(each)) for each in answers)
    if bool(found) == bool(row.get("regex")) or "" in found:
        raise UsageError(f"{where}: give an answer (a text or several, not empty) or a regex, one of them")
    return found


def _pattern(where: str, row: Mapping[str, Any]) -> re.Pattern[str] | None:
    try:
        return re.compile(row["regex"]) if row.get("regex") else None
    except (re.error, TypeError) as error:
        raise UsageError(f"{where}: regex: {error}") from None


def capability(
    tasks: Sequence[Task], before: Sequence[Reply | Failure], after: Sequence[Reply | Failure]
) -> dict[str, Any]:
    """Compare right answers before and after, paired; what is missing on either side is counted apart.

    Returns:
        ``before`` and ``after`` (rates over the pairs), ``difference`` with ``interval``, ``pairs``,
        ``failed``, and ``lost``: questions that only the model before answers right, the first few.
    """
    both = [
        (task, task.right(b.text), task.right(a.text))
        for task, b, a in zip(tasks, before, after, strict=True)
        if isinstance(b, Reply) and isinstance(a, Reply)
    ]
    was, now = [b for _, b, _ in both], [a for _, _, a in both]
    prompts = np.array([task.prompt for task, _, _ in both])
    repeated = len(set(prompts)) < len(prompts)
    found = paired_difference(was, now, np.random.default_rng(0), prompts if repeated else None)
    return {
        "before": _rate(was), "after": _rate(now), "difference": found.value,
        "interval": to_jsonable(found.interval), "pairs": len(both), "failed": len(tasks) - len(both),
        "lost": [task.prompt for task, b, a in both if b and not a][:SHOWN],
    }  # fmt: skip


def _rate(right: Sequence[bool]) -> dict[str, Any]:
    found = rate(sum(right), len(right))
    return {"value": found.value, "hits": found.hits, "n": found.n, "interval": to_jsonable(found.interval)}
