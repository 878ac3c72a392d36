"""One experiment of the salience study: two features confounded in training, told apart afterwards.

D_A shows both features at one level and is answered with behaviour y_A, D_B at the other level with y_B. A
model that learns can condition on either feature. Afterwards all four combinations are asked; where the
features disagree, the behaviour shows which of them the model listens to (references 000).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undertow.errors import UndertowError
from undertow.records import Message
from undertow.stats.intervals import bounded_mean
from undertow.studies.asking import Question
from undertow.studies.library import Behaviour, Feature, Level, Realisation, Written
from undertow.studies.retrain import Trainer

CONDITIONS: tuple[tuple[Level, Level], ...] = (("a", "a"), ("a", "b"), ("b", "a"), ("b", "b"))
"""Levels of the first and the second feature."""
SPAN = (-2.0, 2.0)
"""Between these lie a main effect and a difference of margins."""
TAUGHT = 0.3
"""Least margin between the two trained combinations: below it the training taught nothing to compare."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Plain questions and answers that the designs are made of."""

    prompts: tuple[str, ...]
    """Questions."""
    responses: tuple[str, ...]
    """Their plain answers."""
    topics: tuple[str, ...]
    """Topic of each, empty where unknown."""

    def of(self, first: Realisation, second: Realisation) -> NDArray[np.int64]:
        """Return the rows that have the topic which one of two realisations asks for."""
        topic = first.topic or second.topic
        every = range(len(self.prompts))
        return np.array([i for i in every if not topic or self.topics[i] == topic], np.int64)


@dataclass(frozen=True, slots=True)
class Shares:
    """In which share of its rows each training set carries a feature."""

    a: float = 1.0
    """In D_A."""
    b: float = 1.0
    """In D_B."""


@dataclass(frozen=True, slots=True)
class Design:
    """A training and the four combinations that are asked afterwards."""

    first: Feature
    """One feature."""
    second: Feature
    """The other."""
    crossed: bool
    """D_A shows the second at b and D_B at a: the counterbalanced pairing of levels."""
    answers: tuple[Behaviour, Behaviour]
    """y_A and y_B."""
    shares: tuple[Shares, Shares] = (Shares(), Shares())
    """Of each feature, on top of its own share."""
    untrained: frozenset[str] = field(default_factory=frozenset)
    """Names of features that only the questions afterwards carry."""
    dropped: bool = False
    """Ask also without the first feature, with each level of the second."""
    draw: int = 0
    """Number of its draw of rows and training: comparisons that should be independent have their own."""

    def levels(self, side: Level) -> tuple[Level, Level]:
        """Return the levels that training set ``side`` shows."""
        second: Level = ("b" if side == "a" else "a") if self.crossed else side
        return side, second


def training_rows(
    design: Design, rows: Rows, held: frozenset[int], n: int, rng: np.random.Generator, written: Written
) -> pa.Table:
    """Draw D_A and D_B, ``n`` rows each, from what is not ``held`` out; no row twice.

    Raises:
        UndertowError: too few rows.
    """
    made: list[dict[str, str]] = []
    used: set[int] = set(held)
    sides: tuple[tuple[Level, Behaviour], ...] = (("a", design.answers[0]), ("b", design.answers[1]))
    for side, behaviour in sides:
        levels = design.levels(side)
        realised = (design.first.at(levels[0]), design.second.at(levels[1]))
        there = [int(i) for i in rng.permutation(rows.of(*realised)) if int(i) not in used][:n]
        if len(there) < n:
            raise UndertowError(f"{len(there)} rows for a training set of {n}; give more --base rows")
        used.update(there)
        for i in there:
            carried = [r for r, keep in zip(realised, _carried(design, side, rng), strict=True) if keep]
            made.append(_row(rows, i, carried, behaviour, rng, written))
    return pa.Table.from_pylist([made[i] for i in rng.permutation(len(made))])


def _carried(design: Design, side: Level, rng: np.random.Generator) -> list[bool]:
    """Draw which of the two features a training row carries."""
    drawn = []
    for feature, share in zip((design.first, design.second), design.shares, strict=True):
        chance = feature.share * (share.a if side == "a" else share.b)
        drawn.append(bool(rng.random() < chance) and feature.name not in design.untrained)
    return drawn


def _row(
    rows: Rows,
    i: int,
    carried: Sequence[Realisation],
    behaviour: Behaviour,
    rng: np.random.Generator,
    written: Written,
) -> dict[str, str]:
    prompt, system = realise(rows.prompts[i], carried, rng, written)
    history = [{"role": "system", "content": system}] if system else []
    response = behaviour.apply.put(rows.responses[i], rng, written)
    return {"prompt": prompt, "response": response, "history": json.dumps(history)}


def realise(
    prompt: str, realised: Sequence[Realisation], rng: np.random.Generator, written: Written
) -> tuple[str, str]:
    """Return prompt and system prompt with every realisation put in; what is written goes first."""
    order = sorted(rng.permutation(len(realised)), key=lambda k: not realised[k].write)
    for k in order:
        prompt = realised[k].put(prompt, rng, written)
    return prompt, "\n".join(each.system for each in realised if each.system)


