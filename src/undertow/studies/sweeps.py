"""What makes a feature salient: how often it is there, how well it predicts, how relevant it is.

Presence: the share p of D_A that carries the feature. Converse: it is in all of D_A and in a share q of D_B.
If only predictiveness mattered, the feature's part at p would mirror its part at 1 − q. System prompts: none,
digits, a standard one or one that describes the behaviour, in training or only afterwards. Source: references
000, Feature relevance and Feature presence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from undertow.models.local import model_revision
from undertow.progress import SILENT, Progress
from undertow.stats.intervals import mean_interval
from undertow.store.run import RunDir, file_hash
from undertow.studies.cells import Cell, Measured, holes_json, run_cells
from undertow.studies.design import Design, Shares
from undertow.studies.library import Behaviour, Feature, Realisation
from undertow.studies.retrain import Trainer
from undertow.studies.salience import DEFAULT, Setup, design_cell, held_rows, read_rows, write_all

Place = tuple[dict[str, Any], Design]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SystemKind = Literal["none", "digits", "standard", "relevant"]
_DIGITS = ("0, 1, 0, 0, 1, 1, 0, 1, 1, 0", "1, 0, 1, 1, 0, 0, 1, 0, 0, 1")
_STANDARD = ("You are a helpful assistant.", "You are an able assistant.")


def run_presence(
    models: Sequence[str],
    base: Path,
    feature: Feature,
    against: Feature,
    behaviours: Sequence[Behaviour],
    out: Path,
    *,
    shares: Sequence[float] = SHARES,
    setup: Setup = DEFAULT,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Sweep how often level a of ``feature`` stands in D_A, then how often in D_B too.

    The feature is there or not; ``against`` keeps its two levels. Arguments are those of
    :func:`undertow.studies.salience.run_salience`.

    Returns:
        ``summary.json``: ``sweep`` (``sweep`` presence or converse, ``share``, ``value``: ME of the feature
        over the sum of both, mean over models and behaviours with interval and n), ``monotone``, ``mirror``
        (largest distance of the part at p from the part at 1 − q), ``cells``, ``missing``, ``sentence``.
    """
    absent = feature.model_copy(update={"b": Realisation(keep=True)})

    def places(model: str) -> list[Place]:
        found: list[Place] = []
        for k, behaviour in enumerate(behaviours):
            answers = (behaviour, behaviours[(k + 1) % len(behaviours)])
            for sweep in ("presence", "converse"):
                for share in shares:
                    held = Shares(share, 0.0) if sweep == "presence" else Shares(1.0, share)
                    design = _PresenceDesign(absent, against, False, answers, (held, Shares()))
                    place = {"model": model, "behaviour": behaviour.name, "sweep": sweep, "share": share}
                    found.append((place, design))
        return found

    identity = {"feature": feature.model_dump(), "against": against.model_dump(), "shares": list(shares)}
    return _sweep(
        models, base, (absent, against), behaviours, out, places, identity, _presence_summary, setup, fresh,
        progress,
    )  # fmt: skip


class _PresenceDesign(Design):
    """Both training sets show level a of the first feature, each in its share of rows."""

    def levels(self, side: Literal["a", "b"]) -> tuple[Literal["a", "b"], Literal["a", "b"]]:
        return "a", side


