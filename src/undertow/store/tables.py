"""Files written whole or not at all: Parquet tables, fp16 shards, JSON; and values turned into JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.text import redact

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
ROW_GROUP = 4_096
"""Rows written together where a table comes in parts."""
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it, then put it in place of ``path``.

    A kill at any moment leaves the old file or the new one. The temporary name ends in ``.tmp``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _sync_folder(path.parent)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    replace_atomically(path, lambda temporary: temporary.write_bytes(data))


def json_text(value: object, ascii_only: bool = False) -> str:
    """Format :func:`to_jsonable` of ``value`` as our files are: indented JSON, secrets struck out."""
    text = redact(json.dumps(to_jsonable(value), indent=2, ensure_ascii=ascii_only, allow_nan=False))
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def atomic_write_json(path: Path, value: object) -> None:
    """Write :func:`json_text` of ``value`` as UTF-8, whole or not at all."""
    atomic_write_bytes(path, json_text(value).encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON ({error})") from None


def write_table(table: pa.Table, path: Path, group: int | None = None) -> None:
    """Write a table as zstd Parquet, whole or not at all, in row groups of ``group`` rows where given."""
    import pyarrow.parquet as pq

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary, compression="zstd", row_group_size=group)

    replace_atomically(path, write)


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables one after another as one zstd Parquet file, whole or not at all.

    At most a row group of them, :data:`ROW_GROUP` rows and what the last table has over, is in memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            waiting: list[pa.Table] = []
            for table in tables:
                waiting.append(table)
                if sum(map(len, waiting)) >= ROW_GROUP:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
            if waiting:
                writer.write_table(pa.concat_tables(waiting))

    replace_atomically(path, write)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, all columns or the named ones.

    Raises:
        UsageError: it is missing, no Parquet, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            missing = set(columns or ()) - set(file.schema_arrow.names)
            if missing:
                raise UsageError(
                    f"{path}: no column {sorted(missing)[0]!r}; it has {file.schema_arrow.names}"
                )
            return file.read(columns=None if columns is None else list(columns))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except pa.ArrowInvalid as error:
        raise UsageError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def write_shard(rows: NDArray[np.floating], path: Path) -> None:
    """Write an (n, d) array as fp16 ``.npy``, whole or not at all.

    Raises:
        ValueError: a value does not fit into fp16 or is not finite.
    """
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(rows, dtype=np.float16)
    if not np.isfinite(half).all():
        raise ValueError("a shard holds finite values within ±65504 only")

    def save(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            np.save(handle, half, allow_pickle=False)

    replace_atomically(path, save)


def read_shard(path: Path) -> NDArray[np.float16]:
    """Map an fp16 ``.npy`` into memory, read-only; nothing is copied until it is touched.

    Raises:
        UsageError: it is missing, damaged, or not fp16.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except ValueError as error:
        raise UsageError(f"{path}: not a readable shard ({error})") from None
    if rows.dtype != np.float16:
        raise UsageError(f"{path}: holds {rows.dtype}, a shard holds float16")
    half: NDArray[np.float16] = rows
    return half


def to_jsonable(value: object) -> Any:
    """Turn dataclasses, pydantic models, NumPy values, enums, paths, tuples and sets into JSON values.

    A number that is not finite becomes ``null``: what is undefined is missing, never a number.

    Raises:
        TypeError: the value, or something in it, is of another kind.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _container_to_jsonable(value)


def _container_to_jsonable(value: object) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.ndarray):
        return to_jsonable(value.tolist())
    if isinstance(value, Mapping):
        return {_key(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((to_jsonable(item) for item in value), key=json.dumps)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return to_jsonable(value.model_dump(mode="python"))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _key(key: object) -> str:
    if isinstance(key, Enum):
        key = key.value
    if not isinstance(key, (str, int)):
        raise TypeError(f"a JSON key is a string, not {type(key).__name__}")
    return str(key)


def from_jsonable(kind: type[T], value: object) -> T:
    """Build a record (nested dataclasses, tuples, literals) from the JSON that :func:`to_jsonable` made.

    Raises:
        UsageError: the JSON does not have the record's shape.
    """
    import pydantic

    try:
        return pydantic.TypeAdapter(kind).validate_python(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"not a {kind.__name__}: {where}: {first['msg']}") from None
