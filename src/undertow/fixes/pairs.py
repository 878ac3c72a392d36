"""Fixes of preference data: each writes a new data set, or how to train on it, and never touches its input.

What a fix does stands in columns that ``undertow train dpo`` reads (``offset``, ``weight``, ``chosen_mask``,
``rejected_mask``, ``policy_prompt``) or, for steering, in ``training.json`` beside them. Fixes stack: columns
that the input has are added to.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undertow.data.load import ExampleTable
from undertow.data.preferences import PreferenceData, load_preferences
from undertow.data.read import read_any
from undertow.data.signal import OFFSET, POLICY_PROMPT, WEIGHT
from undertow.errors import UsageError
from undertow.fixes.edit import Edit, open_edit, write_edit
from undertow.fixes.pair_kinds import KINDS, LENGTH, Change, PairFix, Problem, names_of, row_mask
from undertow.fixes.scores import read_scores
from undertow.store.run import file_hash
from undertow.store.undo import working_in

if TYPE_CHECKING:
    import pyarrow as pa


def fix_pairs(
    data: Path,
    fix: PairFix,
    out: Path,
    scores: Path | pa.Table | None = None,
    model: str | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Write ``data`` changed by ``fix`` into the run directory ``out``.

    Args:
        data: Anything ``load_preferences`` reads.
        fix: What to do.
        out: Gets ``data.parquet``, ``diff.json``, ``summary.json``, the manifest, and by kind
            ``quarantine.parquet`` or ``steering.safetensors`` with ``training.json``.
        scores: s⁺ - s⁻ of concepts without a pattern, by ``id``; the data's own columns without.
        model: The start model: gives the direction of ``steer`` and compares wordings of ``inoculate``.
        fresh: Empty a run directory of ours first.

    Returns:
        The summary: ``rows``, ``changed``, ``touched`` and ``sources``; ``predicted``: for each concept what
        the set rewards at the first step (Σ w·u / Σ w), before and after, where that can be told.

    Raises:
        UsageError: a strength, pattern or score that makes no sense, a concept without variance, a mask that
            empties a response, nothing to touch, nothing left.
    """
    _check(fix)
    pairs = load_preferences(Path(data))
    table = _own_rows(pairs)
    examples = ExampleTable(_sources(table), pairs.path, pairs.hash)
    given = read_scores(scores, pairs.table) if isinstance(scores, Path) else scores
    inputs = {"scores": file_hash(scores)} if isinstance(scores, Path) else {}
    problem = Problem(fix, pairs, table, given if given is not None else table, model)
    run = open_edit(out, fix.how, examples, {**fix.identity(), "model": model}, inputs, fresh)
    with working_in(run):
        if run.complete:
            return run.summary()
        change = KINDS[fix.how](problem)
        touched = examples.table.filter(row_mask(change.touched))
        if not change.touched.any():
            raise UsageError(f"{data}: no pair shows {names_of(fix)}; nothing to {fix.how}")
        if change.removed.all():
            raise UsageError(f"{data}: the fix would remove all {len(pairs)} pairs; nothing would be left")
        for name, write in change.files.items():
            write(run.file(name))
        kept = _with_columns(table, change).filter(row_mask(~change.removed))
        extra = {
            "changed": int((change.touched & ~change.removed).sum()), "concepts": names_of(fix),
            "strength": fix.amount, "predicted": _predicted(problem, change), **change.told,
        }  # fmt: skip
        edit = Edit(fix.how, _why(fix), examples, kept, touched, int(change.removed.sum()), 0, extra)
        return write_edit(run, edit)


def _check(fix: PairFix) -> None:
    if not fix.targets:
        raise UsageError("a fix of pairs needs a concept; name one, NAME or NAME=REGEX")
    if not math.isfinite(fix.amount):
        raise UsageError(f"strength {fix.amount}: must be a finite number")
    if fix.how in ("filter", "downweight", "quarantine") and not 0 < fix.amount <= 1:
        raise UsageError(f"strength {fix.amount}: {fix.how} takes a share above 0, at most 1")
    if (fix.keep or fix.calibrate) and fix.how != "shape":
        raise UsageError(f"keep and calibrate are for shape, not for {fix.how}")
    if fix.how == "inoculate" and not fix.instructions:
        raise UsageError("inoculate needs an instruction that asks for the behaviour")


def _predicted(problem: Problem, change: Change) -> dict[str, Any]:
    """Return û and û' of targets and kept concepts, Σ w·u / Σ w; nothing where neither w nor u is known."""
    if change.weight is None and problem.fix.how != "mask":
        return {}
    named = [target for target in (*problem.fix.targets, *problem.fix.keep) if target.name != LENGTH]
    scores = problem.score(named)
    before = scores.signed.mean(axis=0)
    if change.weight is None:
        after = (~problem.gated[:, None] * scores.signed).mean(axis=0)
    else:
        after = change.weight @ scores.signed / (change.weight.sum() or 1.0)
    each = zip(scores.names, before.tolist(), after.tolist(), strict=True)
    return {name: {"before": was, "after": will} for name, was, will in each}


def _own_rows(pairs: PreferenceData) -> pa.Table:
    """Return the rows to write: every column of a Parquet of plain pairs, else what was read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = read_any(pairs.path, skip_bad=False).table if str(pairs.path).endswith(".parquet") else None
    if raw is None or not {"prompt", "chosen", "rejected"} <= set(raw.column_names):
        return pairs.table.drop_columns(
            [n for n in pairs.table.column_names if pairs.table[n].null_count == len(pairs)]
        )
    if not all(pa.types.is_string(raw.schema.field(n).type) for n in ("prompt", "chosen", "rejected")):
        return pairs.table
    if "id" not in raw.column_names:
        raw = raw.append_column("id", pa.array(np.arange(len(raw))).cast(pa.string()))
    return raw.take(pc.index_in(pairs.table["id"], value_set=raw["id"].cast(pa.string()).combine_chunks()))


def _sources(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    has = "source" in table.column_names
    source = pc.fill_null(table["source"].cast(pa.string()), "") if has else pa.array([""] * len(table))
    return pa.table({"id": table["id"].cast(pa.string()), "source": source})


def _with_columns(table: pa.Table, change: Change) -> pa.Table:
    """Set the new columns, on top of what the rows have."""
    import pyarrow as pa

    kinds = {OFFSET: pa.float64(), WEIGHT: pa.float64(), POLICY_PROMPT: pa.string()}
    for name, values in change.columns.items():
        if name in table.column_names:
            values = [_both(name, old, new) for old, new in zip(table[name].to_pylist(), values, strict=True)]
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array(values, kinds.get(name, pa.list_(pa.list_(pa.int64())))))
    return table


def _both(name: str, old: Any, new: Any) -> Any:
    if old is None or new is None:
        return old if new is None else new
    if name == WEIGHT:
        return old * new
    return new if name == POLICY_PROMPT else old + new


def _why(fix: PairFix) -> str:
    where = f" on prompts like {fix.gate!r}" if fix.gate else ""
    return f"{fix.how} {', '.join(names_of(fix))} at {fix.amount:g}{where}"
