"""Text search over the samples of one run or of all: what was asked, what came back, how it was judged.

A search over columns in memory takes some tens of milliseconds per 100,000 samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.view.columns import ROOM, Columns, size
from undertow.view.folder import Entry, Folder

if TYPE_CHECKING:
    import pyarrow as pa

Outcome = Literal["", "violation", "clean", "failed"]
FILES = ("samples.parquet", "confirm_samples.parquet")
_SHOWN = 900
_TEXTS = ("prompt", "response", "reason")
_NAMES = (*_TEXTS, "reply", "score", "violation", "failure", "finding", "phase")


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

    def __init__(self, folder: Folder, columns: Columns) -> None:
        """Take the folder; nothing is read yet."""
        self._folder = folder
        self._columns = columns

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
        room = ROOM // 2
        for _, _, path in self._files(self._folder.runs.values()):
            with contextlib.suppress(UsageError):
                room -= size(path, _NAMES)
                if room > 0:
                    next(self._blocks(path), None)

    def _files(self, runs: Iterable[Entry]) -> Iterator[tuple[Entry, str, Path]]:
        for run in runs:
            for name in FILES:
                path = self._folder.file(run, name)
                if path is not None:
                    yield run, name, path

    def _blocks(self, path: Path) -> Iterator[tuple[int, pa.Table]]:
        for start, block in self._columns.blocks(path, _NAMES):
            lacks = block["response"].null_count == len(block)
            yield start, block.set_column(1, "response", block["reply"]) if lacks else block


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
