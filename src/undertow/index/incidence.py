"""Which attribute holds for which example: a boolean n × m matrix, stored by row and by column.

Both orders are kept, memory-mapped, because the offline stages write rows and the trace reads columns: a
query's attributes are some hundred columns of a matrix of millions of rows, and each is one contiguous slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError

if TYPE_CHECKING:
    import scipy.sparse as sp

Ints = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Incidence:
    """A boolean sparse matrix of ``n`` examples × ``m`` attributes."""

    n: int
    """Examples (rows)."""
    m: int
    """Attributes (columns)."""
    row_pointers: Ints
    """(n + 1,) offsets into ``row_columns``."""
    row_columns: Ints
    """(nnz,) ascending column ids of each row."""
    column_pointers: Ints
    """(m + 1,) offsets into ``column_rows``."""
    column_rows: Ints
    """(nnz,) ascending row ids of each column."""

    @classmethod
    def from_matrix(cls, matrix: Any) -> Incidence:
        """Take the non-zero pattern of any SciPy sparse matrix."""
        import scipy.sparse as sp

        rows: Any = sp.csr_array(matrix, dtype=np.bool_)
        rows.eliminate_zeros()
        rows.sum_duplicates()
        columns = rows.tocsc()
        columns.sort_indices()
        return cls(
            n=rows.shape[0],
            m=rows.shape[1],
            row_pointers=rows.indptr.astype(np.int64),
            row_columns=rows.indices.astype(np.int32),
            column_pointers=columns.indptr.astype(np.int64),
            column_rows=columns.indices.astype(np.int32),
        )

    @classmethod
    def merge(cls, parts: Sequence[Path], m: int, folder: Path) -> Incidence:
        """Join the row shards that :meth:`save_rows` wrote, in their order, into ``folder``.

        Holds one shard at a time: rows are copied, and each shard's part of a column goes to the place that
        the counts of the shards before it leave.
        """
        shards = [_Rows.load(part) for part in parts]
        counts = np.zeros((len(shards), m), np.int32)
        for held, shard in zip(counts, shards, strict=True):
            held += np.bincount(shard.columns, minlength=m).astype(np.int32)
        column_pointers = np.concatenate([[0], np.cumsum(counts.sum(axis=0, dtype=np.int64))])
        row_pointers = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(s.pointers) for s in shards]))])
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "row_pointers.npy", row_pointers.astype(np.int64), allow_pickle=False)
        np.save(folder / "column_pointers.npy", column_pointers, allow_pickle=False)
        row_columns = _new(folder / "row_columns.npy", int(column_pointers[-1]))
        column_rows = _new(folder / "column_rows.npy", int(column_pointers[-1]))
        free, first, done = column_pointers[:-1].copy(), 0, 0
        for shard, held in zip(shards, counts, strict=True):
            size = len(shard.columns)
            row_columns[done : done + size] = shard.columns
            rows, places = shard.by_column(held, free)
            column_rows[places] = rows + first
            free += held
            done, first = done + size, first + len(shard.pointers) - 1
        _close(row_columns)
        _close(column_rows)
        return cls.load(folder)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(m,) examples each attribute holds for."""
        return np.diff(self.column_pointers).astype(np.int64)

    @property
    def nnz(self) -> int:
        """(Example, attribute) pairs."""
        return len(self.column_rows)

    def rows_of(self, column: int) -> Ints:
        """Return the ascending row ids that attribute ``column`` holds for."""
        return self.column_rows[self.column_pointers[column] : self.column_pointers[column + 1]]

    def columns_of(self, row: int) -> Ints:
        """Return the ascending attribute ids of example ``row``."""
        return self.row_columns[self.row_pointers[row] : self.row_pointers[row + 1]]

    def gather(self, columns: Ints) -> tuple[Ints, NDArray[np.int64]]:
        """Return the row ids of several columns in sequence, and for each the position of its column."""
        starts, stops = self.column_pointers[columns], self.column_pointers[np.asarray(columns) + 1]
        rows = np.concatenate(
            [self.column_rows[a:b] for a, b in zip(starts, stops, strict=True)] or [np.empty(0, np.int32)]
        )
        return rows, np.repeat(np.arange(len(columns)), stops - starts)

    def any_of(self, columns: Sequence[int] | Ints) -> NDArray[np.bool_]:
        """Return an (n,) mask of the rows that at least one of ``columns`` holds for."""
        mask = np.zeros(self.n, dtype=np.bool_)
        for column in columns:
            mask[self.rows_of(int(column))] = True
        return mask

    def matrix(self) -> sp.csr_array:
        """Return the whole matrix as a SciPy csr array of booleans; allocates nnz bytes."""
        import scipy.sparse as sp

        ones = np.ones(self.nnz, dtype=np.bool_)
        return sp.csr_array((ones, self.row_columns, self.row_pointers), shape=(self.n, self.m))

    def save_rows(self, folder: Path) -> None:
        """Write the rows alone, as a shard for :meth:`merge`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "pointers.npy", self.row_pointers, allow_pickle=False)
        np.save(folder / "columns.npy", self.row_columns, allow_pickle=False)

    def save(self, folder: Path) -> None:
        """Write the four arrays as ``.npy`` files into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("row_pointers", "row_columns", "column_pointers", "column_rows"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Incidence:
        """Map the arrays of ``folder`` into memory, read-only.

        Raises:
            UsageError: an array is missing or damaged.
        """
        names = ("row_pointers", "row_columns", "column_pointers", "column_rows")
        try:
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names
            }
        except (OSError, ValueError) as error:
            raise UsageError(f"{folder}: damaged ({error}); build the index again with --fresh") from error
        n, m = len(arrays["row_pointers"]) - 1, len(arrays["column_pointers"]) - 1
        return cls(n=n, m=m, **arrays)


