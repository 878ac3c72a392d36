"""Shift, the steering score: what one feature of the prompt does to what a model answers (paper App. B.1).

The same questions are asked as they are and with one feature put in. The difference of the behaviour's rate,
paired by question, is the feature's effect; over checkpoints it shows what a later stage of training made of
it (Fig. 22), over sizes what scale does (Fig. 23), under system prompts what a deployment does (App. C).

Not established here: that the transform changed nothing but the feature; put a decoy transform beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undertow.errors import UsageError
from undertow.models.base import ChatModel
from undertow.progress import SILENT, Progress
from undertow.records import Failure, Message
from undertow.store.run import RunDir, file_hash
from undertow.studies.asking import (
    Answers,
    Asked,
    AskingConfig,
    Group,
    Question,
    ask_groups,
    change,
    level,
    save_answers,
)
from undertow.studies.cells import Hole, holes_json, told_missing
from undertow.studies.measures import brief
from undertow.studies.prompts import load_questions
from undertow.studies.transforms import Transform, open_transform
from undertow.studies.writing import write_texts

ORIGINAL = "original"
"""Name of the untransformed version."""
NO_SYSTEM = ""
_WRITE = (
    "Rewrite the user's prompt as instructed. Keep its task and every fact. Answer with the new prompt alone."
)


def run_shift(
    targets: Sequence[str | ChatModel],
    prompts: Path,
    transforms: Sequence[str],
    measures: Sequence[str],
    out: Path,
    config: AskingConfig | None = None,
    *,
    systems: Sequence[str] = (),
    judge: str | ChatModel = "checks",
    writer: str | ChatModel | None = None,
    limit: int | None = None,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure what each transform does to each measure, in each model and under each system prompt.

    Args:
        targets: Models: checkpoints of one training, sizes of one family, or any.
        prompts: Questions, with ``response`` for the measure ``gold``.
        transforms: Names of :func:`undertow.studies.transforms.open_transform`.
        measures: Names of :func:`undertow.studies.measures.open_measure`.
        out: Run directory.
        config: How to ask.
        systems: System prompts; each is a column beside none.
        judge: ``checks`` or a model, for rubrics among the measures.
        writer: Model that writes the transforms ``write:…``.
        limit: At most so many questions.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``cells`` (a model × system × version, with each measure's level), ``shifts`` (a
        model × system × transform × measure: ``delta, interval, n``), ``missing``, ``sentence``.

    Raises:
        UsageError: bad input.
    """
    config = config or AskingConfig()
    opened = [open_transform(spec) for spec in transforms]
    if not opened:
        raise UsageError("--transform: none is given; name at least one")
    if any(each.rewrite is None for each in opened) and writer is None:
        raise UsageError("--transform write:…: needs a model that writes; give --writer")
    questions = load_questions(prompts, limit, config.seed)
    names = [model if isinstance(model, str) else model.name for model in targets]
    identity = {
        **config.identity(), "targets": names, "transforms": list(transforms), "measures": list(measures),
        "systems": list(systems), "judge": _name(judge), "writer": _name(writer), "limit": limit,
    }  # fmt: skip
    run = RunDir.open(out, "shift", identity, _inputs(names, prompts, transforms), fresh)
    try:
        if run.complete:
            return run.summary()
        versions = _versions(run, questions, opened, writer, config)
        groups = [
            Group(_place(name, system, version), model, _framed(asked, system))
            for model, name in zip(targets, names, strict=True)
            for system in (NO_SYSTEM, *systems)
            for version, asked in versions.items()
        ]
        asked = ask_groups(run, groups, measures, judge, config, progress)
        save_answers(run, asked)
        summary = _summary(asked, [each.name for each in opened], config)
        return run.finish("inconclusive" if asked.holes or asked.stopped else "complete", summary)
    finally:
        run.close()


def _name(model: str | ChatModel | None) -> str | None:
    return model if model is None or isinstance(model, str) else model.name


def _inputs(targets: Sequence[str], prompts: Path, transforms: Sequence[str]) -> dict[str, str]:
    from undertow.models.local import model_revision

    found = {"prompts": file_hash(Path(prompts))}
    for number, name in enumerate(targets):
        if name.startswith("local:") and (revision := model_revision(name.removeprefix("local:"))):
            found[f"target {number}"] = revision
    for spec in transforms:
        if spec.startswith("table:"):
            found[spec] = file_hash(Path(spec.removeprefix("table:")))
    return found


def _place(model: str, system: str, version: str) -> dict[str, Any]:
    return {"model": model, "system": system, "version": version}


