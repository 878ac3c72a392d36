"""Grid: a behaviour over a templated prompt on two integer axes, or over a list of rewrites (paper App. B.4).

"Is {a}+{b}={a+b}?" over 10 × 10 sums shows where a model denies what is true (Fig. 25); twenty repeats of
each of many rewrites show that no wording is to blame (Table 2).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undertow.errors import UsageError
from undertow.models.base import ChatModel
from undertow.progress import SILENT, Progress
from undertow.records import Message
from undertow.store.run import RunDir, file_hash
from undertow.studies.asking import (
    Answers,
    Asked,
    AskingConfig,
    Group,
    Question,
    ask_groups,
    level,
    save_answers,
)
from undertow.studies.cells import holes_json, told_missing
from undertow.studies.measures import brief
from undertow.studies.prompts import load_questions

_SLOT = re.compile(r"\{([^{}]+)\}")
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_LARGEST = 10_000


def fill(template: str, values: Mapping[str, int]) -> str:
    """Fill ``{a}``, ``{b}`` and sums, differences, products, quotients and remainders of them.

    Raises:
        UsageError: a slot holds something else.
    """
    return _SLOT.sub(lambda slot: str(_value(slot[1], values)), template)


def _value(expression: str, values: Mapping[str, int]) -> int:
    try:
        return _evaluate(ast.parse(expression.strip(), mode="eval").body, values)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError) as error:
        raise UsageError(
            f"--template: {{{expression[:60]}}} cannot be filled ({error}); use a, b, numbers, + - * // %"
        ) from None


def _evaluate(node: ast.expr, values: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_evaluate(inner, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, values), _evaluate(right, values))
    raise ValueError("not arithmetic on a and b")


def axis(spec: str) -> range:
    """Read an axis ``FROM:TO`` or ``FROM:TO:STEP``; TO is left out, as in Python.

    Raises:
        UsageError: no such range, an empty one or one too long.
    """
    try:
        found = range(*(int(part) for part in spec.split(":")))
    except (ValueError, TypeError):
        found = range(0)
    if not 0 < len(found) <= _LARGEST or ":" not in spec:
        raise UsageError(f"axis {spec!r}: write FROM:TO or FROM:TO:STEP, whole numbers, at least one place")
    return found


def run_grid(
    targets: Sequence[str | ChatModel],
    measure: str,
    out: Path,
    config: AskingConfig | None = None,
    *,
    template: str | None = None,
    a: str = "1:11",
    b: str = "1:11",
    rewrites: Path | None = None,
    judge: str | ChatModel = "checks",
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure one behaviour in every place of a grid, or for every rewrite, ``config.replicates`` times each.

    Args:
        targets: Models, a heat-map each.
        measure: Name of :func:`undertow.studies.measures.open_measure`.
        out: Run directory.
        config: How to ask.
        template: Prompt with slots ``{a}``, ``{b}`` and arithmetic on them.
        a: Rows, ``FROM:TO``.
        b: Columns, ``FROM:TO``.
        rewrites: A file of prompts, instead of a template.
        judge: ``checks`` or a model, for a rubric.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``rates``, one a model and place (with ``a, b`` or ``rewrite``), n and interval;
        ``missing``, ``sentence``. Rewrites are sorted by rate.

    Raises:
        UsageError: bad input, or both a template and rewrites.
    """
    config = config or AskingConfig()
    places = _places(template, a, b, rewrites)
    names = [model if isinstance(model, str) else model.name for model in targets]
    identity = {
        **config.identity(), "targets": names, "measure": measure, "template": template,
        "axes": [a, b] if template else None, "judge": judge if isinstance(judge, str) else judge.name,
    }  # fmt: skip
    run = RunDir.open(out, "grid", identity, {"rewrites": file_hash(rewrites)} if rewrites else {}, fresh)
    try:
        if run.complete:
            return run.summary()
        groups = [
            Group({"model": name, **place}, model, (question,))
            for model, name in zip(targets, names, strict=True)
            for place, question in places
        ]
        asked = ask_groups(run, groups, [measure], judge, config, progress)
        save_answers(run, asked)
        return run.finish(
            "inconclusive" if asked.holes or asked.stopped else "complete",
            _summary(asked, template, len(groups), config),
        )
    finally:
        run.close()


def _places(
    template: str | None, a: str, b: str, rewrites: Path | None
) -> list[tuple[dict[str, Any], Question]]:
    if (template is None) == (rewrites is None):
        raise UsageError("give --template with --a and --b, or --rewrites, one of the two")
    if rewrites is not None:
        return [({"rewrite": q.messages[-1].content}, q) for q in load_questions(rewrites)]
    assert template is not None  # noqa: S101 - the check above
    return [
        ({"a": x, "b": y}, Question(f"{x},{y}", (Message("user", fill(template, {"a": x, "b": y})),)))
        for x in axis(a)
        for y in axis(b)
    ]


def _summary(asked: Asked, template: str | None, places: int, config: AskingConfig) -> dict[str, Any]:
    rates = [_rate(asked, cell, config) for cell in asked.cells]
    if template is None:
        rates.sort(key=lambda rate: -rate["value"])
    return {
        **asked.parts(),
        "template": template,
        "cells": rates,
        "rates": rates,
        "missing": holes_json(asked.holes),
        "sentence": _sentence(rates, places, asked.measures[0].name) + told_missing(len(asked.holes)),
    }


def _rate(asked: Asked, cell: Answers, config: AskingConfig) -> dict[str, Any]:
    """Sum up a place: the replicates are samples of one question, so they are its n."""
    from undertow.stats.intervals import wilson

    found = level(cell, asked.measures[0], 0, np.random.default_rng(config.seed))
    if asked.measures[0].kind == "rate" and found["n"]:
        found["interval"] = wilson(round(found["value"] * found["n"]), found["n"])
    return {**cell.place, **found}


def _sentence(rates: Sequence[dict[str, Any]], places: int, measure: str) -> str:
    if not rates:
        return "No place of the grid could be measured."
    values = np.array([rate["value"] for rate in rates])
    top = max(rates, key=lambda rate: rate["value"])
    where = top.get("rewrite") or f"a = {top['a']}, b = {top['b']}"
    n = sum(rate["n"] for rate in rates)
    return (
        f"{brief(measure)}: mean {values.mean():.2f} over {len(rates)} of {places} places (n = {n}), from "
        f"{values.min():.2f} to {values.max():.2f}; most at {where}."
    )
