"""Files of rows into raw Arrow tables, with the faults of each format told in one line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undertow.errors import UsageError

ACCEPTED = ".parquet, .jsonl, .jsonl.gz, or a folder of a Hugging Face data set"
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""How conversations are kept, whatever they were written as."""

UNREADABLE = "unreadable row"
Columns = Callable[[list[dict[str, Any]], list[int], Path], dict[str, pa.Array]]
"""Turns JSON objects, their line numbers and the file into columns of equal length."""
_BLOCK = 20_000
_NUMBER = "#"
"""Column of nothing that gives a block without known columns its length."""
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")


@dataclass(frozen=True)
class RawTable:
    """Rows as they stand in the file."""

    table: pa.Table
    """All columns of Parquet; of JSON the ones that undertow knows."""
    path: Path
    """The file or folder."""
    lines: NDArray[np.int64] | None = None
    """Line of each row, from 1; ``None`` where rows are not lines."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → lines left out."""


def read_any(path: Path, *, skip_bad: bool, columns: Columns | None = None) -> RawTable:
    """Read a file or folder of rows.

    Args:
        path: File or folder.
        skip_bad: Count unreadable lines and go on.
        columns: What JSON objects become; default: the columns of training examples.

    Raises:
        UsageError: Missing, empty, unreadable, or of a kind that is not accepted.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if path.is_dir():
        _refuse_run(path)
        return _read_folder(path, skip_bad, columns or _columns)
    if not path.stat().st_size:
        raise UsageError(f"{path}: the file is empty")
    return _read_file(path, skip_bad, columns or _columns)


def _refuse_run(path: Path) -> None:
    """A run's folder holds tables of many kinds, none of which is a data set."""
    manifest = path / "manifest.json"
    try:
        told = json.loads(manifest.read_text("utf-8")) if manifest.is_file() else None
    except (OSError, ValueError):
        return
    if isinstance(told, dict) and "verb" in told:
        raise UsageError(f"{path}: is a run of `undertow {told['verb']}`, not a data set; give its data")


def _read_file(path: Path, skip_bad: bool, columns: Columns) -> RawTable:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return RawTable(_read_parquet(path), path)
    if name.endswith(".arrow"):
        return RawTable(_read_arrow(path), path)
    if name.endswith(_JSON_ENDINGS):
        return _read_json(path, skip_bad, columns)
    raise UsageError(f"{path}: not a kind of data file that can be read; give {ACCEPTED}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file ({_one_line(error)})") from error


