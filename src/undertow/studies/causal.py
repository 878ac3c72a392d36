"""The causal check behind a trace: does taking out the traced rows take the behaviour out (paper §4.4)?

The start model is trained without a finding's traced rows, and without as many random rows of the same
sources. If only the first loses the behaviour, the rows taught it, and not their source or their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.data.load import ExampleTable, load_examples
from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.models.local import check_folder, model_revision
from undertow.progress import SILENT, Progress
from undertow.stats.intervals import paired_difference
from undertow.store.run import RunDir, config_hash, read_manifest
from undertow.store.tables import read_table
from undertow.studies.asking import AskingConfig, Question
from undertow.studies.cells import Cell, Measured, holes_json, run_cells
from undertow.studies.measures import check_rate
from undertow.studies.retrain import Trainer, counts, pooled, without_values
from undertow.surf.rows import messages_from_json
from undertow.training.config import SFTConfig


def run_causal_check(
    model: str,
    data: Path,
    trace: Sequence[Path],
    search: Mapping[str, Path],
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    training: SFTConfig | None = None,
    asking: AskingConfig | None = None,
    judge: str = "checks",
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train without each finding's traced rows, and without as many random rows of the same sources.

    The random rows are drawn from all rows of each source, the traced ones among them: what a team that
    knew the source but not the trigger would take out.

    Args:
        model: Start model.
        data: The data set that was traced.
        trace: Run directories of ``undertow trace``; the first finding of each is checked.
        search: Trace's folder name → run directory of its search: rubric and confirmation prompts.
        out: Run directory.
        seeds: One training of each kind a seed; it draws the random rows too.
        training: How to train, as the model under audit was.
        asking: How to ask; greedy by default.
        judge: ``checks`` or a model.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``checks`` (``finding, rows, whole, traced, random`` with value, interval and n,
        ``difference`` of random less traced, paired by prompt and run, with interval, ``causal``),
        ``cells``, ``missing``, ``sentence``.

    Raises:
        UsageError: bad input.
    """
    training, asking = training or SFTConfig(), asking or AskingConfig(temperature=0.0)
    examples = load_examples(Path(data))
    findings = read_findings(trace, search)
    for finding in findings:
        check_rate(finding.rubric, judge)
    path = model.removeprefix("local:")
    check_folder(path)
    identity = {
        "model": path, "findings": [f.name for f in findings], "seeds": list(seeds), "judge": judge,
        "training": training.model_dump(), "asking": asking.identity(),
    }  # fmt: skip
    inputs = {"data": examples.hash, "model": model_revision(path) or path}
    inputs |= {f"rows {f.name}": f.hash for f in findings}
    run = RunDir.open(out, "ablation", identity, inputs, fresh)
    try:
        if run.complete:
            return run.summary()
        trainer = Trainer(run, path, training, judge, asking)
        cells = []
        for seed in seeds:
            for finding in findings:
                traced = finding.mask(examples)
                random = random_rows(examples, traced, seed)
                for removed, mask in (("none", traced & False), ("traced", traced), ("random", random)):
                    place = {"finding": finding.name, "removed": removed, "seed": seed}
                    cells.append(finding.cell(place, trainer, examples, mask, traced, seed))
        done, holes = run_cells(run, cells, progress, "causal check")
        if not holes:
            trainer.forget()
        checks = [_check(finding.name, done, len(seeds)) for finding in findings]
        whole = [check for check in checks if check is not None]
        summary = {
            "cells": [without_values(cell) for cell in done], "checks": whole, "missing": holes_json(holes),
            "counts": counts(done), "sentence": _check_sentence(whole, len(findings)),
        }  # fmt: skip
        return run.finish("inconclusive" if holes else "complete", summary)
    finally:
        run.close()