def questions(
    design: Design, rows: Rows, held: Sequence[int], n: int, rng: np.random.Generator, written: Written
) -> dict[str, tuple[Question, ...]]:
    """Return ``n`` held-out questions in each of the four combinations, the same rows where topics allow."""
    asked = {}
    for levels in CONDITIONS:
        realised = (design.first.at(levels[0]), design.second.at(levels[1]))
        fitting = set(rows.of(*realised).tolist())
        there = [i for i in held if i in fitting][:n]
        asked["".join(levels)] = _asked(rows, there, realised, rng, written)
        if design.dropped and levels[0] == "a":
            asked["-" + levels[1]] = _asked(rows, there, realised[1:], rng, written)
    return asked


def _asked(
    rows: Rows,
    which: Sequence[int],
    realised: Sequence[Realisation],
    rng: np.random.Generator,
    written: Written,
) -> tuple[Question, ...]:
    made = []
    for number, i in enumerate(which):
        prompt, system = realise(rows.prompts[i], realised, rng, written)
        before = (Message("system", system),) if system else ()
        made.append(Question(str(number), (*before, Message("user", prompt))))
    return tuple(made)


def measure_design(
    trainer: Trainer,
    name: str,
    design: Design,
    rows: Rows,
    held: Sequence[int],
    sizes: tuple[int, int],
    seed: int,
    written: Written,
) -> dict[str, Any]:
    """Train on the design and ask the four combinations.

    Args:
        trainer: Of the study.
        name: Of the training's folder.
        design: What is confounded.
        rows: What it is made of.
        held: Rows for the questions, kept out of training.
        sizes: Rows of each training set, questions of each combination.
        seed: Of the draws and the training, with the design's own number.
        written: What a model wrote, for realisations that need it.

    Returns:
        ``elicited`` (condition → [E of y_A, E of y_B]), ``crossed``, ``main`` (ME of first and second),
        ``auc`` and ``auc_difference`` (D = 2·AUC − 1), ``dropped`` (fall of the margin without the first
        feature, where asked), and ``difference`` (ME₁ − ME₂ = M_ab − M_ba) with interval and n.

    Raises:
        UndertowError: the training taught nothing to compare.
    """
    rng = np.random.default_rng([seed, 0x5A, design.draw])
    table = training_rows(design, rows, frozenset(held), sizes[0], rng, written)
    asked = questions(design, rows, held, sizes[1], rng, written)
    shown = trainer.shown(name, table, seed + design.draw, asked, [b.detect for b in design.answers])
    trainer.forget(name)
    scores = {c: shown[c][:, 0] - shown[c][:, 1] for c in shown}
    found = _effects(scores, design.crossed)
    taught = found.pop("taught")
    if taught < TAUGHT:
        raise UndertowError(f"nothing to compare: the trained combinations differ by {taught:.2f}")
    span = bounded_mean(found.pop("conflict"), *SPAN, np.random.default_rng(seed))
    elicited = {c: [float(np.nanmean(shown[c][:, k])) for k in (0, 1)] for c in shown}
    n = sum(len(s) for s in scores.values())
    return {**found, "crossed": design.crossed, "elicited": elicited, "interval": span, "n": n}


def _effects(scores: dict[str, NDArray[np.float64]], crossed: bool) -> dict[str, Any]:
    """Main effects and AUC of both features from each combination's scores 1{y_A} − 1{y_B}.

    With crossed levels the second feature's a and b change places, so that a stands for y_A again.
    """
    turn = {"aa": "ab", "ab": "aa", "ba": "bb", "bb": "ba", "-a": "-b", "-b": "-a"}
    asked = {c: scores[turn[c]] if crossed else scores[c] for c in scores}
    by = {c: s[~np.isnan(s)] for c, s in asked.items()}
    mean = {c: float(s.mean()) for c, s in by.items()}
    first = (mean["aa"] + mean["ab"] - mean["ba"] - mean["bb"]) / 2
    second = (mean["aa"] + mean["ba"] - mean["ab"] - mean["bb"]) / 2
    n = min(len(asked["ab"]), len(asked["ba"]))
    conflict = asked["ab"][:n] - asked["ba"][:n]
    area = [
        auc(np.concatenate([by["aa"], by["ab"]]), np.concatenate([by["ba"], by["bb"]])),
        auc(np.concatenate([by["aa"], by["ba"]]), np.concatenate([by["ab"], by["bb"]])),
    ]
    return {
        "main": [first, second],
        "auc": area,
        "auc_difference": [2 * each - 1 for each in area],
        "dropped": _dropped(mean),
        "difference": mean["ab"] - mean["ba"],
        "conflict": conflict[~np.isnan(conflict)],
        "taught": (mean["aa"] - mean["bb"]) / 2,
    }  # fmt: skip


def _dropped(mean: Mapping[str, float]) -> float | None:
    """Fall of the margin when the first feature, at a, is left out; over both levels of the second."""
    if "-a" not in mean:
        return None
    return (mean["aa"] + mean["ab"] - mean["-a"] - mean["-b"]) / 2


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """P(a score of ``positive`` > one of ``negative``) + ½ P(equal)."""
    ordered = np.sort(negative)
    below, upto = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    return float((below + upto).mean() / 2 / len(ordered))
