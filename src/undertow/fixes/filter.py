"""Filter: write the data set again without some rows, and say which and from where."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.data.load import ExampleTable, load_examples
from undertow.errors import UsageError
from undertow.store.run import RunDir, config_hash
from undertow.store.tables import atomic_write_json, write_table

if TYPE_CHECKING:
    import pyarrow as pa


def filter_rows(data: Path, row_ids: Collection[str], out: Path, fresh: bool = False) -> dict[str, Any]:
    """Write ``data`` without the rows ``row_ids`` into the run directory ``out``.

    The folder gets ``data.parquet`` and ``diff.json`` (row ids, rows touched by source); the input is not
    changed.

    Returns:
        the summary: ``rows`` before and after, ``touched`` by source.

    Raises:
        UsageError: an id is not in the data, nothing would be removed, or nothing would remain.
    """
    examples = load_examples(Path(data))
    ids = sorted(set(row_ids))
    run = RunDir.open(
        Path(out), "fix", {"how": "filter", "rows": config_hash(ids)}, {"data": examples.hash}, fresh
    )
    try:
        if run.complete:
            return run.summary()
        kept, removed = _split(examples, ids)
        return _write(run, kept, removed)
    finally:
        run.close()


def _split(examples: ExampleTable, ids: list[str]) -> tuple[pa.Table, pa.Table]:
    import pyarrow as pa
    import pyarrow.compute as pc

    hit = pc.is_in(examples.table["id"], value_set=pa.array(ids, pa.string()))
    kept, removed = examples.table.filter(pc.invert(hit)), examples.table.filter(hit)
    if not ids:
        raise UsageError(f"{examples.path}: no rows to filter; a fix that touches nothing is none")
    if len(removed) < len(ids):
        missing = next(row for row in ids if row not in set(removed["id"].to_pylist()))
        raise UsageError(f"{examples.path}: has no row {missing!r}; the rows come from another data set")
    if not len(kept):
        raise UsageError(f"{examples.path}: the fix would remove all {len(removed)} rows; name fewer")
    return kept, removed


def _by_source(table: pa.Table) -> dict[str, int]:
    counts = table["source"].value_counts().to_pylist()
    return {
        each["values"]: each["counts"] for each in sorted(counts, key=lambda c: (-c["counts"], c["values"]))
    }


def _write(run: RunDir, kept: pa.Table, removed: pa.Table) -> dict[str, Any]:
    before = len(kept) + len(removed)
    rows = {"before": before, "after": len(kept), "removed": len(removed)}
    write_table(kept, run.file("data.parquet"))
    diff = {
        "how": "filter",
        "rows": rows,
        "touched": _by_source(removed),
        "row_ids": removed["id"].to_pylist(),
    }
    atomic_write_json(run.file("diff.json"), diff)
    return run.finish(
        "complete",
        {
            "how": "filter",
            "rows": rows,
            "touched": _by_source(removed),
            "counts": {"tried": before, "scored": before, "failed": 0},
        },
    )