def _read_arrow(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            try:
                return pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                source.seek(0)
                return pa.ipc.open_file(source).read_all()
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Arrow file ({_one_line(error)})") from error


def _read_folder(path: Path, skip_bad: bool, columns: Columns) -> RawTable:
    folder = _split_folder(path)
    for pattern in ("*.arrow", "*.parquet", "*.jsonl", "*.jsonl.gz"):
        files = sorted(file for file in folder.rglob(pattern) if not file.name.startswith(("cache-", ".")))
        if files:
            break
    else:
        raise UsageError(f"{path}: no data files in the folder; give {ACCEPTED}")
    parts = [_read_file(file, skip_bad, columns) for file in files]
    if len(parts) == 1:
        return RawTable(parts[0].table, files[0], parts[0].lines, parts[0].skipped)
    skipped: dict[str, int] = {}
    for part in parts:
        for reason, count in part.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    try:
        table = pa.concat_tables([part.table for part in parts], promote_options="default")
    except pa.ArrowException as error:
        raise UsageError(
            f"{path}: the files of the folder have different columns ({_one_line(error)})"
        ) from error
    return RawTable(table, path, None, skipped)


def _split_folder(path: Path) -> Path:
    """The folder of the train split, or of the only split, of a saved ``DatasetDict``."""
    listing = path / "dataset_dict.json"
    if not listing.is_file():
        return path
    try:
        splits = list(json.loads(listing.read_text("utf-8"))["splits"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{listing}: not a list of splits ({_one_line(error)})") from error
    if "train" in splits:
        return path / "train"
    if len(splits) == 1:
        return path / str(splits[0])
    found = ", ".join(map(str, splits))
    raise UsageError(f"{path}: several splits and none is train; give one of {found} as folder")


def _lines(path: Path) -> Iterator[bytes]:
    if path.name.lower().endswith(".gz"):
        try:
            with gzip.open(path, "rb") as packed:
                yield from packed
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{path}: not a readable gzip file ({_one_line(error)})") from error
    else:
        with path.open("rb") as plain:
            yield from plain


def _read_json(path: Path, skip_bad: bool, columns: Columns) -> RawTable:
    """Read one JSON object a line; blank lines are nothing."""
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    blocks: list[dict[str, pa.Array]] = []
    bad = 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        row = _parse(line, path, number)
        if isinstance(row, str):
            if not skip_bad:
                raise UsageError(row)
            bad += 1
            continue
        rows.append(row)
        numbers.append(number)
        if len(rows) == _BLOCK:
            blocks.append(columns(rows, numbers[-len(rows) :], path))
            rows = []
    if rows:
        blocks.append(columns(rows, numbers[-len(rows) :], path))
    if not blocks:
        raise UsageError(f"{path}: no rows in the file")
    table = pa.concat_tables([pa.table(block) for block in blocks], promote_options="default")
    if columns is _columns and table.column_names == [_NUMBER]:
        raise needs_columns(path, seen_columns(path))
    skipped = {UNREADABLE: bad} if bad else {}
    plain = table.drop_columns([name for name in table.column_names if name == _NUMBER])
    return RawTable(plain, path, np.array(numbers, np.int64), skipped)


_KNOWN = {
    "id": pa.string(),
    "source": pa.string(),
    "prompt": pa.string(),
    "response": pa.string(),
    "messages": MESSAGES,
    "history": pa.string(),
}


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any] | str:
    """One row, or what is wrong with it in one line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"{path}: line {number} is not JSON ({_one_line(error)})"
    if not isinstance(row, dict):
        kind = "list" if isinstance(row, list) else type(row).__name__
        return f"{path}: line {number} is a {kind}, not an object; write one JSON object a line"
    return row


def needs_columns(path: Path, found: Sequence[str]) -> UsageError:
    """Say that a table holds no examples, and what it holds; pairs have a verb of their own."""
    pairs = {"chosen", "rejected"} <= set(found)
    hint = "; these are preference pairs, for `undertow prefs`" if pairs else ""
    names = ", ".join(found) or "none"
    return UsageError(f"{path}: needs columns prompt and response, or messages; found {names}{hint}")


def seen_columns(path: Path) -> list[str]:
    """Name the columns of a JSON file's first readable row."""
    for number, line in enumerate(_lines(path), start=1):
        row = _parse(line, path, number) if line.strip() else ""
        if isinstance(row, dict):
            return [str(name)[:40] for name in row][:20]
    return []


def _columns(rows: list[dict[str, Any]], numbers: list[int], path: Path) -> dict[str, pa.Array]:
    out: dict[str, pa.Array] = {_NUMBER: pa.nulls(len(rows))}
    for name, kind in _KNOWN.items():
        if not any(name in row for row in rows):
            continue
        convert = (
            conversation if name == "messages" else _scalar if name in ("id", "source", "history") else _text
        )
        values = [convert(row.get(name)) for row in rows]
        wrong = next((i for i, value in enumerate(values) if value is _WRONG), None)
        if wrong is not None:
            held = type(rows[wrong].get(name)).__name__
            raise UsageError(f"{path}: line {numbers[wrong]} holds {held} in {name}, not text")
        out[name] = pa.array(values, kind)
    return out


_WRONG: Any = object()


def _valid(text: str) -> str:
    """Lone surrogates, which JSON can write and UTF-8 cannot, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _text(value: Any) -> Any:
    return value if value is None else _valid(value) if isinstance(value, str) else _WRONG


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else _WRONG


def conversation(value: Any) -> list[dict[str, str | None]] | None:
    """Messages with their text as one string; content parts of other kinds than text are left out."""
    if not isinstance(value, list):
        return None
    turns = []
    for turn in value:
        if not isinstance(turn, dict):
            return None
        role, content = turn.get("role"), turn.get("content")
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "\n".join(part for part in parts if isinstance(part, str))
        turns.append(
            {
                "role": role if isinstance(role, str) else None,
                "content": _valid(content) if isinstance(content, str) else None,
            }
        )
    return turns
