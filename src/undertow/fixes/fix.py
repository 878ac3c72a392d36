"""``undertow fix``: from a trace to a changed data set."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from undertow.errors import UsageError
from undertow.fixes.filter import filter_rows
from undertow.store.tables import read_table

How = Literal["filter"]


def fix(trace: Path, how: How, data: Path, out: Path, fresh: bool = False) -> dict[str, Any]:
    """Change ``data`` by what the run directory ``trace`` of ``undertow trace`` says.

    ``filter`` drops the rows that have a finding's first trigger and its crux.

    Raises:
        UsageError: no traced rows, or another data set than the traced one.
    """
    return filter_rows(data, traced_rows([trace]), out, fresh)


def traced_rows(traces: Collection[Path]) -> list[str]:
    """Return the ids of the rows that have the first trigger and the crux of a finding, over several traces.

    Raises:
        UsageError: a folder holds no ``rows.parquet``.
    """
    import pyarrow.compute as pc

    found: set[str] = set()
    for trace in traces:
        path = Path(trace) / "rows.parquet"
        if not path.is_file():
            raise UsageError(
                f"{path}: no such file; give the --out of an `undertow trace` that named a trigger"
            )
        rows = read_table(path)
        found.update(rows.filter(pc.and_(rows["has_trigger"], rows["has_crux"]))["id"].to_pylist())
    return sorted(found)
