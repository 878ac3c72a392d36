"""Context: how a behaviour changes with what stands in front of the question (paper App. C.1, Fig. 26).

Rows of a data set are put before each question as earlier turns, until they fill a number of tokens: rows of
the chunk that taught the behaviour, counterexamples, other rows of its domain, rows of another. The paper
saw every kind of context lower the rate.

Tokens are planned at four characters each; beside each cell stands what the model counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undertow.data.load import load_examples
from undertow.errors import UsageError
from undertow.models.base import ChatModel
from undertow.progress import SILENT, Progress
from undertow.records import Message, Reply
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
from undertow.studies.cells import holes_json, told_missing
from undertow.studies.measures import brief
from undertow.studies.prompts import load_questions

NONE = "none"
"""Name of the cell without context."""
_CHARACTERS = 4
"""Of a token, for the plan."""


def run_context(
    targets: Sequence[str | ChatModel],
    prompts: Path,
    contexts: Mapping[str, Path],
    tokens: Sequence[int],
    measure: str,
    out: Path,
    config: AskingConfig | None = None,
    *,
    judge: str | ChatModel = "checks",
    limit: int | None = None,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a behaviour with no context and with each kind of context at each length.

    Args:
        targets: Models.
        prompts: Questions.
        contexts: Kind → rows of prompt and response; each question draws its own.
        tokens: Lengths of context, tokens.
        measure: Name of :func:`undertow.studies.measures.open_measure`.
        out: Run directory.
        config: How to ask.
        judge: ``checks`` or a model, for a rubric; it sees the question, not the context.
        limit: At most so many questions.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``cells`` (``model, context, tokens``, value, interval, n, ``input_tokens``, and the
        paired ``delta`` against no context), ``missing``, ``sentence``.

    Raises:
        UsageError: bad input.
    """
    config = config or AskingConfig()
    lengths = sorted(set(tokens))
    if not contexts or not lengths or lengths[0] < 1:
        raise UsageError("give --context NAME=FILE and --tokens N, each at least once, N at least 1")
    questions = load_questions(prompts, limit, config.seed)
    names = [model if isinstance(model, str) else model.name for model in targets]
    identity = {
        **config.identity(), "targets": names, "contexts": sorted(contexts), "tokens": lengths,
        "measure": measure, "judge": judge if isinstance(judge, str) else judge.name, "limit": limit,
    }  # fmt: skip
    inputs = {"prompts": file_hash(Path(prompts)), **{k: file_hash(Path(v)) for k, v in contexts.items()}}
    run = RunDir.open(out, "context", identity, inputs, fresh)
    try:
        if run.complete:
            return run.summary()
        versions = _versions(questions, contexts, lengths, config.seed)
        groups = [
            Group({"model": name, "context": kind, "tokens": length}, model, asked)
            for model, name in zip(targets, names, strict=True)
            for (kind, length), asked in versions.items()
        ]
        asked = ask_groups(run, groups, [measure], judge, config, progress)
        save_answers(run, asked)
        return run.finish(
            "inconclusive" if asked.holes or asked.stopped else "complete", _summary(asked, config)
        )
    finally:
        run.close()


def _versions(
    questions: Sequence[Question], contexts: Mapping[str, Path], lengths: Sequence[int], seed: int
) -> dict[tuple[str, int], tuple[Question, ...]]:
    """Put context before every question; a longer one begins with the rows of the shorter."""
    versions: dict[tuple[str, int], tuple[Question, ...]] = {(NONE, 0): tuple(questions)}
    for number, (kind, path) in enumerate(sorted(contexts.items())):
        rows = load_examples(path).table
        pairs = list(zip(rows["prompt"].to_pylist(), rows["response"].to_pylist(), strict=True))
        for length in lengths:
            versions[kind, length] = tuple(
                preceded(question, pairs, length, np.random.default_rng([seed, number, q]))
                for q, question in enumerate(questions)
            )
    return versions


def preceded(
    question: Question, pairs: Sequence[tuple[str, str]], length: int, rng: np.random.Generator
) -> Question:
    """Take rows in random order until they fill ``length`` tokens; never the question itself."""
    own, turns, used = question.messages[-1].content, [], 0
    for at in rng.permutation(len(pairs)):
        prompt, response = pairs[at]
        if prompt == own:
            continue
        turns += [Message("user", prompt), Message("assistant", response)]
        used += (len(prompt) + len(response)) // _CHARACTERS
        if used >= length:
            break
    return replace(question, asked=(*turns, *question.messages))


def _summary(asked: Asked, config: AskingConfig) -> dict[str, Any]:
    plain = {cell.place["model"]: cell for cell in asked.cells if cell.place["context"] == NONE}
    cells = [_cell(asked, cell, plain.get(cell.place["model"]), config) for cell in asked.cells]
    return {
        **asked.parts(),
        "cells": cells,
        "missing": holes_json(asked.holes),
        "sentence": _sentence(cells, asked.measures[0].name) + told_missing(len(asked.holes)),
    }


def _cell(asked: Asked, cell: Answers, plain: Answers | None, config: AskingConfig) -> dict[str, Any]:
    rng = np.random.default_rng([config.seed, 3])
    measure = asked.measures[0]
    read = [a.reply.input_tokens for a in cell.answers if isinstance(a.reply, Reply)]
    found = {**cell.place, **level(cell, measure, 0, rng), "input_tokens": float(np.mean(read))}
    if plain is not None and plain is not cell:
        against = change(plain, cell, measure, 0, rng)
        found |= {"delta": against["delta"], "delta_interval": against["interval"]}
    return found


def _sentence(cells: Sequence[dict[str, Any]], measure: str) -> str:
    compared = [cell for cell in cells if cell.get("delta_interval") is not None]
    lower = [cell for cell in compared if cell["delta_interval"].high < 0]
    higher = [cell for cell in compared if cell["delta_interval"].low > 0]
    if not compared:
        return "No context could be compared with none."
    return (
        f"{brief(measure)}: of {len(compared)} contexts {len(lower)} lower the rate, {len(higher)} raise it, "
        f"the others' intervals hold 0 (the paper saw every context lower it)."
    )
