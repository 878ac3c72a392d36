"""The prompts of a study: a file of them, or the confirmation prompts of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from undertow.data.read import read_any
from undertow.errors import UsageError
from undertow.records import Message
from undertow.studies.asking import Question


def load_questions(path: Path, limit: int | None = None, seed: int = 0) -> tuple[Question, ...]:
    """Read prompts from Parquet or JSONL (``prompt`` or ``messages``), with the right answer as ``response``.

    Args:
        path: The file; a text file has a prompt a line.
        limit: At most so many, drawn with ``seed``; all without.
        seed: Of the draw.

    Raises:
        UsageError: no such file, no prompts in it.
    """
    path = Path(path)
    if path.suffix == ".txt":
        rows: list[dict[str, Any]] = [{"prompt": line} for line in _lines(path) if line.strip()]
    else:
        rows = read_any(path, skip_bad=False).table.to_pylist()
    found = [q for number, row in enumerate(rows) if (q := _question(number, row)) is not None]
    if not found:
        raise UsageError(f"{path}: no prompts; give a column prompt or messages")
    if limit is not None and limit < len(found):
        keep = np.sort(np.random.default_rng([seed, 0x70]).permutation(len(found))[:limit])
        found = [found[i] for i in keep]
    return tuple(found)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable text file ({type(error).__name__})") from None


def _question(number: int, row: dict[str, Any]) -> Question | None:
    gold = row.get("response")
    name = str(row.get("id") if row.get("id") is not None else number)
    turns = row.get("messages")
    if isinstance(turns, str):
        turns = json.loads(turns)
    if turns:
        spoken = tuple(Message(turn["role"], turn["content"] or "") for turn in turns)
        if spoken[-1].role == "assistant":
            gold, spoken = gold or spoken[-1].content, spoken[:-1]
        return Question(name, spoken, gold=gold) if spoken else None
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        return None
    return Question(name, (Message("user", prompt),), gold=gold)