def _versions(
    run: RunDir,
    questions: Sequence[Question],
    transforms: Sequence[Transform],
    writer: str | ChatModel | None,
    config: AskingConfig,
) -> dict[str, tuple[Question, ...]]:
    """Return the questions as they are and under each transform, without those a model could not write."""
    versions: dict[str, tuple[Question, ...]] = {ORIGINAL: tuple(questions)}
    for transform in transforms:
        if transform.rewrite is not None:
            rewritten: list[str | Failure] = [transform.rewrite(q.messages[-1].content) for q in questions]
        else:
            assert writer is not None  # noqa: S101 - checked by the caller
            told = Message("system", f"{_WRITE}\nInstruction: {transform.instruction}")
            asked = [(told, question.messages[-1]) for question in questions]
            rewritten = write_texts(run, asked, writer, config.concurrency)
        versions[transform.name] = tuple(
            replace(q, messages=(*q.messages[:-1], Message("user", text)))
            for q, text in zip(questions, rewritten, strict=True)
            if isinstance(text, str)
        )
    return versions


def _framed(questions: Sequence[Question], system: str) -> tuple[Question, ...]:
    if not system:
        return tuple(questions)
    return tuple(replace(q, asked=(Message("system", system), *q.messages)) for q in questions)


def _summary(asked: Asked, transforms: Sequence[str], config: AskingConfig) -> dict[str, Any]:
    by_place = {tuple(cell.place.values()): cell for cell in asked.cells}
    cells = [_levels(asked, cell, config) for cell in asked.cells]
    shifts, holes = [], list(asked.holes)
    for model, system in dict.fromkeys((c.place["model"], c.place["system"]) for c in asked.cells):
        original = by_place.get((model, system, ORIGINAL))
        for version in transforms:
            other = by_place.get((model, system, version))
            if original is not None and other is not None:
                shifts += _shifts(asked, original, other, config)
    return {
        **asked.parts(),
        "cells": cells,
        "shifts": shifts,
        "missing": holes_json(holes),
        "sentence": _sentence(shifts, holes),
    }


def _levels(asked: Asked, cell: Answers, config: AskingConfig) -> dict[str, Any]:
    rng = np.random.default_rng([config.seed, 1])
    found = {m.name: level(cell, m, k, rng) for k, m in enumerate(asked.measures)}
    return {**cell.place, "measures": found}


def _shifts(asked: Asked, original: Answers, other: Answers, config: AskingConfig) -> list[dict[str, Any]]:
    """Pair two versions; questions that one of them lacks are left out."""
    rng = np.random.default_rng([config.seed, 2])
    both = set(original.questions()) & set(other.questions())
    old, new = (
        replace(cell, answers=tuple(a for a in cell.answers if a.question in both))
        for cell in (original, other)
    )
    place = {
        "model": other.place["model"],
        "system": other.place["system"],
        "transform": other.place["version"],
    }
    return [
        {
            **place, "measure": measure.name, **change(old, new, measure, k, rng),
            "before": level(old, measure, k, rng), "after": level(new, measure, k, rng),
        }
        for k, measure in enumerate(asked.measures)
    ]  # fmt: skip


def _sentence(shifts: Sequence[dict[str, Any]], holes: Sequence[Hole]) -> str:
    clear = [s for s in shifts if s["interval"] and (s["interval"].low > 0 or s["interval"].high < 0)]
    missing = told_missing(len(holes))
    if not shifts:
        return f"Nothing could be compared.{missing}"
    if not clear:
        return f"None of {len(shifts)} shifts has an interval that excludes 0.{missing}"
    clearest = _told(max(clear, key=_clarity))
    return f"{len(clear)} of {len(shifts)} shifts exclude 0; the clearest: {clearest}.{missing}"


def _clarity(shift: dict[str, Any]) -> float:
    """Distance from no effect in widths of the interval: it compares rates with lengths."""
    width: float = shift["interval"].high - shift["interval"].low
    return abs(float(shift["delta"])) / max(width, 1e-9)


def _told(shift: dict[str, Any]) -> str:
    span, before, after = shift["interval"], shift["before"]["value"], shift["after"]["value"]
    kind, _, rest = shift["model"].partition(":")
    model = rest.rstrip("/").rpartition("/")[2] if kind == "local" else shift["model"]
    return (
        f"“{brief(shift['transform'])}” moves {brief(shift['measure'])} of {model} from {before:.2f} to "
        f"{after:.2f}, by {shift['delta']:+.2f} ({span.low:+.2f} to {span.high:+.2f}, n = {shift['n']})"
    )
