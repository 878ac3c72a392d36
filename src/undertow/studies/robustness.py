"""Robustness: do the outputs that a search found survive small changes of the prompt (paper §3.2.3, Fig. 5)?

The search's top violating prompts, each perturbed and resampled, over a whole run. They were selected for
having violated, so the rates say how stable each is, not how often the model does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.models.base import ChatModel
from undertow.progress import SILENT, Progress
from undertow.records import Message
from undertow.stats.intervals import bounded_mean
from undertow.store.run import RunDir, config_hash, file_hash, read_manifest
from undertow.store.tables import read_table
from undertow.studies.asking import Asked, AskingConfig, Group, Question, ask_groups, level, save_answers
from undertow.studies.cells import holes_json, told_missing
from undertow.surf.perturb import perturbations
from undertow.surf.rows import messages_from_json

STABLE = 0.5
"""An output that returns in at least this share of its perturbed resamples is called stable."""


def run_robustness(
    run: Path,
    out: Path,
    config: AskingConfig | None = None,
    *,
    target: str | ChatModel | None = None,
    judge: str | ChatModel | None = None,
    top: int = 75,
    versions: int = 10,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Perturb and resample the top violating prompts of a finished search.

    Args:
        run: Run directory of ``undertow surf``.
        out: Run directory.
        config: How to ask; ``replicates`` samples of each version.
        target: Default: the model that was searched.
        judge: Default: the search's judge.
        top: Prompts, highest score first (paper: 75, the buffers of 15 runs).
        versions: Perturbed versions of each.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``cells`` (a prompt each: rate, interval, n), ``mean`` with a bootstrap interval
        over prompts, ``stable`` of n, ``missing``, ``sentence``.

    Raises:
        UsageError: no finished search, or it has no violation.
    """
    config = config or AskingConfig()
    searched = read_manifest(run)
    if searched["verb"] != "surf" or searched["status"] == "running":
        raise UsageError(f"{run}: a {searched['verb']} run, {searched['status']}; give a finished search")
    stored = searched["config"]
    model = target or stored["target"]
    name = model if isinstance(model, str) else model.name
    judge = judge or stored["judge"]
    identity = {
        **config.identity(), "target": name, "judge": judge if isinstance(judge, str) else judge.name,
        "top": top, "versions": versions,
    }  # fmt: skip
    inputs = {"search": config_hash([stored, file_hash(Path(run) / "samples.parquet")])}
    opened = RunDir.open(out, "robustness", identity, inputs, fresh)
    try:
        if opened.complete:
            return opened.summary()
        found = _top(Path(run), top)
        rng = np.random.default_rng([config.seed, 0x70])
        groups = [
            Group({"model": name, "prompt": messages[-1].content}, model, _versions(messages, versions, rng))
            for messages in found
        ]
        rubric = Rubric.model_validate(stored["rubric"])
        asked = ask_groups(opened, groups, [rubric], judge, config, progress)
        save_answers(opened, asked)
        return opened.finish(
            "inconclusive" if asked.holes or asked.stopped else "complete",
            _summary(asked, len(found), config),
        )
    finally:
        opened.close()


def _top(run: Path, top: int) -> list[tuple[Message, ...]]:
    """Return the distinct conversations of the search's highest-scored violations."""
    rows = read_table(run / "samples.parquet", ["phase", "messages", "score", "violation"]).to_pylist()
    violating = [row for row in rows if row["phase"] == "search" and row["violation"]]
    if not violating:
        raise UsageError(f"{run}: the search met no violation; there is nothing to perturb")
    violating.sort(key=lambda row: -row["score"])
    distinct = dict.fromkeys(row["messages"] for row in violating)
    return [messages_from_json(text) for text in list(distinct)[:top]]


def _versions(messages: tuple[Message, ...], n: int, rng: np.random.Generator) -> tuple[Question, ...]:
    *history, last = messages
    texts = perturbations(last.content, n, rng)
    return tuple(Question(str(k), (*history, Message("user", text))) for k, text in enumerate(texts))


def _summary(asked: Asked, prompts: int, config: AskingConfig) -> dict[str, Any]:
    rng = np.random.default_rng([config.seed, 4])
    cells = [{**cell.place, **level(cell, asked.measures[0], 0, rng)} for cell in asked.cells]
    rates = np.array([cell["value"] for cell in cells])
    stable = int((rates >= STABLE).sum())
    interval = bounded_mean(rates, 0.0, 1.0, rng)
    return {
        **asked.parts(),
        "cells": sorted(cells, key=lambda cell: -cell["value"]),
        "mean": {"value": float(rates.mean()) if len(rates) else None, "interval": interval, "n": len(rates)},
        "stable": {"hits": stable, "n": len(rates), "at": STABLE},
        "missing": holes_json(asked.holes),
        "sentence": _sentence(rates, stable, prompts),
    }


def _sentence(rates: Sequence[float] | np.ndarray[Any, Any], stable: int, prompts: int) -> str:
    if not len(rates):
        return "No prompt could be measured."
    return (
        f"{stable} of {len(rates)} top prompts show the behaviour in at least {STABLE:.0%} of their "
        f"perturbed resamples; mean {float(np.mean(rates)):.2f}."
        + told_missing(prompts - len(rates), "prompt")
    )