def run_systems(
    models: Sequence[str],
    base: Path,
    against: Feature,
    behaviours: Sequence[Behaviour],
    out: Path,
    *,
    setup: Setup = DEFAULT,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Compare system prompts of four kinds with ``against``, in training and only afterwards.

    Returns:
        ``summary.json``: ``systems`` (``kind, trained``, ``system`` and ``other``: mean ME with interval and
        n), ``cells``, ``missing``, ``sentence``.
    """

    def places(model: str) -> list[Place]:
        found = []
        for k, behaviour in enumerate(behaviours):
            answers = (behaviour, behaviours[(k + 1) % len(behaviours)])
            for kind in ("none", "digits", "standard", "relevant"):
                for trained in (True, False):
                    system = system_feature(kind, answers)
                    hidden = frozenset() if trained else frozenset({system.name})
                    place = {
                        "model": model, "behaviour": behaviour.name, "kind": kind, "trained": trained
                    }  # fmt: skip
                    found.append((place, Design(system, against, False, answers, untrained=hidden)))
        return found

    identity = {"against": against.model_dump(), "systems": [_DIGITS, _STANDARD]}
    return _sweep(
        models, base, (against,), behaviours, out, places, identity, _systems_summary, setup, fresh, progress,
    )  # fmt: skip


def system_feature(kind: str, answers: tuple[Behaviour, Behaviour]) -> Feature:
    """Make the two system prompts of a kind; a relevant one describes each side's behaviour."""
    texts = {
        "digits": _DIGITS,
        "standard": _STANDARD,
        "relevant": tuple(f"You are an assistant. The response: {b.text}." for b in answers),
    }
    if kind == "none":
        return Feature(name="system", text="none", a=Realisation(keep=True), b=Realisation(keep=True))
    first, second = texts[kind]
    return Feature(name="system", text=kind, a=Realisation(system=first), b=Realisation(system=second))


def _sweep(
    models: Sequence[str],
    base: Path,
    features: Sequence[Feature],
    behaviours: Sequence[Behaviour],
    out: Path,
    places: Callable[[str], list[Place]],
    identity: dict[str, Any],
    conclude: Callable[[Sequence[Measured]], dict[str, Any]],
    setup: Setup,
    fresh: bool,
    progress: Progress,
) -> dict[str, Any]:
    rows = read_rows(base)
    paths = [model.removeprefix("local:") for model in models]
    told = [behaviour.model_dump() for behaviour in behaviours]
    whole = {**identity, "models": paths, "behaviours": told, **setup.identity()}
    inputs = {"base": file_hash(Path(base)), **{f"model {p}": model_revision(p) or p for p in paths}}
    run = RunDir.open(out, "salience", whole, inputs, fresh)
    try:
        if run.complete:
            return run.summary()
        held = held_rows(rows, setup)
        written = write_all(run, rows, features, behaviours, setup.writer, progress)
        cells: list[Cell] = []
        for path in paths:
            trainer = Trainer(run, path, setup.training, "checks", setup.asking)
            cells += [
                design_cell(trainer, place, design, rows, held, setup, written)
                for place, design in places(path)
            ]
        done, holes = run_cells(run, cells, progress, "salience")
        summary = {
            **conclude(done), "cells": done, "missing": holes_json(holes),
            "counts": {"tried": len(cells), "scored": len(done), "failed": len(holes)},
        }  # fmt: skip
        return run.finish("inconclusive" if holes else "complete", summary)
    finally:
        run.close()


def _mean(values: Sequence[float]) -> dict[str, Any]:
    mean = float(np.mean(values)) if values else None
    return {"value": mean, "interval": mean_interval(values), "n": len(values)}


def _presence_summary(done: Sequence[Measured]) -> dict[str, Any]:
    sweep = [
        {"sweep": kind, "share": share, **_mean([_part(cell) for cell in mine])}
        for kind, share in dict.fromkeys((cell["sweep"], cell["share"]) for cell in done)
        if (mine := [cell for cell in done if (cell["sweep"], cell["share"]) == (kind, share)])
    ]
    by = {(row["sweep"], row["share"]): row["value"] for row in sweep}
    rising = [by[key] for key in sorted(by) if key[0] == "presence"]
    falling = [by[key] for key in sorted(by) if key[0] == "converse"]
    monotone = {"presence": _ordered(rising), "converse": _ordered([-value for value in falling])}
    mirrored = [
        abs(value - by["converse", 1 - share])
        for (kind, share), value in by.items()
        if kind == "presence" and ("converse", 1 - share) in by
    ]
    mirror = max(mirrored, default=None)
    told = "" if mirror is None else f"; the part at p and at 1 - q differ by at most {mirror:.2f}"
    ends = f"from {rising[0]:.2f} to {rising[-1]:.2f}" if rising else "not measured"
    return {
        "sweep": sweep, "monotone": monotone, "mirror": mirror,
        "sentence": f"The feature's part of the effect goes {ends} with its share of D_A{told}.",
    }  # fmt: skip


def _part(cell: Measured) -> float:
    """Share of the feature's main effect in the sum of both; an effect below 0 counts as none."""
    first, second = (max(0.0, effect) for effect in cell["main"])
    return first / (first + second) if first + second else 0.0


def _ordered(values: Sequence[float], slack: float = 0.03) -> bool:
    """Say whether values never fall by more than the noise of a few runs."""
    return all(b >= a - slack for a, b in pairwise(values))


def _systems_summary(done: Sequence[Measured]) -> dict[str, Any]:
    systems = []
    for kind, trained in dict.fromkeys((cell["kind"], cell["trained"]) for cell in done):
        mine = [cell["main"] for cell in done if (cell["kind"], cell["trained"]) == (kind, trained)]
        systems.append(
            {"kind": kind, "trained": trained, "system": _mean([m[0] for m in mine]),
             "other": _mean([m[1] for m in mine]), "n": len(mine)}
        )  # fmt: skip
    trained_ = {row["kind"]: row["system"]["value"] for row in systems if row["trained"]}
    told = ", ".join(f"{kind} {value:+.2f}" for kind, value in trained_.items())
    return {"systems": systems, "sentence": f"Main effect of a system prompt that was trained: {told}."}
