"""Columns of Parquet files kept in memory, where searching and picking rows takes milliseconds.

The newest used stay, up to a room that all share; a file that would take too much of it is not kept, and is
read row group by row group each time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

ROOM = 300_000_000
"""Bytes of columns that are kept."""


class Columns:
    """Tables in memory, for several threads."""

    def __init__(self, room: int = ROOM) -> None:
        """Keep at most ``room`` bytes; nothing is read yet."""
        self._room = room
        self._lock = threading.Lock()
        self._tables: dict[tuple[Path, int], pa.Table] = {}

    def blocks(self, path: Path, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Yield a file's rows with the number of the first: all at once where there is room for them.

        A column that the file lacks is null.

        Raises:
            UsageError: it is no Parquet file.
        """
        if size(path, names) <= self._room // 2:
            yield 0, self._table(path, names)
            return
        start = 0
        for block in _groups(path, names):
            yield start, block
            start += len(block)

    def _table(self, path: Path, names: Sequence[str]) -> pa.Table:
        import pyarrow as pa

        key = (path, path.stat().st_mtime_ns)
        with self._lock:
            table = self._tables.pop(key, None)
            if table is None:
                table = pa.concat_tables(_groups(path, names)).combine_chunks()
            self._tables[key] = table
            while sum(each.nbytes for each in self._tables.values()) > self._room and len(self._tables) > 1:
                del self._tables[next(iter(self._tables))]
            return table


def size(path: Path, names: Sequence[str]) -> int:
    """Tell how many bytes columns take once they are read.

    Raises:
        UsageError: it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        told = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file ({error})") from None
    groups = (told.row_group(i) for i in range(told.num_row_groups))
    columns = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema in names)


def _groups(path: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the row groups of a file, each with all ``names``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        some = [name for name in names if name in file.schema_arrow.names]
        for group in range(max(1, file.num_row_groups)):
            table = file.read_row_group(group, some) if file.num_row_groups else file.read(some)
            columns = [table[n] if n in some else pa.nulls(len(table), pa.string()) for n in names]
            yield pa.table(dict(zip(names, columns, strict=True)))
