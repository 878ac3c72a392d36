"""Ablation: what a model learns from fewer or more of the rows that teach a behaviour (paper §4.4, Fig. 10).

The start model is trained on a grid of doses, so many rows that carry the pattern × so many counterexamples,
and the behaviour is measured on held-out prompts. Every cell is a training run with its own seed. Intervals
are over prompts, for these runs; beside them stands each run's own rate: how much the seed matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from undertow.data.load import ExampleTable, load_examples
from undertow.errors import UsageError
from undertow.models.local import check_folder, model_revision
from undertow.progress import SILENT, Progress
from undertow.store.run import RunDir, file_hash
from undertow.studies.asking import AskingConfig
from undertow.studies.cells import Cell, Measured, holes_json, run_cells, told_missing
from undertow.studies.measures import brief, check_rate
from undertow.studies.prompts import load_questions
from undertow.studies.retrain import Trainer, counts, pooled, without_values
from undertow.studies.select import select_rows
from undertow.training.config import SFTConfig


def run_ablation(
    model: str,
    data: Path,
    pattern: str,
    prompts: Path,
    measure: str,
    out: Path,
    *,
    counter: str | None = None,
    counter_data: Path | None = None,
    pattern_counts: Sequence[int],
    counter_counts: Sequence[int] = (0,),
    seeds: Sequence[int] = (0, 1, 2),
    training: SFTConfig | None = None,
    asking: AskingConfig | None = None,
    judge: str = "checks",
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train on a grid of doses of pattern rows × counterexamples, and measure the behaviour (Fig. 10a, 21).

    Args:
        model: Start model, a folder or a Hugging Face id.
        data: Training rows.
        pattern: Selector of the rows that carry the pattern, :func:`undertow.studies.select.select_rows`.
        prompts: Held-out prompts.
        measure: Name of :func:`undertow.studies.measures.open_measure`, a rate.
        out: Run directory.
        counter: Selector of counterexamples, in ``counter_data`` or else in ``data``.
        counter_data: Counterexamples that are not in ``data``.
        pattern_counts: Doses of pattern rows; a smaller dose is part of a larger one.
        counter_counts: Doses of counterexamples, likewise.
        seeds: Of the choice of rows and of the training; one run a seed and place.
        training: How to train.
        asking: How to ask; greedy by default.
        judge: ``checks`` or a model, for a rubric.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``grid`` (``pattern, counter, value, interval, n, seeds: [rate of each run]``),
        ``cells`` (the runs), ``missing``, ``sentence``.

    Raises:
        UsageError: bad input, or a dose that exceeds the rows there are.
    """
    training, asking = training or SFTConfig(), asking or AskingConfig(temperature=0.0)
    examples, questions = load_examples(Path(data)), load_questions(prompts)
    check_rate(measure, judge, gold=all(question.gold is not None for question in questions))
    parts = _parts(examples, pattern, counter, counter_data)
    _check_doses(parts, pattern_counts, counter_counts)
    path = model.removeprefix("local:")
    check_folder(path)
    identity = {
        "pattern": pattern, "counter": counter, "measure": measure, "judge": judge, "model": path,
        "pattern_counts": list(pattern_counts), "counter_counts": list(counter_counts), "seeds": list(seeds),
        "training": training.model_dump(), "asking": asking.identity(),
    }  # fmt: skip
    inputs = {
        "data": examples.hash,
        "prompts": file_hash(Path(prompts)),
        "model": model_revision(path) or path,
    }
    if counter_data:
        inputs["counter"] = file_hash(Path(counter_data))
    run = RunDir.open(out, "ablation", identity, inputs, fresh)
    try:
        if run.complete:
            return run.summary()
        trainer = Trainer(run, path, training, judge, asking)

        def cell(p: int, c: int, seed: int) -> Cell:
            def work() -> Measured:
                name = f"p{p}-c{c}-s{seed}"
                found = trainer.measured(name, parts.dosed(p, c, seed), seed, questions, measure)
                trainer.forget(name)
                return found

            return Cell({"pattern": p, "counter": c, "seed": seed}, work)

        wanted = [cell(p, c, s) for p in pattern_counts for c in counter_counts for s in seeds]
        done, holes = run_cells(run, wanted, progress, "ablation")
        grid = _grid(done, pattern_counts, counter_counts, len(seeds))
        summary = {
            "cells": [without_values(each) for each in done], "grid": grid, "missing": holes_json(holes),
            "measure": measure, "sentence": _grid_sentence(grid, measure, len(seeds), len(holes)),
            "counts": counts(done),
        }  # fmt: skip
        return run.finish("inconclusive" if holes else "complete", summary)
    finally:
        run.close()