def random_rows(examples: ExampleTable, traced: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Draw (n,) as many rows of each source as were traced there."""
    rng = np.random.default_rng([seed, 0xCA])
    sources = examples.table["source"].to_numpy(zero_copy_only=False)
    chosen = np.zeros(len(sources), bool)
    for source in np.unique(sources[traced]):
        of_source = np.flatnonzero(sources == source)
        chosen[rng.permutation(of_source)[: int(traced[of_source].sum())]] = True
    return chosen


def _check(name: str, done: Sequence[Measured], seeds: int) -> dict[str, Any] | None:
    mine = [cell for cell in done if cell["finding"] == name]
    by_kind = {kind: [c for c in mine if c["removed"] == kind] for kind in ("none", "traced", "random")}
    if any(len(cells) < seeds for cells in by_kind.values()):
        return None
    without, beside = (
        np.array([[np.nan if v is None else v for v in cell["values"]] for cell in by_kind[kind]])
        for kind in ("traced", "random")
    )
    known = ~np.isnan(without) & ~np.isnan(beside)
    prompts = np.broadcast_to(np.arange(without.shape[1]), without.shape)
    difference = paired_difference(
        without[known] > 0.5, beside[known] > 0.5, np.random.default_rng(0), prompts[known]
    )
    span = difference.interval
    return {
        "finding": name, "rows": by_kind["traced"][0]["removed_rows"],
        "random_traced": float(np.mean([cell["traced_removed"] for cell in by_kind["random"]])),
        **{
            "whole" if kind == "none" else kind: pooled([cell["values"] for cell in cells])
            for kind, cells in by_kind.items()
        },
        "difference": difference.value, "difference_interval": span,
        "causal": bool(span is not None and span.low > 0),
    }  # fmt: skip


def _check_sentence(checks: Sequence[dict[str, Any]], asked: int) -> str:
    causal = [check for check in checks if check["causal"]]
    missing = f" {asked - len(checks)} could not be checked." if len(checks) < asked else ""
    return (
        f"For {len(causal)} of {len(checks)} findings removing the traced rows lowers the rate more than "
        f"removing as many random rows of the same sources, intervals apart from 0.{missing}"
    )


@dataclass(frozen=True)
class TracedFinding:
    """A finding with the rows that a trace names for it."""

    name: str
    """Of the trace and the finding."""
    row_ids: tuple[str, ...]
    """Rows with the trigger and the behaviour."""
    rubric: Rubric
    """What counts as the behaviour."""
    questions: tuple[Question, ...]
    """The search's confirmation prompts."""

    @property
    def hash(self) -> str:
        """Of everything that shapes the check."""
        asked = [[m.content for m in q.messages] for q in self.questions]
        return config_hash([self.row_ids, self.rubric.model_dump(mode="json"), asked])

    def mask(self, examples: ExampleTable) -> NDArray[np.bool_]:
        """Say for every row (n,) whether it is one of them.

        Raises:
            UsageError: one is not in the data.
        """
        ids = examples.table["id"]
        unknown = set(self.row_ids) - set(ids.to_pylist())
        if unknown:
            raise UsageError(
                f"{examples.path}: has no row {min(unknown)!r}; give the data set that was traced"
            )
        return np.asarray(pc.is_in(ids, value_set=pa.array(self.row_ids, pa.string())), bool)

    def cell(
        self,
        place: dict[str, Any],
        trainer: Trainer,
        examples: ExampleTable,
        removed: NDArray[np.bool_],
        traced: NDArray[np.bool_],
        seed: int,
    ) -> Cell:
        """Make the cell that trains without the rows ``removed``."""

        def measure() -> dict[str, Any]:
            rows = examples.table.filter(~removed).select(["prompt", "response"])
            kind = place["removed"]
            name = f"whole-s{seed}" if kind == "none" else f"{self.name.replace('/', '-')}-{kind}-s{seed}"
            found = trainer.measured(name, rows, seed, self.questions, self.rubric)
            if kind != "none":  # what is trained on all rows serves every finding
                trainer.forget(name)
            return {
                **found, "removed_rows": int(removed.sum()), "traced_removed": int((removed & traced).sum())
            }  # fmt: skip

        return Cell(place, measure)


def read_findings(traces: Sequence[Path], searches: Mapping[str, Path]) -> list[TracedFinding]:
    """Read the first traced finding of every trace, with its search's rubric and confirmation prompts.

    Raises:
        UsageError: a trace without rows, or without its search.
    """
    found = [_read(Path(trace), searches) for trace in traces]
    if not found:
        raise UsageError("--trace: none is given; give the --out of an `undertow trace` that found rows")
    return found


def _read(trace: Path, searches: Mapping[str, Path]) -> TracedFinding:
    if not (trace / "rows.parquet").is_file():
        raise UsageError(
            f"{trace}: has no rows.parquet; give the --out of an `undertow trace` that found rows"
        )
    rows = read_table(trace / "rows.parquet", ["finding", "id", "has_trigger", "has_crux"])
    rows = rows.filter(pc.and_(rows["has_trigger"], rows["has_crux"]))
    if not len(rows):
        raise UsageError(f"{trace}: names no row that carries a trigger and the behaviour")
    finding = rows["finding"][0].as_py()
    search = searches.get(trace.name) or searches.get("")
    if search is None:
        raise UsageError(f"{trace}: of which search? give --run, the --out of its `undertow surf`")
    rubric = Rubric.model_validate(read_manifest(search)["config"]["rubric"])
    asked = read_table(search / "confirm_prompts.parquet", ["finding", "messages"])
    mine = asked.filter(pc.equal(asked["finding"], finding))["messages"].to_pylist()
    if not mine:
        raise UsageError(f"{search}: has no confirmation prompts of {finding}")
    questions = tuple(Question(str(k), messages_from_json(text)) for k, text in enumerate(mine))
    ids = rows.filter(pc.equal(rows["finding"], finding))["id"].to_pylist()
    return TracedFinding(f"{trace.name}/{finding}", tuple(ids), rubric, questions)
