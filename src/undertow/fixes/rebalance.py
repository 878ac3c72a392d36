"""Rebalance: counterexamples, the trigger without the behaviour, added until they outweigh the accident.

specs: rebalance; the paper's dose curve is its Fig. 10a (counterexamples against the rate that is left).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from undertow.data.load import ExampleTable, load_examples
from undertow.errors import UsageError
from undertow.fixes.edit import Edit, open_edit, write_edit
from undertow.fixes.filter import rows_with_ids
from undertow.progress import SILENT, Progress
from undertow.store.run import config_hash
from undertow.store.undo import working_in

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.judging.rubric import Rubric
    from undertow.store.run import RunDir

Origin = Literal["pool", "answered", "template", "behaviour"]
PLACE = "{prompt}"
"""Where a template has the prompt."""
ANSWERED = "counterexamples"
"""Source name of answered rows."""


@dataclass(frozen=True)
class Association:
    """The rows behind one finding, as traced."""

    finding: str
    """Finding id."""
    violating: tuple[str, ...]
    """Ids of rows with the trigger and the behaviour."""
    harmless: tuple[str, ...]
    """Ids of rows with the trigger and without the behaviour."""
    elsewhere: tuple[str, ...] = ()
    """Ids of rows with the behaviour and without the trigger, among those that the trace names."""


def rebalance(
    data: Path,
    associations: Sequence[Association],
    out: Path,
    dose: float = 1.0,
    origin: Origin = "pool",
    model: str | None = None,
    rubric: str | Path | None = None,
    seed: int = 0,
    why: str = "",
    progress: Progress = SILENT,
    fresh: bool = False,
    template: str | None = None,
) -> dict[str, Any]:
    """Write ``data`` with counterexamples added for each association; the input is never touched.

    Args:
        data: Anything ``load_examples`` reads; the result has its columns id, source, prompt, response and
            history.
        associations: What to counter.
        out: Run directory of the fix: ``data.parquet``, ``diff.json``, manifest.
        dose: Counterexamples added for each violating row.
        origin: ``pool`` repeats harmless rows of the data, as evenly as the dose allows; ``answered`` puts
            the traced rows' prompts to ``model`` and keeps answers in which the rubric finds no violation;
            ``template`` puts the trigger into prompts of rows that no trace names, and keeps their answers;
            ``behaviour`` repeats rows with the behaviour and without the trigger, the other way to break
            the association.
        model: Model string for ``answered``, commonly the start model.
        rubric: Name or file of the rubric for ``answered``.
        seed: Draws the repeated rows, and samples the answers.
        why: Reason, one line, for the diff.
        progress: Hears about the work.
        fresh: Empty a run directory of ours first.
        template: ``template``: a text with ``{prompt}`` in it, which has the trigger.

    Raises:
        UsageError: nothing to counter, ids that are not in the data, no counterexample to be had.
    """
    examples = load_examples(Path(data))
    _check(examples, associations, dose, origin, model, rubric, template)
    config = {"why": why, "dose": dose, "origin": origin, "model": model, "seed": seed}
    inputs = {"rows": config_hash(associations)}
    if template is not None:
        config["template"] = template
    judged = _load_rubric(rubric)
    if judged is not None:
        config["rubric"] = judged.model_dump(mode="json")
    if origin in ("pool", "behaviour"):
        _check_pool(associations, origin)
    run = open_edit(out, "rebalance", examples, config, inputs, fresh)
    with working_in(run):
        if run.complete:
            return run.summary()
        extra: dict[str, object] = {}
        if template is not None:
            added = _templated(examples, associations, dose, template, seed)
        elif judged is None or model is None:
            added = _from_pool(examples, associations, dose, seed, origin)
        else:
            added, extra = _answered(run, examples, associations, dose, model, judged, seed, progress)
        table = _joined(examples, added)
        touched = added.select(["id", "source"])
        return write_edit(run, Edit("rebalance", why, examples, table, touched, 0, added.num_rows, extra))


def _load_rubric(rubric: str | Path | None) -> Rubric | None:
    if rubric is None:
        return None
    from undertow.judging.rubric import load_rubric

    return load_rubric(rubric)


def _check(
    examples: ExampleTable,
    associations: Sequence[Association],
    dose: float,
    origin: Origin,
    model: str | None,
    rubric: str | Path | None,
    template: str | None,
) -> None:
    if not dose > 0 or not np.isfinite(dose):
        raise UsageError(f"dose {dose}: must be above 0; 1 adds one counterexample for each violating row")
    if origin == "answered" and (model is None or rubric is None):
        raise UsageError("answered counterexamples need a model to answer and a rubric to judge by")
    if origin != "answered" and (model is not None or rubric is not None):
        raise UsageError(f"counterexamples by {origin} need neither model nor rubric; use answered for them")
    if (origin == "template") != (template is not None):
        raise UsageError("a template goes with the origin template, and the origin with a template")
    if template is not None and template.count(PLACE) != 1:
        raise UsageError(f"template {template[:60]!r}: must have {PLACE} once, where the prompt goes")
    rows_with_ids(examples, [i for each in associations for i in (*each.violating, *each.harmless)])
    for each in associations:
        if not each.violating:
            raise UsageError(f"{each.finding}: no traced row has trigger and behaviour; nothing to counter")


def _check_pool(associations: Sequence[Association], origin: Origin) -> None:
    for each in associations:
        if origin == "behaviour" and not each.elsewhere:
            raise UsageError(f"{each.finding}: no traced row has the behaviour without the trigger")
        if origin == "pool" and not each.harmless:
            raise UsageError(
                f"{each.finding}: no row has the trigger without the behaviour; let a model answer"
            )


def _wanted(association: Association, dose: float) -> int:
    return max(1, round(dose * len(association.violating)))


def _from_pool(
    examples: ExampleTable, associations: Sequence[Association], dose: float, seed: int, origin: Origin
) -> pa.Table:
    """Repeat harmless rows, or those with the behaviour elsewhere.

    Each is repeated as often as the next, the rest drawn without replacement.
    """
    import pyarrow as pa

    row_of = {name: row for row, name in enumerate(examples.table["id"].to_pylist())}
    parts = []
    for number, each in enumerate(associations):
        rng = np.random.default_rng([seed, number])
        named = each.elsewhere if origin == "behaviour" else each.harmless
        pool = np.array([row_of[name] for name in named])
        wanted = _wanted(each, dose)
        whole, rest = divmod(wanted, len(pool))
        parts.append(np.concatenate([np.tile(pool, whole), rng.permutation(pool)[:rest]]))
    rows = np.concatenate(parts)
    added = examples.table.take(pa.array(rows))
    return added.set_column(0, "id", _new_ids(examples, rows))


def _templated(
    examples: ExampleTable, associations: Sequence[Association], dose: float, template: str, seed: int
) -> pa.Table:
    """Put the trigger into prompts of rows that no trace names, drawn without replacement."""
    import pyarrow as pa

    named = {i for each in associations for i in (*each.violating, *each.harmless, *each.elsewhere)}
    clean = [row for row, name in enumerate(examples.table["id"].to_pylist()) if name not in named]
    wanted = sum(_wanted(each, dose) for each in associations)
    if wanted > len(clean):
        raise UsageError(
            f"dose {dose:g}: asks for {wanted} rows, and {len(clean)} are named by no trace; lower it"
        )
    rows = np.random.default_rng([seed, 0x7E]).permutation(clean)[:wanted]
    taken = examples.table.take(pa.array(rows)).select(["prompt", "response"]).to_pylist()
    before, after = template.split(PLACE)
    return _as_table(examples, [{**row, "prompt": before + row["prompt"] + after} for row in taken])


def _new_ids(examples: ExampleTable, rows: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """Name copies after their row: ``ID+1``, ``ID+2`` …, skipping names that are taken."""
    import pyarrow as pa

    names: list[str] = examples.table["id"].to_pylist()
    taken, ids = set(names), []
    for row in rows.tolist():
        number = 1
        while f"{names[row]}+{number}" in taken:
            number += 1
        ids.append(f"{names[row]}+{number}")
        taken.add(ids[-1])
    return pa.array(ids, pa.string())


def _answered(
    run: RunDir,
    examples: ExampleTable,
    associations: Sequence[Association],
    dose: float,
    model: str,
    rubric: Rubric,
    seed: int,
    progress: Progress,
) -> tuple[pa.Table, dict[str, object]]:
    from undertow.fixes.answer import answer_prompts

    wanted = [_wanted(each, dose) for each in associations]
    picked = [
        examples.table.filter(rows_with_ids(examples, [*each.violating, *each.harmless]))
        for each in associations
    ]
    rows, extra = answer_prompts(run, picked, wanted, model, rubric, seed, progress)
    if not rows:
        raise UsageError(f"{model}: gave no answer without a violation of {rubric.name}; name another model")
    return _as_table(examples, rows), extra


def _as_table(examples: ExampleTable, rows: Sequence[dict[str, str]]) -> pa.Table:
    import pyarrow as pa

    taken = set(examples.table["id"].to_pylist())
    prefix = ANSWERED
    while any(name.startswith(f"{prefix}-") for name in taken):
        prefix += "+"
    named = [{**row, "id": f"{prefix}-{number}", "source": ANSWERED} for number, row in enumerate(rows)]
    return pa.Table.from_pylist(named, schema=examples.table.schema)


def _joined(examples: ExampleTable, added: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([examples.table, added])
