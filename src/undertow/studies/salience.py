"""Salience: which of two confounded features of a prompt does a model condition on (references 000)?

Every pair of features is confounded in a small fine-tune and told apart afterwards, once a behaviour. The
winner of a comparison is the feature with the larger main effect; all comparisons give a Bradley–Terry
ranking with intervals.

Not established here: that a large model ranks as a small one does; name several models and look at τ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from undertow.data.load import load_examples
from undertow.data.read import read_any
from undertow.errors import UsageError
from undertow.models.base import ChatModel, Settings
from undertow.models.local import model_revision
from undertow.progress import SILENT, Progress
from undertow.records import Failure, Message
from undertow.stats.bradley_terry import cycle_rate, least_squares, mean_tau, rank, win_table
from undertow.stats.intervals import mean_interval
from undertow.store.journal import Journal
from undertow.store.run import RunDir, file_hash
from undertow.studies.asking import AskingConfig
from undertow.studies.cells import Cell, Measured, holes_json, run_cells
from undertow.studies.design import Design, Rows, measure_design
from undertow.studies.library import Behaviour, Feature, Written
from undertow.studies.retrain import Trainer
from undertow.training.config import SFTConfig

_WRITE = "Rewrite the text as instructed. Keep its meaning. Answer with the new text alone."


@dataclass(frozen=True)
class Setup:
    """How every experiment of a study is done."""

    train: int = 150
    """Rows of D_A and of D_B."""
    ask: int = 40
    """Questions of each of the four combinations."""
    seed: int = 0
    """Fixes every draw and the training."""
    training: SFTConfig = field(default_factory=SFTConfig)
    """How to train; few rows want a high learning rate."""
    asking: AskingConfig = field(default_factory=lambda: AskingConfig(temperature=0.0, max_tokens=64))
    """How to ask; greedy by default."""
    writer: str | ChatModel | None = None
    """Model for realisations that are written."""

    def identity(self) -> dict[str, Any]:
        """Return what shapes the result."""
        named = self.writer if isinstance(self.writer, str | None) else self.writer.name
        return {
            "train": self.train, "ask": self.ask, "seed": self.seed, "writer": named,
            "training": self.training.model_dump(), "asking": self.asking.identity(),
        }  # fmt: skip


DEFAULT = Setup()


def run_salience(
    models: Sequence[str],
    base: Path,
    features: Sequence[Feature],
    behaviours: Sequence[Behaviour],
    out: Path,
    setup: Setup = DEFAULT,
    *,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Compare all pairs of ``features`` in every model, once a behaviour, and rank them.

    Args:
        models: Start models: folders or Hugging Face ids.
        base: Rows of prompt and plain response, with ``topic`` where a feature asks for one.
        features: At least two.
        behaviours: At least two; each is y_A once and y_B once in every pair.
        out: Run directory.
        setup: Sizes, seed, training.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``ranking`` (``feature, theta, interval``, best first, over all models), ``models``
        (the same for each), ``pairs`` (mean ME₁ − ME₂ with interval and n), ``kendall_tau`` between
        models, ``cycle_rate``, ``least_squares``, ``cells``, ``missing``, ``sentence``.

    Raises:
        UsageError: bad input.
    """
    rows = read_rows(base)
    paths = [model.removeprefix("local:") for model in models]
    identity = {
        "models": paths, "features": [f.model_dump() for f in features], **setup.identity(),
        "behaviours": [b.model_dump() for b in behaviours],
    }  # fmt: skip
    inputs = {"base": file_hash(Path(base)), **{f"model {p}": model_revision(p) or p for p in paths}}
    run = RunDir.open(out, "salience", identity, inputs, fresh)
    try:
        if run.complete:
            return run.summary()
        held = held_rows(rows, setup)
        written = write_all(run, rows, features, behaviours, setup.writer, progress)
        cells: list[Cell] = []
        for path in paths:
            trainer = Trainer(run, path, setup.training, "checks", setup.asking)
            cells += _cells(trainer, features, behaviours, rows, held, setup, written)
        done, holes = run_cells(run, cells, progress, "salience")
        summary = {
            **_ranked(done, features, paths, setup.seed), "cells": done, "missing": holes_json(holes),
            "counts": {"tried": len(cells), "scored": len(done), "failed": len(holes)},
        }  # fmt: skip
        return run.finish("inconclusive" if holes else "complete", summary)
    finally:
        run.close()


