"""``undertow fix``: from a trace to a changed data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from undertow.errors import UsageError
from undertow.fixes.filter import filter_rows
from undertow.fixes.mark import MARKS, mark_rows
from undertow.fixes.rebalance import Association, Origin, rebalance
from undertow.fixes.scores import Target
from undertow.progress import SILENT, Progress
from undertow.store.tables import read_table

if TYPE_CHECKING:
    import pyarrow as pa

How = Literal["filter", "rebalance", "downweight", "mask", "inoculate", "quarantine"]


def fix(
    run: Path | Sequence[Path],
    how: How,
    data: Path,
    out: Path,
    fresh: bool = False,
    *,
    strength: float = 1.0,
    origin: Origin = "pool",
    model: str | None = None,
    rubric: str | Path | None = None,
    targets: Sequence[Target] = (),
    instruction: str | None = None,
    template: str | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write a new data set from ``data``, changed by what a trace found.

    Args:
        run: Run directory of a trace, or several.
        how: ``filter`` drops rows with trigger and behaviour; ``rebalance`` adds counterexamples; the others
            mark those rows, see ``mark_rows``.
        data: The data set that was indexed.
        out: Run directory of the fix: ``data.parquet``, ``diff.json``, manifest.
        fresh: Empty a run directory of ours first.
        strength: ``rebalance``: counterexamples for each violating row; ``downweight``: weight taken away.
        origin: ``rebalance``: ``pool``, ``answered``, ``template`` or ``behaviour``.
        model: ``answered``: who answers.
        rubric: ``answered``: what counts as a violation.
        targets: ``mask``: patterns of what is left out of the loss.
        instruction: ``inoculate``: wording that asks for the behaviour.
        template: ``rebalance``: text with ``{prompt}`` that puts the trigger into a prompt.
        seed: Fixes what is drawn.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``rows`` before and after, ``touched`` by source, ``sources`` before and after.

    Raises:
        UsageError: no trace, nothing traced, another data set, or a fix that would leave no row.
    """
    runs = [Path(run)] if isinstance(run, (str, Path)) else [Path(each) for each in run]
    why = f"rows traced by {', '.join(each.name for each in runs)}"
    if how == "filter":
        return filter_rows(data, traced_rows(runs), out, why, fresh)
    if how == "rebalance":
        return rebalance(
            data,
            associations(runs),
            out,
            strength,
            origin,
            model,
            rubric,
            seed,
            why,
            progress,
            fresh,
            template,
        )
    if how in MARKS:
        return mark_rows(data, traced_rows(runs), how, out, strength, targets, instruction, why, fresh)
    raise UsageError(f"--how {how}: unknown for supervised rows; use filter, rebalance, {', '.join(MARKS)}")


def traced_rows(runs: Sequence[Path]) -> list[str]:
    """Return the ids of all rows that carry a finding's first trigger and its behaviour, sorted."""
    import pyarrow.compute as pc

    found: set[str] = set()
    for run in runs:
        rows = _rows(run)
        both = pc.and_(rows["has_trigger"], rows["has_crux"])
        found.update(rows["id"].filter(both).to_pylist())
    return sorted(found)


def associations(runs: Sequence[Path]) -> list[Association]:
    """Return violating and harmless rows of every finding; harmless rows show no finding's behaviour."""
    import pyarrow.compute as pc

    found, guilty = [], set()
    for run in runs:
        rows = _rows(run)
        guilty.update(rows["id"].filter(rows["has_crux"]).to_pylist())
        for finding in rows["finding"].unique().to_pylist():
            carriers = rows.filter(pc.and_(pc.equal(rows["finding"], finding), rows["has_trigger"]))
            violating = carriers["id"].filter(carriers["has_crux"]).to_pylist()
            without = rows.filter(pc.and_(pc.equal(rows["finding"], finding), pc.invert(rows["has_trigger"])))
            elsewhere = without["id"].filter(without["has_crux"]).to_pylist()
            found.append((f"{run.name}/{finding}", violating, carriers["id"].to_pylist(), elsewhere))
    return [
        Association(name, tuple(violating), tuple(i for i in carriers if i not in guilty), tuple(elsewhere))
        for name, violating, carriers, elsewhere in found
    ]


def _rows(run: Path) -> pa.Table:
    path = run / "rows.parquet"
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give the --out of an `undertow trace` that found rows")
    return read_table(path, ["finding", "id", "has_trigger", "has_crux"])
