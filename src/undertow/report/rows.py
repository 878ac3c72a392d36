"""The training rows behind a trace, read from the data a run keeps beside itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from undertow.report.reading import Fields

_NEEDED = ("id", "prompt", "response")


def training_rows(data: Path, ids: Iterable[str]) -> dict[str, Fields]:
    """Find rows by id in the Parquet files of a run's data folder; ids that are in none are left out.

    Args:
        data: the folder, which need not exist.
        ids: row ids of the training data.

    Returns:
        id → ``id``, ``prompt``, ``response`` and, where the file has it, ``source``.
    """
    wanted = set(ids)
    found: dict[str, Fields] = {}
    for file in sorted(data.glob("*.parquet")) if data.is_dir() else []:
        found |= _of_file(file, wanted - found.keys())
    return found


def _of_file(file: Path, wanted: set[str]) -> dict[str, Fields]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = set(pq.read_schema(file).names)
    if not wanted or not names.issuperset(_NEEDED):
        return {}
    table = pq.read_table(file, columns=[*_NEEDED, *(names & {"source"})])
    kept = table.filter(pc.is_in(pc.cast(table["id"], pa.string()), pa.array(sorted(wanted), pa.string())))
    return {str(row["id"]): row for row in kept.to_pylist()}