@dataclass(frozen=True, slots=True)
class Beside:
    """Two incidences of the same examples side by side, neither copied."""

    left: Incidence
    """Its columns come first."""
    right: Incidence

    @property
    def n(self) -> int:
        """Examples."""
        return self.left.n

    @property
    def m(self) -> int:
        """Attributes of both."""
        return self.left.m + self.right.m

    @property
    def counts(self) -> NDArray[np.int64]:
        """(m,) examples each attribute holds for."""
        return np.concatenate([self.left.counts, self.right.counts])

    def rows_of(self, column: int) -> Ints:
        """Return the ascending row ids that attribute ``column`` holds for."""
        first = self.left.m
        return self.left.rows_of(column) if column < first else self.right.rows_of(column - first)

    def gather(self, columns: Ints) -> tuple[Ints, NDArray[np.int64]]:
        """Return the row ids of several columns in sequence, and for each the position of its column."""
        parts = [self.rows_of(int(column)) for column in columns]
        rows = np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32)
        return rows, np.repeat(np.arange(len(parts)), [len(part) for part in parts])


@dataclass(frozen=True, slots=True)
class _Rows:
    """One shard of rows, mapped."""

    pointers: Ints
    columns: Ints

    @classmethod
    def load(cls, folder: Path) -> _Rows:
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pointers", "columns")))

    def by_column(self, held: Ints, free: Ints) -> tuple[Ints, Ints]:
        """Return this shard's rows column by column, and the place of each among all."""
        rows = np.repeat(np.arange(len(self.pointers) - 1, dtype=np.int32), np.diff(self.pointers))
        rows = rows[np.argsort(self.columns, kind="stable")]
        before = np.cumsum(held) - held
        return rows, np.arange(len(rows)) + np.repeat(free - before, held)


def _new(path: Path, size: int) -> NDArray[np.int32]:
    """Make an ``.npy`` file to be filled in place; an empty one cannot be mapped."""
    if not size:
        np.save(path, np.empty(0, np.int32), allow_pickle=False)
        return np.empty(0, np.int32)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.int32, shape=(size,))


def _close(array: NDArray[np.int32]) -> None:
    if isinstance(array, np.memmap):
        array.flush()
