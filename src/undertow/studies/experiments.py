"""The frame of every salience study: rows, realisations and cells, in one resumable run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from undertow.data.load import load_examples
from undertow.data.read import read_any
from undertow.errors import UsageError
from undertow.models.base import ChatModel
from undertow.models.local import check_folder, model_revision
from undertow.progress import SILENT, Progress
from undertow.records import Failure, Message
from undertow.store.run import RunDir, file_hash
from undertow.studies.asking import AskingConfig
from undertow.studies.cells import Cell, Hole, Measured, holes_json, run_cells
from undertow.studies.design import Design, Rows, measure_design
from undertow.studies.library import Behaviour, Feature, Written
from undertow.studies.measures import check_rate
from undertow.studies.retrain import Trainer
from undertow.studies.writing import write_texts
from undertow.training.config import SFTConfig

Place = tuple[dict[str, Any], Design]
"""Where a cell stands in the table, and what it trains."""
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
    judge: str = "checks"
    """``checks`` or a model, for a behaviour that a rubric detects."""

    def identity(self) -> dict[str, Any]:
        """Return what shapes the result."""
        named = self.writer if isinstance(self.writer, str | None) else self.writer.name
        return {
            "train": self.train, "ask": self.ask, "seed": self.seed, "writer": named, "judge": self.judge,
            "training": self.training.model_dump(), "asking": self.asking.identity(),
        }  # fmt: skip


DEFAULT = Setup()


@dataclass(frozen=True)
class Study:
    """Which experiments a study makes of its features and behaviours, and what it says of them."""

    features: Sequence[Feature]
    """Every feature that a design uses."""
    behaviours: Sequence[Behaviour]
    """At least two."""
    places: Callable[[str], list[Place]]
    """The experiments in one model."""
    identity: Mapping[str, Any]
    """What else shapes the result."""
    conclude: Callable[[Sequence[Measured], Sequence[Hole]], dict[str, Any]]
    """Sums up what was measured and what is missing."""


def run_study(
    study: Study,
    models: Sequence[str],
    base: Path,
    out: Path,
    setup: Setup = DEFAULT,
    *,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train and ask every experiment of ``study`` in every model; what is done already is kept.

    Args:
        study: What is compared.
        models: Start models: folders or Hugging Face ids.
        base: Rows of prompt and plain response, with ``topic`` where a feature asks for one.
        out: Run directory.
        setup: Sizes, seed, training.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: what ``study`` concludes, ``cells``, ``missing``, ``counts``.

    Raises:
        UsageError: bad input.
    """
    rows = read_rows(base)
    paths = [model.removeprefix("local:") for model in models]
    for path in paths:
        check_folder(path)
    check_study(study, paths, rows, base, setup)
    identity = {
        "models": paths, **setup.identity(), "features": [f.model_dump() for f in study.features],
        "behaviours": [b.model_dump() for b in study.behaviours], **study.identity,
    }  # fmt: skip
    inputs = {"base": file_hash(Path(base)), **{f"model {p}": model_revision(p) or p for p in paths}}
    run = RunDir.open(out, "salience", identity, inputs, fresh)
    try:
        if run.complete:
            return run.summary()
        written = write_all(run, rows, study, setup.writer, progress)
        cells: list[Cell] = []
        for path in paths:
            trainer = Trainer(run, path, setup.training, setup.judge, setup.asking)
            cells += [
                _cell(trainer, place, design, rows, setup, written) for place, design in study.places(path)
            ]
        done, holes = run_cells(run, cells, progress, "salience")
        summary = {
            **study.conclude(done, holes), "cells": done, "missing": holes_json(holes),
            "counts": {"tried": len(cells), "scored": len(done), "failed": len(holes)},
        }  # fmt: skip
        return run.finish("inconclusive" if holes else "complete", summary)
    finally:
        run.close()