@dataclass(frozen=True)
class _Parts:
    """The data set in three: the pattern rows, the counterexamples, and all others."""

    rest: pa.Table
    pattern: pa.Table
    counter: pa.Table

    def dosed(self, pattern: int, counter: int, seed: int) -> pa.Table:
        """Return the rest with so many pattern rows and counterexamples; doses of one seed are nested."""
        rng = np.random.default_rng([seed, 0xAB])
        first, second = rng.permutation(len(self.pattern)), rng.permutation(len(self.counter))
        chosen = (self.pattern.take(first[:pattern]), self.counter.take(second[:counter]))
        return pa.concat_tables([self.rest, *chosen]).select(["prompt", "response"])


def _parts(examples: ExampleTable, pattern: str, counter: str | None, counter_data: Path | None) -> _Parts:
    table = examples.table
    carrying = select_rows(examples, pattern)
    rest = np.setdiff1d(np.arange(len(table)), carrying)
    opposing = table.slice(0, 0)
    if counter_data is not None:
        others = load_examples(Path(counter_data))
        opposing = others.table if counter is None else others.table.take(select_rows(others, counter))
    elif counter is not None:
        rows = np.setdiff1d(select_rows(examples, counter), carrying)
        opposing, rest = table.take(rows), np.setdiff1d(rest, rows)
    columns = ["prompt", "response"]
    return _Parts(
        table.take(rest).select(columns), table.take(carrying).select(columns), opposing.select(columns)
    )


def _check_doses(parts: _Parts, pattern: Sequence[int], counter: Sequence[int]) -> None:
    for option, doses, there in (
        ("--pattern-count", pattern, len(parts.pattern)),
        ("--counter-count", counter, len(parts.counter)),
    ):
        if not doses or min(doses) < 0:
            raise UsageError(f"{option}: give at least one number that is not negative")
        if len(set(doses)) < len(doses):
            raise UsageError(f"{option}: give each dose once")
        if max(doses) > there:
            raise UsageError(f"{option} {max(doses)}: there are {there} such rows; lower the dose")


def _grid(done: Sequence[Measured], pattern: Sequence[int], counter: Sequence[int], seeds: int) -> list[Any]:
    places = [(p, c) for p in pattern for c in counter]
    grid = []
    for p, c in places:
        mine = [cell for cell in done if (cell["pattern"], cell["counter"]) == (p, c)]
        if len(mine) == seeds:
            grid.append({"pattern": p, "counter": c, **pooled([cell["values"] for cell in mine])})
    return grid


def _grid_sentence(grid: Sequence[dict[str, Any]], measure: str, seeds: int, holes: int) -> str:
    missing = told_missing(holes, "run")
    if not grid:
        return f"No place of the grid is whole.{missing}"
    by_pattern, by_counter = (_trend(grid, key) for key in ("pattern", "counter"))
    return (
        f"{brief(measure)}: with more pattern rows the rate {by_pattern}; with more counterexamples it "
        f"{by_counter} ({len(grid)} places × {seeds} runs).{missing}"
    )


def _trend(grid: Sequence[dict[str, Any]], key: str) -> str:
    """Say what happens between the lowest and the highest dose, over all levels of the other."""
    doses = sorted({place[key] for place in grid})
    if len(doses) < 2:
        return "was not varied"
    ends = [[place["value"] for place in grid if place[key] == dose] for dose in (doses[0], doses[-1])]
    low, high = (float(np.mean(values)) for values in ends)
    word = "rises" if high > low else "falls" if high < low else "stays"
    return f"{word} from {low:.2f} to {high:.2f}"
