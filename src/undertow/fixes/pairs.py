"""Fixes of preference data: each writes a new data set, or how to train on it, and never touches its input.

What a fix does stands in columns that ``undertow train dpo`` reads (``offset``, ``weight``, ``chosen_mask``,
``rejected_mask``, ``policy_prompt``) or, for steering, in ``training.json`` beside them. Fixes stack: columns
that the input has are added to.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.data.load import ExampleTable
from undertow.data.pair_rows import whole_rows
from undertow.data.pairs import scalar
from undertow.data.preferences import CONTENT, PreferenceData, load_preferences
from undertow.data.signal import DATA, OFFSET, POLICY_PROMPT, TRAINING, WEIGHT
from undertow.errors import UsageError
from undertow.fixes.edit import Edit, open_edit, write_edit
from undertow.fixes.pair_kinds import KINDS, LENGTH, VECTOR, Change, PairFix, Problem, names_of, row_mask
from undertow.fixes.scores import read_scores, refuse_other_pairs
from undertow.store.run import RunDir, file_hash
from undertow.store.tables import atomic_write_json, read_json
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
        model: The start model: ``steer`` fits its direction to it, ``inoculate`` compares wordings by it.
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
    table, not_kept = whole_rows(pairs)
    examples = ExampleTable(_sources(table), pairs.path, pairs.hash)
    given, inputs = _scores(scores, pairs, fix)
    problem = Problem(fix, pairs, table, given if given is not None else table, model)
    if not problem.gated.any():
        raise UsageError(f"{data}: gate {fix.gate!r} matches no prompt; nothing to {fix.how}")
    steered = _steering(pairs.path, fix)
    inputs |= {"training": file_hash(steered / TRAINING)} if steered else {}
    run = open_edit(out, fix.how, examples, {**fix.identity(), "model": model}, inputs, fresh)
    with working_in(run):
        if run.complete:
            return run.summary()
        change = KINDS[fix.how](problem)
        touched = examples.table.filter(row_mask(change.touched))
        if not change.touched.any():
            raise UsageError(f"{data}: no pair shows {', '.join(names_of(fix))}; nothing to {fix.how}")
        if change.removed.all():
            raise UsageError(f"{data}: the fix would remove all {len(pairs)} pairs; nothing would be left")
        for name, write in change.files.items():
            write(run.file(name))
        if steered:
            _copy_steering(steered, run)
        kept = _with_columns(table, change).filter(row_mask(~change.removed))
        extra = {
            **_told_of_data(pairs, not_kept),
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
    own = [fix.amount if target.strength is None else target.strength for target in fix.targets]
    if fix.how == "shape" and not any(own):
        raise UsageError("strength 0: shape changes nothing; above 0 it suppresses, below 0 it amplifies")
    if (fix.keep or fix.calibrate) and fix.how != "shape":
        raise UsageError(f"keep and calibrate are for shape, not for {fix.how}")
    if fix.how == "inoculate" and not fix.instructions:
        raise UsageError("inoculate needs an instruction that asks for the behaviour")


def _scores(
    scores: Path | pa.Table | None, pairs: PreferenceData, fix: PairFix
) -> tuple[pa.Table | None, dict[str, str]]:
    """Read the scores and check that they are of these pairs; also what of them identifies the run."""
    if not isinstance(scores, Path):
        return scores, {}
    found = read_scores(scores, pairs.table)
    if CONTENT in found.column_names or not all(t.pattern for t in fix.targets):
        refuse_other_pairs(pairs, found, scores)
    return found, {"scores": file_hash(scores)}


def _steering(data: Path, fix: PairFix) -> Path | None:
    """Return the run directory of the former fix that steers these pairs while they train.

    Raises:
        UsageError: this fix would steer them a second time.
    """
    former = data.parent
    if data.name != DATA or not (former / TRAINING).is_file():
        return None
    if fix.how == "steer":
        raise UsageError(f"{former}: steers these pairs already; a training takes one direction")
    return former


def _copy_steering(former: Path, run: RunDir) -> None:
    """Take over ``training.json`` and the direction that it names."""
    told = read_json(former / TRAINING)
    vector = former / told["steer"]["vector"]
    shutil.copyfile(vector, run.file(VECTOR))
    atomic_write_json(run.file(TRAINING), {"steer": {**told["steer"], "vector": VECTOR}})


def _told_of_data(pairs: PreferenceData, not_kept: dict[str, str]) -> dict[str, Any]:
    """Say which rows were left out and why, as the audit does, and which columns."""
    return {
        "counts": {"tried": pairs.rows, "scored": len(pairs), "failed": pairs.rows - len(pairs)},
        "failures": pairs.dropped,
        "left_out": pairs.dropped,
        "noted": pairs.noted,
        "first": pairs.first,
        "columns_not_kept": not_kept,
    }


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


def _sources(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    has = "source" in table.column_names
    source = [scalar(value) or "" for value in table["source"].to_pylist()] if has else [""] * len(table)
    return pa.table({"id": table["id"].cast(pa.string()), "source": pa.array(source, pa.string())})


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