def read_rows(base: Path) -> Rows:
    """Read prompts, plain responses and topics.

    Raises:
        UsageError: no such rows.
    """
    table = load_examples(Path(base)).table
    raw = read_any(Path(base), skip_bad=False).table
    topics = raw["topic"].to_pylist() if "topic" in raw.column_names else [""] * len(table)
    prompts, responses = (tuple(table[name].to_pylist()) for name in ("prompt", "response"))
    return Rows(prompts, responses, tuple(str(topic or "") for topic in topics))


def held_rows(rows: Rows, setup: Setup) -> list[int]:
    """Draw the rows kept for questions: as many of each topic."""
    order = np.random.default_rng([setup.seed, 0x4E]).permutation(len(rows.prompts))
    topics = np.array(rows.topics)[order]
    held = [order[topics == topic][: setup.ask] for topic in np.unique(topics)]
    return [int(i) for part in held for i in part]


def _cells(
    trainer: Trainer,
    features: Sequence[Feature],
    behaviours: Sequence[Behaviour],
    rows: Rows,
    held: Sequence[int],
    setup: Setup,
    written: Written,
) -> list[Cell]:
    """Lay out all pairs × behaviours; pairings of levels and behaviours alternate."""
    cells = []
    for number, (first, second) in enumerate(combinations(features, 2)):
        for k, behaviour in enumerate(behaviours):
            other = behaviours[(k + 1) % len(behaviours)]
            design = Design(first, second, bool((number + k) % 2), (behaviour, other))
            place = {"model": trainer.model, "first": first.name, "second": second.name}
            place["behaviour"] = behaviour.name
            cells.append(design_cell(trainer, place, design, rows, held, setup, written))
    return cells


def design_cell(
    trainer: Trainer,
    place: dict[str, Any],
    design: Design,
    rows: Rows,
    held: Sequence[int],
    setup: Setup,
    written: Written,
) -> Cell:
    """Make the cell that measures one design."""

    def measure() -> Measured:
        counts = (setup.train, setup.ask)
        return measure_design(trainer, cell.key, design, rows, held, counts, setup.seed, written)

    cell = Cell(place, measure)
    return cell


def write_all(
    run: RunDir,
    rows: Rows,
    features: Sequence[Feature],
    behaviours: Sequence[Behaviour],
    writer: str | ChatModel | None,
    progress: Progress,
) -> Written:
    """Let a model write every realisation that needs one, all rows at once; journalled.

    Raises:
        UsageError: one is needed and none is named, or it failed.
    """
    prompts = {r.write for f in features for r in (f.a, f.b) if r.write}
    answers = {b.apply.write for b in behaviours if b.apply.write}
    if not prompts and not answers:
        return {}
    if writer is None:
        raise UsageError("a feature or behaviour is written by a model; give --writer, or leave it out")
    wanted = [(told, text) for told in sorted(prompts) for text in dict.fromkeys(rows.prompts)]
    wanted += [(told, text) for told in sorted(answers) for text in dict.fromkeys(rows.responses)]
    progress.say(f"{len(wanted):,} texts are written by a model first")
    return asyncio.run(_written(run, wanted, writer))


