"""Write training rows, whole or not at all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa

from undertow.data.load import ExampleTable
from undertow.errors import UsageError
from undertow.store.tables import replace_atomically, write_table


def write_examples(rows: ExampleTable | pa.Table, path: Path) -> None:
    """Write rows as Parquet or JSONL, by the file's ending.

    Raises:
        UsageError: The ending is none of ``.parquet``, ``.jsonl``, ``.jsonl.gz``.
    """
    table = rows.table if isinstance(rows, ExampleTable) else rows
    name = path.name.lower()
    if name.endswith(".parquet"):
        write_table(table, path)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        replace_atomically(
            path, lambda temporary: _write_lines(table, temporary, packed=name.endswith(".gz"))
        )
    else:
        raise UsageError(f"{path}: rows are written as .parquet, .jsonl or .jsonl.gz")


def _write_lines(table: pa.Table, path: Path, *, packed: bool) -> None:
    with gzip.GzipFile(path, "wb", mtime=0) if packed else path.open("wb") as out:
        for batch in table.to_batches(max_chunksize=10_000):
            lines = (json.dumps(row, ensure_ascii=False) for row in batch.to_pylist())
            out.write("".join(line + "\n" for line in lines).encode())
