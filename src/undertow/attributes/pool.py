"""The attributes a search draws from: those of an index, or of a file of sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.local import LocalExtractor
from undertow.attributes.shapes import FORM
from undertow.attributes.surface import REACH
from undertow.errors import UsageError
from undertow.records import Message
from undertow.store.tables import read_table

UNASKED = (FORM, REACH)
"""Families that tell rows apart and that nobody asks for: shapes, and numbers of words."""


@dataclass(frozen=True)
class AttributePool:
    """Sentences that are true of queries, each with a weight."""

    texts: list[str]
    """Distinct sentences, (m,)."""
    weights: NDArray[np.float64]
    """Positive: rows that hold it, or what the file says, (m,)."""
    extractor: LocalExtractor | None = None
    """Says which hold for a prompt; ``None`` for sentences that only a model can check."""
    prompts: Sequence[str | tuple[Message, ...]] | None = None
    """Prompts they were extracted from; with earlier turns, the conversation that the prompt ends."""

    def __len__(self) -> int:
        return len(self.texts)


def load_pool(path: Path) -> AttributePool:
    """Open the pool of an index directory, or of a JSONL file of ``text`` and optional ``weight``.

    Raises:
        UsageError: Nothing there, no index, or a line without text; the message names it.
    """
    if path.is_dir():
        return _index_pool(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; give an index or a JSONL file of attributes")
    return _file_pool(path)


def _index_pool(path: Path) -> AttributePool:
    table_path = path / "query_attributes.parquet"
    if not (path / "manifest.json").is_file() or not table_path.is_file():
        raise UsageError(f"{path}: no finished index; run undertow index again with this --out")
    table = read_table(table_path, ["text", "count", "kind"])
    counts = np.asarray(table["count"], np.float64)
    texts = table["text"].to_pylist()
    asked = np.array([kind not in UNASKED for kind in table["kind"].to_pylist()], np.bool_)
    held = np.flatnonzero((counts > 0) & asked)
    prompts = _questions(path / "examples.parquet")
    folder = path / "extractor"
    extractor = LocalExtractor.load(folder) if folder.is_dir() else None
    return AttributePool([texts[i] for i in held], counts[held], extractor, prompts)


def _questions(path: Path) -> list[str | tuple[Message, ...]]:
    import pyarrow.parquet as pq

    if "history" not in pq.read_schema(path).names:
        return list(read_table(path, ["prompt"])["prompt"].to_pylist())
    rows = read_table(path, ["prompt", "history"]).to_pylist()
    return [_question(row["prompt"], row["history"]) for row in rows]


def _question(prompt: str, history: str) -> str | tuple[Message, ...]:
    """Join a prompt with its history; system turns are left out, for a search gives one to all."""
    said = [] if history == "[]" else json.loads(history)
    turns = [Message(t["role"], t["content"]) for t in said if t["role"] in ("user", "assistant")]
    return (*turns, Message("user", prompt)) if turns else prompt


def _file_pool(path: Path) -> AttributePool:
    weights: dict[str, float] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable text file ({type(error).__name__})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            text, weight = _entry(line, path, number)
            weights[text] = weights.get(text, 0.0) + weight
    if not weights:
        raise UsageError(f"{path}: no attributes in the file; write one JSON object with text a line")
    return AttributePool(list(weights), np.array(list(weights.values())))


def _entry(line: str, path: Path, number: int) -> tuple[str, float]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{path}: line {number} is not JSON ({error})") from error
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{path}: line {number} has no text")
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise UsageError(f"{path}: line {number}: weight must be a positive number, not {weight!r}")
    return text.strip(), float(weight)
