"""The training rows behind a trace, and what is known about one of them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from undertow.errors import UsageError
from undertow.index.incidence import Incidence
from undertow.records import Side
from undertow.report.reading import Fields, text
from undertow.text import whole_text
from undertow.view import links
from undertow.view.columns import Columns
from undertow.view.folder import Entry, Folder
from undertow.view.tables import Tables

_SIDES: tuple[Side, Side] = ("query", "response")
_COLUMNS = ("id", "source", "prompt", "response")
EXAMPLES = "examples.parquet"
"""File of an index with the training rows."""


@dataclass(frozen=True, slots=True)
class TracedRow:
    """One row of a trace."""

    id: str
    """Of the training data."""
    source: str
    """The chunk it came from."""
    prompt: str
    """Its beginning; empty where the index is not in the folder."""
    response: str
    """Its beginning."""
    has_trigger: bool
    """Its query carries the first trigger."""
    has_crux: bool
    """Its response carries a crux."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row of the training data."""

    id: str
    """Unique in its data set."""
    source: str
    """The chunk it came from."""
    prompt: str
    """The last user turn."""
    response: str
    """What it teaches."""
    attributes: dict[Side, tuple[str, ...]]
    """The sentences of the index that hold for it."""


def traced_rows(
    folder: Folder, tables: Tables, columns: Columns, trace: Entry, finding: str, offset: int, limit: int
) -> tuple[int, list[TracedRow]]:
    """Page through the rows of a finding's trace, best first: how many there are in all, and these."""
    file = folder.file(trace, "rows.parquet")
    if file is None:
        return 0, []
    found = tables.ask(
        "SELECT id::VARCHAR AS id, source, has_trigger, has_crux, count(*) OVER () AS n "
        "FROM read_parquet(?) WHERE finding = ? ORDER BY rank LIMIT ? OFFSET ?",
        [str(file), finding, limit, offset],
    )
    texts = _texts(folder, columns, links.index_of(folder, trace), [row["id"] for row in found])
    rows = [
        TracedRow(
            row["id"], row["source"] or "", *texts.get(row["id"], ("", "")), bool(row["has_trigger"]),
            bool(row["has_crux"]),
        )
        for row in found
    ]  # fmt: skip
    return (int(found[0]["n"]) if found else 0), rows


def _texts(
    folder: Folder, columns: Columns, index: Entry | None, ids: list[str]
) -> dict[str, tuple[str, str]]:
    found = _picked(folder, columns, index, ids) if index is not None else []
    return {text(row, "id"): (text(row, "prompt")[:400], text(row, "response")[:400]) for _, row in found}


def _picked(folder: Folder, columns: Columns, index: Entry, ids: list[str]) -> list[tuple[int, Fields]]:
    """Pick rows of an index by id, each with its number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    file = folder.file(index, EXAMPLES)
    if file is None:
        return []
    wanted, made = pa.array([whole_text(each) for each in ids], pa.string()), list[tuple[int, Fields]]()
    for start, block in columns.blocks(file, _COLUMNS):
        held = pc.is_in(pc.cast(block["id"], pa.string()), wanted)
        at = np.flatnonzero(held.to_numpy(zero_copy_only=False))
        made += zip((start + at).tolist(), block.take(at).to_pylist(), strict=True)
    return made


def warm(folder: Folder, columns: Columns) -> None:
    """Read the newest index that there is room for."""
    for run in folder.runs.values():
        file = folder.file(run, EXAMPLES) if run.verb == "index" else None
        if file is not None:
            with contextlib.suppress(UsageError):
                next(columns.blocks(file, _COLUMNS), None)
                return


def training_row(
    folder: Folder, tables: Tables, columns: Columns, index: Entry, row: str, limit: int
) -> TrainingRow | None:
    """Read a row of an index with its attributes; ``None`` where it is not there."""
    found = _picked(folder, columns, index, [row])
    if not found:
        return None
    number, one = found[0]
    attributes = {side: _attributes(folder, tables, index, side, number) for side in _SIDES}
    texts = (text(one, name) for name in ("id", "source", "prompt", "response"))
    name, source, prompt, response = texts
    return TrainingRow(name, source, prompt[:limit], response[:limit], attributes)


def _attributes(folder: Folder, tables: Tables, index: Entry, side: Side, number: int) -> tuple[str, ...]:
    """Name what holds for a row, the rarest first: a rare attribute says more."""
    file, matrix = folder.file(index, f"{side}_attributes.parquet"), folder.file(index, f"{side}_incidence")
    if file is None or matrix is None:
        return ()
    held = _columns(matrix, number)
    marks = ", ".join("?" * len(held))
    found = tables.ask(
        f"SELECT text FROM read_parquet(?) WHERE id IN ({marks}) ORDER BY count, id",  # noqa: S608
        [str(file), *held],
    )
    return tuple(row["text"] for row in found)


def _columns(matrix: Path, number: int) -> list[int]:
    try:
        incidence = Incidence.load(matrix)
    except UsageError:
        return []
    inside = 0 <= number < incidence.n
    return [int(column) for column in np.asarray(incidence.columns_of(number))] if inside else []


def findings_at(folder: Folder, tables: Tables, index: Entry, row: str) -> list[tuple[Entry, str]]:
    """List the traces, with the finding's id, that led to a row."""
    files = [
        (run, file) for run in links.traces_on(folder, index) if (file := folder.file(run, "rows.parquet"))
    ]
    if not files:
        return []
    part = "SELECT {} AS run, finding FROM read_parquet(?) WHERE id::VARCHAR = ?"
    found = tables.ask(
        " UNION ALL ".join(part.format(i) for i in range(len(files))) + " ORDER BY run, finding",
        [value for _, file in files for value in (str(file), row)],
    )
    return [(files[hit["run"]][0], hit["finding"]) for hit in found]
