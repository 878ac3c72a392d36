"""Read fine-tuning data of the usual shapes into one table of id, source, prompt, response.

Parquet, JSONL (also gzipped) and folders written by Hugging Face ``datasets``; columns prompt/response or
``messages``. The input is never changed. Whatever is wrong is told in one line with the file and the row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.data.messages import split_messages
from undertow.data.read import RawTable, needs_columns, read_any, seen_columns
from undertow.data.signal import rows_of
from undertow.errors import UsageError
from undertow.store.run import file_hash

COLUMNS = ("id", "source", "prompt", "response")
"""Columns of every example table; ``history`` (JSON list of role and content) follows where rows have it."""


@dataclass(frozen=True)
class ExampleTable:
    """Training rows, as read."""

    table: pa.Table
    """Columns of :data:`COLUMNS`, strings without nulls, and ``history`` where there are earlier turns."""
    path: Path
    """Where it was read from."""
    hash: str
    """Hash of the file's content, or of a folder's names and contents."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → rows left out; empty unless ``skip_bad``."""

    def __len__(self) -> int:
        return len(self.table)


def load_examples(path: Path, *, skip_bad: bool = False) -> ExampleTable:
    """Read a data set.

    Args:
        path: ``.parquet``, ``.jsonl`` or ``.jsonl.gz``, a folder of a Hugging Face data set, or the run
            directory of a fix.
        skip_bad: Leave rows without text and unreadable lines out, and count them, instead of stopping.

    Returns:
        The rows in their order; ids are the ``id`` column, or row numbers from 0.

    Raises:
        UsageError: Missing, empty or unreadable file, wrong columns, a row without text, a history that is
            no list of turns, a repeated id.
    """
    path = rows_of(Path(path))
    raw = read_any(path, skip_bad=skip_bad)
    columns = {"id": _ids(raw), "source": _optional(raw, "source"), **_turns(raw)}
    table, skipped = _without_blank(pa.table(columns), raw, skip_bad)
    _refuse_repeated(table["id"], columns["id"], raw)
    return ExampleTable(table.combine_chunks(), path, file_hash(path), {**raw.skipped, **skipped})


def _turns(raw: RawTable) -> dict[str, pa.ChunkedArray | pa.Array]:
    names = raw.table.column_names
    if {"prompt", "response"} <= set(names):
        turns = {name: _strings(raw, name) for name in ("prompt", "response")}
        history = _told(raw) if "history" in names else None
    elif "messages" in names:
        split = split_messages(raw.table["messages"], raw.path)
        turns, history = {"prompt": split.prompts, "response": split.responses}, split.history
    else:
        raise needs_columns(raw.path, names if raw.lines is None else seen_columns(raw.path))
    if history is not None:
        turns["history"] = pc.fill_null(history, "[]")
    return turns


def _strings(raw: RawTable, name: str) -> pa.ChunkedArray:
    """A column as valid UTF-8 text, nulls kept."""
    column = raw.table[name]
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    textual = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(fits(kind) for fits in textual):
        raise UsageError(f"{raw.path}: column {name} holds {str(kind)[:60]}, not text")
    try:
        column = column.cast(pa.string())
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"{raw.path}: column {name} is not valid UTF-8; write it again as UTF-8 text"
        ) from error
    return column


def _told(raw: RawTable) -> pa.ChunkedArray:
    """The column history: JSON lists of role and content, nulls kept.

    Raises:
        UsageError: a row holds something else.
    """
    column = _strings(raw, "history")
    encoded = column.combine_chunks().dictionary_encode()
    bad = [i for i, text in enumerate(encoded.dictionary.to_pylist()) if not _is_history(text)]
    if bad:
        row = int(np.isin(np.asarray(encoded.indices.fill_null(-1)), bad).argmax())
        where = _where(row, raw.lines)
        raise UsageError(f"{raw.path}: history of {where} is no JSON list of role and content")
    return column


def _is_history(text: str) -> bool:
    try:
        turns = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return False
    keys = {"role", "content"}
    return isinstance(turns, list) and all(isinstance(turn, dict) and keys <= turn.keys() for turn in turns)


def _optional(raw: RawTable, name: str) -> pa.ChunkedArray:
    if name not in raw.table.column_names:
        return pa.chunked_array([pa.array([""] * len(raw.table), pa.string())])
    return pc.fill_null(_scalars(raw, name), "")


def _scalars(raw: RawTable, name: str) -> pa.ChunkedArray:
    column = raw.table[name]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.string())
    return _strings(raw, name)


def _ids(raw: RawTable) -> pa.ChunkedArray | pa.Array:
    if "id" not in raw.table.column_names:
        return pa.array(np.arange(len(raw.table))).cast(pa.string())
    ids = _scalars(raw, "id")
    if ids.null_count:
        row = int(np.asarray(ids.is_null()).argmax())
        raise UsageError(f"{raw.path}: {_where(row, raw.lines)} has no id; give every row one, or none")
    return ids


def _where(row: int, lines: NDArray[np.int64] | None) -> str:
    return f"row {row} (the first is 0)" if lines is None else f"line {lines[row]}"


def _blank(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    empty = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(column)), 0)
    return np.asarray(pc.fill_null(empty, True), np.bool_)


def _missing(raw: RawTable, name: str) -> str:
    if "messages" not in raw.table.column_names or {"prompt", "response"} <= set(raw.table.column_names):
        return f"no text in {name}"
    turn = "user turn before its last message" if name == "prompt" else "assistant answer as its last message"
    return f"no {turn}"


def _without_blank(table: pa.Table, raw: RawTable, skip_bad: bool) -> tuple[pa.Table, dict[str, int]]:
    good = np.ones(len(table), np.bool_)
    skipped: dict[str, int] = {}
    for name in ("prompt", "response"):
        blank = _blank(table[name]) & good
        if blank.any() and not skip_bad:
            where = _where(int(blank.argmax()), raw.lines)
            raise UsageError(f"{raw.path}: {where} has {_missing(raw, name)}; mend it or use --skip-bad")
        if blank.any():
            skipped[f"no {name}"] = int(blank.sum())
            good &= ~blank
    if not good.any():
        raise UsageError(f"{raw.path}: no rows with a prompt and a response")
    return (table if good.all() else table.filter(pa.array(good))), skipped


def _refuse_repeated(ids: pa.ChunkedArray, every: pa.ChunkedArray | pa.Array, raw: RawTable) -> None:
    """Name an id that stands twice, and its first two rows among ``every`` id of the file."""
    counts = pc.value_counts(ids)
    if pc.max(counts.field("counts")).as_py() == 1:
        return
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0]
    first, second = (int(row) for row in np.flatnonzero(np.asarray(pc.equal(every, repeated)))[:2])
    where = f"{_where(first, raw.lines)} and {_where(second, raw.lines)}"
    raise UsageError(f"{raw.path}: {where} have the same id {repeated.as_py()[:60]!r}; ids must be unique")
