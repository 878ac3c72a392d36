"""What stands around every candidate: a system prompt, earlier turns, a text before its own (paper App. C).

Target and reference are sent the same; the judge sees the candidate and the reply alone, so that a verdict
says what the reply is to the candidate, with context or without.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.errors import UsageError
from undertow.records import Message

if TYPE_CHECKING:
    from undertow.surf.config import SurfConfig

_TURN = 'write {"role": "user" or "assistant", "content": "…"}'


def framed(messages: Sequence[Message], config: SurfConfig) -> tuple[Message, ...]:
    """Put system prompt, earlier turns and preface before a candidate's messages."""
    system = (Message("system", config.system),) if config.system else ()
    before = tuple(Message(turn.role, turn.content) for turn in config.context)
    first, *rest = messages
    if config.preface:
        first = Message(first.role, f"{config.preface}\n\n{first.content}")
    return (*system, *before, first, *rest)


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        UsageError: it cannot be read, is not UTF-8, or is blank.
    """
    try:
        content = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable text file ({type(error).__name__})") from None
    if not content:
        raise UsageError(f"{path}: an empty file; write the text that shall stand before every candidate")
    return content


def read_context(path: Path | None) -> dict[str, Any]:
    """Read a context: turns of a conversation from ``.json`` (a list) or ``.jsonl``, else a text.

    Turns are user and assistant in turn, so that the candidate is the user's next: the in-context examples of
    App. C.1. A text is put before the candidate's first words.

    Returns:
        The values of ``context`` and ``preface`` of :class:`undertow.surf.config.SurfConfig`.

    Raises:
        UsageError: the file and the turn that is wrong.
    """
    if path is None:
        return {}
    content = read_text(path)
    if path.suffix not in (".json", ".jsonl"):
        return {"preface": content}
    lines = content.splitlines() if path.suffix == ".jsonl" else [content]
    read = [_json(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    turns = read if path.suffix == ".jsonl" else read[0]
    if not isinstance(turns, list) or not turns:
        raise UsageError(f"{path}: holds no list of turns; {_TURN}")
    for number, turn in enumerate(turns, start=1):
        _check(path, number, turn)
    if len(turns) % 2:
        raise UsageError(
            f"{path}: ends with a user's turn; the candidate is the user's, so end with an assistant's"
        )
    return {"context": [{"role": turn["role"], "content": turn["content"]} for turn in turns]}


def _json(path: Path, number: int, line: str) -> object:
    try:
        value: object = json.loads(line)
    except ValueError as error:
        where = f"line {number}" if path.suffix == ".jsonl" else "content"
        raise UsageError(f"{path}: {where} is not JSON ({error})") from None
    return value


def _check(path: Path, number: int, turn: object) -> None:
    role = ("assistant", "user")[number % 2]
    if not isinstance(turn, dict) or not isinstance(turn.get("content"), str) or not turn["content"].strip():
        raise UsageError(f"{path}: turn {number} has no content; {_TURN}")
    if turn.get("role") != role:
        raise UsageError(f"{path}: turn {number} must be the {role}'s, not {turn.get('role')!r}; {_TURN}")
