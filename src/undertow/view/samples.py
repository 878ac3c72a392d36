"""Text search over the samples of one run or of all: what was asked, what came back, how it was judged.

The texts of a run stay in memory as Arrow columns, where a search takes some tens of milliseconds per 100,000
samples; what is larger than the room for them is read from its file, row group by row group, each time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.view.folder import Entry, Folder

if TYPE_CHECKING:
    import pyarrow as pa

Outcome = Literal["", "violation", "clean", "failed"]
FILES = ("samples.parquet", "confirm_samples.parquet")
_SHOWN = 900
_ROOM = 300_000_000
"""Bytes of texts that are kept in memory."""
_TEXTS, _OTHERS = ("prompt", "response", "reason"), ("score", "violation", "failure", "finding", "phase")


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer and its verdict."""

    run: Entry
    """Where it lies."""
    file: str
    """One of :data:`FILES`."""
    number: int
    """Row in the file, from 0."""
    prompt: str
    """What was asked, or its beginning."""
    response: str
    """What came back, or its beginning; empty where the call failed."""
    reason: str
    """The judge's."""
    lengths: tuple[int, int]
    """Characters of prompt and response."""
    score: float | None
    """In [0, 100]; ``None`` where there is no verdict."""
    violation: bool | None
    """``None`` where there is no verdict."""
    failure: str
    """Why there is none."""
    phase: str
    """Of the run."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for."""

    words: str = ""
    """Text in prompt, response or reason; upper and lower case are one."""
    outcome: Outcome = ""
    """Only these."""
    finding: str = ""
    """Only samples of this finding."""


class Samples:
    """The samples of a folder's runs, for several threads."""

    def __init__(self, folder: Folder) -> None:
        """Take the folder; nothing is read yet."""
        self._folder = folder
        self._lock = threading.Lock()
        self._tables: dict[tuple[Path, int], pa.Table] = {}

    def search(
        self, runs: Iterable[Entry], asked: Asked, offset: int, limit: int
    ) -> tuple[int, list[Sample]]:
        """Find samples; returns how many there are in all, and ``limit`` of them from ``offset``.

        Raises:
            UsageError: a file of samples is damaged.
        """
        total, shown = 0, list[Sample]()
        for run, name, path in self._files(runs):
            for start, block in self._blocks(path):
                hits = _hits(block, asked)
                wanted = hits[max(0, offset - total) :][: limit - len(shown)]
                shown += [_sample(run, name, start + int(i), block, int(i), _SHOWN) for i in wanted]
                total += len(hits)
        return total, shown

    def one(self, run: Entry, name: str, number: int, limit: int) -> Sample | None:
        """Read one sample, each text up to ``limit`` characters; ``None`` where there is none."""
        path = self._folder.file(run, name) if name in FILES else None
        for start, block in self._blocks(path) if path is not None else ():
            if start <= number < start + len(block):
                return _sample(run, name, number, block, number - start, limit)
        return None

    def warm(self) -> None:
        """Read the texts of the newest runs, as far as there is room: the first search is fast too."""
        room = _ROOM
        for _, _, path in self._files(self._folder.runs.values()):
            with contextlib.suppress(UsageError):
                room -= _size(path)
                if room > 0:
                    next(self._blocks(path), None)

    def _files(self, runs: Iterable[Entry]) -> Iterator[tuple[Entry, str, Path]]:
        for run in runs:
            for name in FILES:
                path = self._folder.file(run, name)
                if path is not None:
                    yield run, name, path

    def _blocks(self, path: Path) -> Iterator[tuple[int, pa.Table]]:
        """Yield the rows of a file with the number of the first: all at once where there is room for them."""
        if _size(path) <= _ROOM // 2:
            yield 0, self._table(path)
            return
        start = 0
        for block in _groups(path):
            yield start, block
            start += len(block)

    def _table(self, path: Path) -> pa.Table:
        import pyarrow as pa

        key = (path, path.stat().st_mtime_ns)
        with self._lock:
            table = self._tables.pop(key, None)
            if table is None:
                table = pa.concat_tables(_groups(path)).combine_chunks()
            self._tables[key] = table
            while sum(each.nbytes for each in self._tables.values()) > _ROOM and len(self._tables) > 1:
                del self._tables[next(iter(self._tables))]
            return table


def _size(path: Path) -> int:
    """Tell how many bytes the columns of a file take once they are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        told = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file ({error})") from None
    return sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))


def _groups(path: Path) -> Iterator[pa.Table]:
    """Yield the row groups of a file under our column names; a column that it lacks is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*_TEXTS, *_OTHERS]
    with pq.ParquetFile(path) as file:
        there = set(file.schema_arrow.names)
        own = {"response": "reply"} if "response" not in there and "reply" in there else {}
        read = [own.get(name, name) for name in names]
        for group in range(max(1, file.num_row_groups)):
            some = [name for name in read if name in there]
            table = file.read_row_group(group, some) if file.num_row_groups else file.read(some)
            columns = [table[n] if n in there else pa.nulls(len(table), pa.string()) for n in read]
            yield pa.table(dict(zip(names, columns, strict=True)))


def _hits(block: pa.Table, asked: Asked) -> NDArray[np.int64]:
    """Tell which rows fit, ascending."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = np.ones(len(block), bool)
    if asked.words:
        held = np.zeros(len(block), bool)
        for name in _TEXTS:
            if pa.types.is_string(block[name].type):
                held |= _true(pc.match_substring(block[name], asked.words, ignore_case=True))
        mask &= held
    if asked.outcome == "failed":
        mask &= _true(pc.is_valid(block["failure"]))
    elif asked.outcome:
        judged = pa.types.is_boolean(block["violation"].type)
        mask &= _true(pc.equal(block["violation"], asked.outcome == "violation")) if judged else False
    if asked.finding:
        mask &= _true(pc.equal(block["finding"], asked.finding))
    return np.flatnonzero(mask)


def _true(found: Any) -> NDArray[np.bool_]:
    """Take a column of truth values; what is missing does not hold."""
    held: NDArray[np.bool_] = found.fill_null(False).to_numpy(zero_copy_only=False)
    return held


def _sample(run: Entry, name: str, number: int, block: pa.Table, at: int, limit: int) -> Sample:
    row = {column: block[column][at].as_py() for column in block.column_names}
    texts = {column: row[column] or "" for column in _TEXTS}
    score, violation = row["score"], row["violation"]
    return Sample(
        run, name, number, texts["prompt"][:limit], texts["response"][:limit], texts["reason"][:limit],
        (len(texts["prompt"]), len(texts["response"])),
        float(score) if isinstance(score, int | float) else None,
        violation if isinstance(violation, bool) else None,
        str(row["failure"] or ""), str(row["phase"] or ""),
    )  # fmt: skip