def check_study(study: Study, models: Sequence[str], rows: Rows, base: Path, setup: Setup) -> None:
    """Refuse what would fail in every cell, before anything is trained.

    Raises:
        UsageError: too few features, behaviours or rows, or a behaviour that nothing can detect.
    """
    names = [feature.name for feature in study.features]
    if len(set(names)) < len(names) or len(set(models)) < len(models):
        raise UsageError("--model, --only, --feature and --against: name each model and each feature once")
    if len(study.behaviours) < 2:
        raise UsageError("--behaviours: a comparison needs two behaviours or more")
    for behaviour in study.behaviours:
        _check_detector(behaviour, setup.judge)
    held = set(held_rows(rows, setup))
    left = [topic for i, topic in enumerate(rows.topics) if i not in held]
    _check_rows(base, len(left), 2 * setup.train, "for training beside the questions")
    for feature in study.features:
        for wanted in {r.topic for r in (feature.a, feature.b) if r.topic}:
            _check_rows(
                base, left.count(wanted), setup.train, f"of topic {wanted} for feature {feature.name}"
            )


def _check_detector(behaviour: Behaviour, judge: str) -> None:
    try:
        check_rate(behaviour.detect, judge)
    except UsageError as error:
        raise UsageError(f"behaviour {behaviour.name}: detect: {error}") from None


def _check_rows(base: Path, there: int, needed: int, what: str) -> None:
    if there < needed:
        raise UsageError(
            f"{base}: {there} rows {what}, {needed} are needed; give more, or lower --rows and --ask"
        )


def read_rows(base: Path) -> Rows:
    """Read prompts, plain responses and topics.

    Raises:
        UsageError: no such rows.
    """
    table = load_examples(Path(base)).table
    raw = read_any(Path(base), skip_bad=False, columns=_topics).table
    topics = raw["topic"].to_pylist() if "topic" in raw.column_names else [""] * len(table)
    prompts, responses = (tuple(table[name].to_pylist()) for name in ("prompt", "response"))
    return Rows(prompts, responses, tuple(str(topic or "") for topic in topics))


def _topics(rows: list[dict[str, Any]], numbers: list[int], path: Path) -> dict[str, pa.Array]:
    """Take the column ``topic`` out of JSON objects, which readers of examples leave out."""
    return {"topic": pa.array([str(row.get("topic") or "") for row in rows], pa.string())}


def held_rows(rows: Rows, setup: Setup) -> list[int]:
    """Draw the rows kept for questions: as many of each topic."""
    order = np.random.default_rng([setup.seed, 0x4E]).permutation(len(rows.prompts))
    topics = np.array(rows.topics)[order]
    held = [order[topics == topic][: setup.ask] for topic in np.unique(topics)]
    return [int(i) for part in held for i in part]


def _cell(
    trainer: Trainer, place: dict[str, Any], design: Design, rows: Rows, setup: Setup, written: Written
) -> Cell:
    held = held_rows(rows, setup)

    def measure() -> Measured:
        sizes = (setup.train, setup.ask)
        return measure_design(trainer, cell.key, design, rows, held, sizes, setup.seed, written)

    cell = Cell(place, measure)
    return cell


def write_all(
    run: RunDir,
    rows: Rows,
    study: Study,
    writer: str | ChatModel | None,
    progress: Progress,
) -> Written:
    """Let a model write every realisation that needs one, all rows at once; journalled.

    Raises:
        UsageError: one is needed and none is named, or it failed.
    """
    prompts = {r.write for f in study.features for r in (f.a, f.b) if r.write}
    answers = {b.apply.write for b in study.behaviours if b.apply.write}
    if not prompts and not answers:
        return {}
    if writer is None:
        raise UsageError("a feature or behaviour is written by a model; give --writer, or leave it out")
    wanted = [(told, text) for told in sorted(prompts) for text in dict.fromkeys(rows.prompts)]
    wanted += [(told, text) for told in sorted(answers) for text in dict.fromkeys(rows.responses)]
    progress.say(f"{len(wanted):,} texts are written by a model first")
    asked = [(Message("system", f"{_WRITE}\n{told}"), Message("user", text)) for told, text in wanted]
    texts = write_texts(run, asked, writer)
    lost = [text for text in texts if isinstance(text, Failure)]
    if lost:
        raise UsageError(
            f"--writer: {len(lost)} of {len(wanted)} texts failed ({lost[0].detail}); run it again"
        )
    return {pair: text for pair, text in zip(wanted, texts, strict=True) if isinstance(text, str)}
