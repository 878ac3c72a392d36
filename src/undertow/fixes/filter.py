"""Filter: the data set without the rows that taught the behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.data.load import ExampleTable, load_examples
from undertow.data.read import read_any
from undertow.errors import UsageError
from undertow.fixes.edit import Edit, open_edit, write_edit
from undertow.store.run import config_hash

if TYPE_CHECKING:
    import pyarrow as pa


def filter_rows(
    data: Path, row_ids: Sequence[str], out: Path, why: str = "", fresh: bool = False
) -> dict[str, Any]:
    """Write ``data`` without the rows ``row_ids`` into the folder ``out``; the input is never touched.

    ``out`` gets ``data.parquet`` (all columns of a Parquet input, and ``id`` where it had none, so that rows
    keep their names), ``diff.json`` (rows touched by source, counts before and after, the ids) and the
    manifest.

    Args:
        data: Anything ``load_examples`` reads.
        row_ids: Ids of the rows to drop; repeats count once.
        out: Run directory of the fix.
        why: Reason, one line, for the diff.
        fresh: Empty a run directory of ours first.

    Raises:
        UsageError: no id, an id that is not in the data, or nothing would be left.
    """
    examples = load_examples(Path(data))
    dropped = sorted(set(row_ids))
    mask = rows_with_ids(examples, dropped)
    if len(dropped) == len(examples):
        raise UsageError(
            f"{data}: the fix would remove all {len(dropped)} rows; nothing would be left to train"
        )
    run = open_edit(out, "filter", examples, {"why": why}, {"rows": config_hash(dropped)}, fresh)
    try:
        if run.complete:
            return run.summary()
        table, touched = _without(examples, mask)
        return write_edit(run, Edit("filter", why, examples, table, touched, len(dropped), 0, {}))
    finally:
        run.close()


def rows_with_ids(examples: ExampleTable, row_ids: Sequence[str]) -> pa.Array:
    """Return a mask (n,) of the rows named ``row_ids``.

    Raises:
        UsageError: there is none, or one is not in the data.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not row_ids:
        raise UsageError(f"{examples.path}: no row to touch; the trace names none")
    wanted = pa.array(row_ids, pa.string())
    ids = examples.table["id"].combine_chunks()
    unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=ids)))
    if len(unknown):
        raise UsageError(
            f"{examples.path}: has no row {unknown[0].as_py()[:60]!r} (nor {len(unknown) - 1} others of "
            f"{len(wanted)}); give the data set that was traced"
        )
    return pc.is_in(ids, value_set=wanted)


def _without(examples: ExampleTable, mask: pa.Array) -> tuple[pa.Table, pa.Table]:
    """Return the rows outside of ``mask`` as they were written, and id and source of those inside."""
    import pyarrow.compute as pc

    raw = read_any(examples.path, skip_bad=False).table
    if "id" not in raw.column_names:
        raw = raw.append_column("id", examples.table["id"])
    return raw.filter(pc.invert(mask)), examples.table.select(["id", "source"]).filter(mask)
