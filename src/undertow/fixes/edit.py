"""What every change of a data set leaves: the new rows, a manifest, and a diff that says what was touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.data.load import ExampleTable
from undertow.store.run import RunDir, file_hash
from undertow.store.tables import atomic_write_json, write_table

if TYPE_CHECKING:
    import pyarrow as pa

DATA, DIFF = "data.parquet", "diff.json"


@dataclass(frozen=True)
class Edit:
    """A changed data set."""

    how: str
    """Name of the fix."""
    why: str
    """Reason, one line, for the diff."""
    before: ExampleTable
    """The input, which stays as it is."""
    table: pa.Table
    """All rows of the changed data set, columns as in the input (``rebalance``: the example columns)."""
    touched: pa.Table
    """``id, source`` of the rows that were removed, added or changed."""
    removed: int
    """Rows taken out."""
    added: int
    """Rows put in."""
    extra: Mapping[str, object]
    """What else the fix has to tell."""


def open_edit(
    out: Path,
    how: str,
    data: ExampleTable,
    config: Mapping[str, object],
    inputs: Mapping[str, str],
    fresh: bool,
) -> RunDir:
    """Open the run directory of a fix; its inputs are the data set and ``inputs``."""
    return RunDir.open(out, "fix", {"how": how, **config}, {"data": data.hash, **inputs}, fresh)


def write_edit(run: RunDir, edit: Edit) -> dict[str, Any]:
    """Write ``data.parquet``, ``diff.json``, ``summary.json`` and the manifest; return the summary."""
    diff = {
        "how": edit.how,
        "why": edit.why,
        "data": str(edit.before.path),
        "data_hash": edit.before.hash,
        "rows": {
            "before": len(edit.before),
            "after": edit.table.num_rows,
            "removed": edit.removed,
            "added": edit.added,
        },
        "touched": count_sources(edit.touched),
        "sources": _before_after(edit),
        **edit.extra,
    }
    write_table(edit.table, run.file(DATA))
    atomic_write_json(run.file(DIFF), {**diff, "row_ids": edit.touched["id"].to_pylist()})
    return run.finish(
        "complete", {**diff, "result": str(run.file(DATA)), "result_hash": file_hash(run.file(DATA))}
    )


def count_sources(table: pa.Table) -> dict[str, int]:
    """Count the rows of each source, most first."""
    import pyarrow.compute as pc

    counts = pc.value_counts(table["source"])
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _before_after(edit: Edit) -> dict[str, dict[str, int]]:
    before, touched = count_sources(edit.before.table), count_sources(edit.touched)
    sign = 1 if edit.added else -1 if edit.removed else 0
    return {
        source: {
            "before": before.get(source, 0),
            "after": before.get(source, 0) + sign * touched.get(source, 0),
        }
        for source in [*before, *(source for source in touched if source not in before)]
    }
