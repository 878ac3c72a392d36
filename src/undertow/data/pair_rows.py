"""The rows behind pairs, with every column of their file: what a fix writes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from undertow.data import pairs as shapes
from undertow.data.preferences import WRITERS, PreferenceData
from undertow.data.read import read_any

_ALIASES = {"prompt": shapes.PROMPTS[1:], "chosen": shapes.CHOSEN[1:], "rejected": shapes.REJECTED[1:]}
"""Columns that were read in a text's place, where the text has no column of its own."""


def whole_rows(read: PreferenceData) -> tuple[pa.Table, dict[str, str]]:
    """Return the n pairs as they were read, beside all other columns of their file.

    Args:
        read: What ``load_preferences`` gave.

    Returns:
        Table with ``id``, ``prompt``, ``chosen``, ``rejected`` and, where there is one, ``history`` as text;
        of rated completions also ``margin`` and who wrote the two. And the columns that could not be kept,
        each with the reason.
    """
    table = _every_column(read).take(pa.array(read.at))
    left: dict[str, str] = {}
    if shapes.COMPLETIONS in table.column_names and not set(shapes.CHOSEN) & set(table.column_names):
        table, left[shapes.COMPLETIONS] = _of_completions(table, read), "best and worst became the pair"
    for name, others in _ALIASES.items():
        if name not in table.column_names:
            table = table.drop_columns([other for other in others if other in table.column_names])
        table = _set(table, name, read.table[name])
    if read.table["history"].null_count < len(read):
        table = _set(table, "history", read.table["history"])
    if "id" not in table.column_names or table["id"].null_count:
        table = _set(table, "id", read.table["id"])
    return table.combine_chunks(), left


def _of_completions(table: pa.Table, read: PreferenceData) -> pa.Table:
    told = dict(zip(("margin", *WRITERS), ("margin", "chosen_writer", "rejected_writer"), strict=True))
    for name, column in told.items():
        if name not in table.column_names and read.table[column].null_count < len(read):
            table = table.append_column(name, read.table[column])
    return table.drop_columns([shapes.COMPLETIONS])


def _set(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def _every_column(read: PreferenceData) -> pa.Table:
    """Read all columns of the file; what JSON holds gets the type that all its values share, else text."""
    of_json = False

    def as_json(rows: list[dict[str, Any]], numbers: list[int], path: Path) -> dict[str, pa.Array]:
        nonlocal of_json
        of_json = True
        names = dict.fromkeys(name for row in rows for name in row)
        return {
            name: pa.array([json.dumps(row[name]) if name in row else None for row in rows]) for name in names
        }

    table = read_any(read.path, skip_bad=False, columns=as_json).table
    if not of_json:
        return table
    return pa.table({_valid(name): _typed(table[name].to_pylist()) for name in table.column_names})


def _typed(written: list[str | None]) -> pa.Array:
    values = [None if each is None else json.loads(each) for each in written]
    try:
        found = pa.array(values)
        if _storable(found.type):
            return found
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        pass
    return pa.array([None if (text := shapes.scalar(value)) is None else _valid(text) for value in values])


def _storable(kind: pa.DataType) -> bool:
    """Whether Parquet can hold it: no object without a key, at any depth."""
    parts = [kind.field(i).type for i in range(kind.num_fields)]
    return not (pa.types.is_struct(kind) and not parts) and all(map(_storable, parts))


def _valid(text: str) -> str:
    """Lone surrogates, which JSON can write and UTF-8 cannot, become question marks."""
    return text.encode("utf-8", "replace").decode()