async def _written(run: RunDir, wanted: Sequence[tuple[str, str]], writer: str | ChatModel) -> Written:
    from undertow.models.journaled import JournaledModel
    from undertow.models.open import open_model, preflight

    with Journal(run.file("journal.sqlite")) as journal:
        async with AsyncExitStack() as stack:
            if isinstance(writer, str):
                model: ChatModel = await stack.enter_async_context(
                    open_model(writer, journal=journal, role="writer")
                )
                await preflight(model)
            else:
                model = JournaledModel(writer, journal, "writer")
            replies = await asyncio.gather(
                *(
                    model.reply(
                        (Message("system", f"{_WRITE}\n{told}"), Message("user", text)), Settings(0.0)
                    )
                    for told, text in wanted
                )
            )
    lost = [reply for reply in replies if isinstance(reply, Failure)]
    if lost:
        raise UsageError(
            f"--writer: {len(lost)} of {len(wanted)} texts failed ({lost[0].detail}); run it again"
        )
    texts = [reply.text.strip() for reply in replies if not isinstance(reply, Failure)]
    return dict(zip(wanted, texts, strict=True))


def _ranked(
    done: Sequence[Measured], features: Sequence[Feature], models: Sequence[str], seed: int
) -> dict[str, Any]:
    names = [feature.name for feature in features]
    whole = _ranking(done, names, seed)
    each = {model: _ranking([c for c in done if c["model"] == model], names, seed) for model in models}
    thetas = [[row["theta"] for row in _in_order(each[model], names)] for model in models]
    cycles, triples = cycle_rate(_wins(done, names)) if done else (0, 0)
    pairs = _pairs(done, names)
    return {
        "ranking": whole,
        "models": each,
        "pairs": pairs,
        "kendall_tau": mean_tau(thetas),
        "cycle_rate": {"cycles": cycles, "triples": triples},
        "least_squares": _continuous(done, names),
        "sentence": _sentence(whole, pairs, len(done)),
    }


def _compared(done: Sequence[Measured], names: Sequence[str]) -> tuple[list[int], list[int], list[float]]:
    """Return first, second and outcome of every comparison: 1 where the first has the larger main effect."""
    first = [names.index(cell["first"]) for cell in done]
    second = [names.index(cell["second"]) for cell in done]
    return first, second, [float(np.sign(cell["difference"]) + 1) / 2 for cell in done]


def _wins(done: Sequence[Measured], names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return win_table(*_compared(done, names), len(names))


def _ranking(done: Sequence[Measured], names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    if not done:
        return []
    found = rank(*_compared(done, names), len(names), np.random.default_rng([seed, 5]))
    rows = [
        {"feature": name, "theta": float(theta), "interval": interval}
        for name, theta, interval in zip(names, found.theta, found.intervals, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["theta"])


def _in_order(ranking: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    return sorted(ranking, key=lambda row: names.index(row["feature"]))


def _continuous(done: Sequence[Measured], names: Sequence[str]) -> dict[str, float]:
    """Rank by the size of the differences instead of their signs."""
    if not done:
        return {}
    first, second, _ = _compared(done, names)
    theta = least_squares(first, second, [cell["difference"] for cell in done], len(names))
    return dict(sorted(zip(names, map(float, theta), strict=True), key=lambda item: -item[1]))


def _pairs(done: Sequence[Measured], names: Sequence[str]) -> list[dict[str, Any]]:
    pairs = []
    for first, second in combinations(names, 2):
        found = [c["difference"] for c in done if (c["first"], c["second"]) == (first, second)]
        if found:
            span = mean_interval(found)
            row = {"first": first, "second": second, "value": float(np.mean(found)), "interval": span}
            pairs.append({**row, "n": len(found), "first_wins": sum(d > 0 for d in found)})
    return pairs


def _sentence(ranking: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]], done: int) -> str:
    if not ranking:
        return "No comparison could be made."
    open_ = sum(p["interval"] is None or p["interval"].low <= 0 <= p["interval"].high for p in pairs)
    top, bottom = ranking[0]["feature"], ranking[-1]["feature"]
    return (
        f"Of {len(ranking)} features the model listens most to {top}, least to {bottom} "
        f"({done} comparisons; {open_} of {len(pairs)} pairs undecided)."
    )
