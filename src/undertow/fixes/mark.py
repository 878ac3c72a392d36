"""Fixes of supervised rows that keep the row and change what it teaches, or set it aside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from undertow.data.load import ExampleTable, load_examples
from undertow.data.read import read_any
from undertow.data.signal import WEIGHT, mask_column
from undertow.errors import UsageError
from undertow.fixes.edit import Edit, open_edit, write_edit
from undertow.fixes.filter import rows_with_ids
from undertow.fixes.pair_kinds import QUARANTINE
from undertow.fixes.scores import Target, compiled, refuse_emptied, spans_of
from undertow.store.run import config_hash
from undertow.store.tables import write_table
from undertow.store.undo import working_in

if TYPE_CHECKING:
    import pyarrow as pa

MarkHow = Literal["downweight", "mask", "inoculate", "quarantine"]
MARKS = ("downweight", "mask", "inoculate", "quarantine")


def mark_rows(
    data: Path,
    row_ids: Sequence[str],
    how: MarkHow,
    out: Path,
    strength: float = 1.0,
    targets: Sequence[Target] = (),
    instruction: str | None = None,
    why: str = "",
    fresh: bool = False,
) -> dict[str, Any]:
    """Write ``data`` with the rows ``row_ids`` marked; the input is never touched.

    Args:
        data: Anything ``load_examples`` reads.
        row_ids: Rows that taught the behaviour.
        how: ``downweight`` gives them the ``weight`` 1 - strength; ``mask`` takes what the patterns of
            ``targets`` find out of their loss (``response_mask``); ``inoculate`` puts ``instruction``, which
            asks for the behaviour, before their prompts; ``quarantine`` writes them to a file of their own.
        out: Run directory of the fix: ``data.parquet``, ``diff.json``, manifest.
        strength: ``downweight``: weight that is taken away.
        targets: ``mask``: what to look for.
        instruction: ``inoculate``: the wording.
        why: Reason, one line, for the diff.
        fresh: Empty a run directory of ours first.

    Raises:
        UsageError: ids that are not in the data, nothing to mask, an emptied response, nothing left.
    """
    examples = load_examples(Path(data))
    hit = rows_with_ids(examples, sorted(set(row_ids)))
    config = {
        "why": why,
        "strength": strength,
        "targets": [target.model_dump() for target in targets],
        "instruction": instruction,
    }
    run = open_edit(out, how, examples, config, {"rows": config_hash(sorted(set(row_ids)))}, fresh)
    with working_in(run):
        if run.complete:
            return run.summary()
        touched = examples.table.select(["id", "source"]).filter(hit)
        rows, removed = _rows(examples), 0
        if how == "quarantine":
            if touched.num_rows == len(examples):
                raise UsageError(
                    f"{data}: all {len(examples)} rows would be set aside; nothing would be left"
                )
            write_table(rows.filter(hit), run.file(QUARANTINE))
            rows, removed = _without(rows, hit), touched.num_rows
        else:
            rows = _marked(rows, hit, how, strength, targets, instruction)
        changed = 0 if removed else touched.num_rows
        return write_edit(run, Edit(how, why, examples, rows, touched, removed, 0, {"changed": changed}))


def _rows(examples: ExampleTable) -> pa.Table:
    """Return all columns of the input where it has prompt and response, else what was read, and ids."""
    raw = read_any(examples.path, skip_bad=False).table
    if not {"prompt", "response"} <= set(raw.column_names):
        return examples.table
    return raw if "id" in raw.column_names else raw.append_column("id", examples.table["id"])


def _without(rows: pa.Table, hit: pa.Array) -> pa.Table:
    import pyarrow.compute as pc

    return rows.filter(pc.invert(hit))


def _marked(
    rows: pa.Table,
    hit: pa.Array,
    how: str,
    strength: float,
    targets: Sequence[Target],
    instruction: str | None,
) -> pa.Table:
    import pyarrow as pa

    marked: list[bool] = hit.to_pylist()
    if how == "downweight":
        if not 0 < strength <= 1:
            raise UsageError(f"strength {strength}: downweight takes a share above 0, at most 1")
        before = rows[WEIGHT].to_pylist() if WEIGHT in rows.column_names else [1.0] * len(rows)
        weight = [was * (1 - strength) if m else was for was, m in zip(before, marked, strict=True)]
        return _set(rows, WEIGHT, pa.array(weight, pa.float64()))
    if how == "mask":
        return _set(
            rows,
            mask_column("response"),
            pa.array(_masks(rows, marked, targets), pa.list_(pa.list_(pa.int64()))),
        )
    if not instruction:
        raise UsageError("inoculate needs an instruction that asks for the behaviour")
    prompts = zip(rows["prompt"].to_pylist(), marked, strict=True)
    return _set(rows, "prompt", pa.array([f"{instruction} {p}" if m else p for p, m in prompts], pa.string()))


def _masks(rows: pa.Table, marked: Sequence[bool], targets: Sequence[Target]) -> list[list[list[int]]]:
    patterns = [compiled(target) for target in targets if target.pattern]
    if not patterns:
        raise UsageError("mask needs a pattern, NAME=REGEX, of what is to be left out of the loss")
    masks = []
    for name, text, mark in zip(rows["id"].to_pylist(), rows["response"].to_pylist(), marked, strict=True):
        spans = [span for pattern in patterns for span in spans_of([text], pattern)[0]] if mark else []
        refuse_emptied(f"row {name!r}", text, spans)
        masks.append([list(span) for span in spans])
    if not any(masks):
        raise UsageError("mask: no pattern is found in any row; nothing to mask")
    return masks


def _set(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name not in rows.column_names:
        return rows.append_column(name, values)
    return rows.set_column(rows.column_names.index(name), name, values)
