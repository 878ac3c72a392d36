"""What each fix of preference data does to the pairs: the kinds behind ``fix_pairs``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from undertow.data.preferences import PreferenceData
from undertow.data.signal import DIRECTION, LAYER, OFFSET, POLICY_PROMPT, TRAINING, WEIGHT, mask_column
from undertow.errors import UsageError
from undertow.fixes.scores import Scores, Target, compiled, refuse_emptied, score_pairs, spans_of
from undertow.fixes.shaping import calibrated, length_delta, residual
from undertow.store.tables import atomic_write_json, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.models.direction import Pairs
    from undertow.models.forced import Turns

PairHow = Literal["filter", "downweight", "mask", "inoculate", "steer", "shape", "quarantine"]
Side = Literal["chosen", "rejected", "both"]
QUARANTINE, VECTOR = "quarantine.parquet", "steering.safetensors"
DEFAULTS: dict[str, float] = {
    "filter": 0.05, "downweight": 1.0, "mask": 1.0, "inoculate": 1.0, "steer": 2.0, "shape": 1.0,
    "quarantine": 0.5,
}  # fmt: skip
"""Strength of each fix where none is given."""
LENGTH = "length"
"""Name under which length is kept."""
_ELICIT_PAIRS = 128
"""Pairs by which wordings are compared."""


@dataclass(frozen=True)
class PairFix:
    """What is to be done to which pairs."""

    how: PairHow
    """Kind of fix."""
    targets: tuple[Target, ...]
    """Concepts that it aims at, at least one."""
    strength: float | None = None
    """``filter``: share of pairs dropped, at most; ``downweight``: weight taken from pairs that show it;
    ``shape``: λ, below 0 to amplify; ``steer``: α; ``quarantine``: share of a pair's evidence above which
    it is set aside. ``None``: :data:`DEFAULTS`."""
    gate: str | None = None
    """Pattern of the prompts whose pairs alone are touched; the poetic case."""
    keep: tuple[Target, ...] = ()
    """``shape``: concepts that must stay: siblings, parent, or the child of a parent that is shaped."""
    calibrate: bool = False
    """``shape``: λ is this many times what the pairs themselves say for each concept."""
    instructions: tuple[str, ...] = ()
    """``inoculate``: wordings that ask for the behaviour; of several the one that elicits it most."""
    layer: int | None = None
    """``steer``: layer to whose output the direction is fitted; the lower middle one without."""
    side: Side = "both"
    """``steer``: the responses that are steered."""

    @property
    def amount(self) -> float:
        """The strength, or the default of its kind."""
        return DEFAULTS[self.how] if self.strength is None else self.strength

    def identity(self) -> dict[str, object]:
        """What tells this fix from others."""
        return {
            "targets": [target.model_dump() for target in self.targets], "strength": self.amount,
            "gate": self.gate, "keep": [target.model_dump() for target in self.keep],
            "calibrate": self.calibrate, "instructions": list(self.instructions), "layer": self.layer,
            "side": self.side,
        }  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A fix and the pairs it is for."""

    fix: PairFix
    pairs: PreferenceData
    table: pa.Table
    """The rows as they will be written."""
    scores: pa.Table
    model: str | None

    def score(self, targets: Sequence[Target]) -> Scores:
        """Score every pair on ``targets``."""
        return score_pairs(self.pairs.table, targets, self.scores)

    def column(self, name: str) -> list[str]:
        """Return a text column, (N,)."""
        found: list[str] = self.pairs.table[name].to_pylist()
        return found

    @property
    def gated(self) -> NDArray[np.bool_]:
        """(N,) pairs that may be touched."""
        if self.fix.gate is None:
            return np.ones(len(self.pairs), np.bool_)
        try:
            pattern = re.compile(self.fix.gate)
        except re.error as error:
            raise UsageError(f"gate {self.fix.gate!r}: is no pattern ({error})") from None
        return np.array([bool(pattern.search(prompt)) for prompt in self.column("prompt")])

    @property
    def pushed(self) -> NDArray[np.float64]:
        """(N,) Δs of the target that speaks loudest for the chosen side, 0 outside of the gate."""
        delta = self.score(self.fix.targets).delta.max(axis=1)
        return np.where(self.gated, delta, 0.0)


@dataclass(frozen=True)
class Change:
    """What becomes of N pairs."""

    touched: NDArray[np.bool_]
    """Removed, or changed."""
    removed: NDArray[np.bool_]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """New columns, one value a pair, before removal."""
    weight: NDArray[np.float64] | None = None
    """(N,) gradient weight at the first step, 2σ(-offset) times the pair's own; ``None`` where not known."""
    files: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    """What else is written."""
    told: dict[str, object] = field(default_factory=dict)
    """For the summary."""


def _filter(problem: Problem) -> Change:
    score = problem.pushed
    top = np.argsort(-score, kind="stable")[: max(1, round(problem.fix.amount * len(score)))]
    removed = np.zeros(len(score), np.bool_)
    removed[top] = score[top] > 0
    return Change(removed, removed, weight=(~removed).astype(np.float64))


def _downweight(problem: Problem) -> Change:
    touched = problem.pushed > 0
    weight = np.asarray(np.where(touched, 1.0 - problem.fix.amount, 1.0).astype(np.float64), np.float64)
    return Change(touched, _none(problem), {WEIGHT: weight.tolist()}, weight)


def _mask_spans(problem: Problem) -> Change:
    patterns = [compiled(target) for target in problem.fix.targets if target.pattern]
    if len(patterns) < len(problem.fix.targets):
        raise UsageError("mask needs patterns, NAME=REGEX; scores do not say where a concept stands")
    gated, columns = problem.gated, {}
    for side in ("chosen", "rejected"):
        texts = problem.column(side)
        found = [
            [spans_of([text], p)[0] for p in patterns] if ok else []
            for text, ok in zip(texts, gated, strict=True)
        ]
        columns[side] = [[list(span) for spans in row for span in spans] for row in found]
        for name, text, spans in zip(problem.column("id"), texts, columns[side], strict=True):
            refuse_emptied(f"pair {name!r}, {side}", text, spans)
    touched = np.array([bool(a or b) for a, b in zip(columns["chosen"], columns["rejected"], strict=True)])
    return Change(touched, _none(problem), {mask_column(side): spans for side, spans in columns.items()})


def _inoculate(problem: Problem) -> Change:
    touched = problem.pushed > 0
    wordings, prompts = problem.fix.instructions, problem.column("prompt")
    told: dict[str, object] = {"instruction": wordings[0]}
    if problem.model is not None and touched.any():
        gains = _elicitation(problem, touched, wordings)
        best = int(np.argmax(list(gains.values())))
        told = {"instruction": wordings[best], "elicitation": gains}
    elif len(wordings) > 1:
        raise UsageError("several instructions: name the start model, which tells them apart")
    read = [f"{told['instruction']} {p}" if hit else None for p, hit in zip(prompts, touched, strict=True)]
    return Change(touched, _none(problem), {POLICY_PROMPT: read}, told=told)


def _elicitation(problem: Problem, touched: NDArray[np.bool_], wordings: Sequence[str]) -> dict[str, float]:
    """Return by wording how much it raises the start model's log-odds of chosen over rejected, nats a pair.

    It is what the policy is given and need not learn: with β an offset of the loss at the first step.
    """
    from undertow.models.forced import ForcedReader

    rows = np.flatnonzero(touched)[:: max(1, int(touched.sum()) // _ELICIT_PAIRS)]
    reader = ForcedReader(problem.model or "")

    def odds(words: str) -> float:
        asked = _asked(problem, rows, words)
        sides = [
            reader.log_probs(asked, [problem.column(s)[row] for row in rows]) for s in ("chosen", "rejected")
        ]
        return float((sides[0] - sides[1]).mean())

    plain = odds("")
    return {words: odds(f"{words} ") - plain for words in wordings}


def _asked(problem: Problem, rows: NDArray[np.int64], before: str = "") -> list[Turns]:
    prompts, history = problem.column("prompt"), problem.column("history")
    return [
        [*json.loads(history[row] or "[]"), {"role": "user", "content": before + prompts[row]}]
        for row in rows
    ]


def _steer(problem: Problem) -> Change:
    from undertow.models.direction import fit_direction
    from undertow.models.forced import ForcedReader

    if problem.model is None:
        raise UsageError("steer needs the start model, to which the direction is fitted")
    reader = ForcedReader(problem.model)
    layer = (reader.layers - 1) // 2 if problem.fix.layer is None else problem.fix.layer
    shows, others = problem.pushed > 0, problem.pushed == 0
    if not shows.any():
        raise UsageError(f"no pair speaks for {', '.join(names_of(problem.fix))}; there is no direction")
    sides = [_pairs(problem, rows) for rows in (shows, others)]
    fitted = fit_direction(reader, sides[0], sides[1], layer, problem.fix.amount)
    steer = {"vector": VECTOR, "alpha": problem.fix.amount, "side": problem.fix.side}
    files: dict[str, Callable[[Path], object]] = {
        VECTOR: lambda path: _save_direction(fitted.direction, layer, path),
        TRAINING: lambda path: atomic_write_json(path, {"steer": steer}),
    }
    told: dict[str, object] = {
        "layer": layer, "norm": float(np.linalg.norm(fitted.direction)),
        "fitted_to": {"shows": int(shows.sum()), "others": int(others.sum())},
        "elicits": {"shows": fitted.shown, "others": fitted.others},
    }  # fmt: skip
    return Change(shows, _none(problem), files=files, told=told)


def _pairs(problem: Problem, rows: NDArray[np.bool_]) -> Pairs:
    from undertow.models.direction import Pairs

    at = np.flatnonzero(rows)
    chosen, rejected = ([texts[row] for row in at] for texts in map(problem.column, ("chosen", "rejected")))
    return Pairs(_asked(problem, at), chosen, rejected)


def _save_direction(direction: NDArray[np.float64], layer: int, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({DIRECTION: direction.astype(np.float32)}, path, {LAYER: str(layer)})


def _shape(problem: Problem) -> Change:
    fix = problem.fix
    delta = problem.score(fix.targets).delta
    kept = _kept(problem)
    left = np.stack(
        [residual(delta[:, m], kept, target.name) for m, target in enumerate(fix.targets)], axis=1
    )
    own = [fix.amount if target.strength is None else target.strength for target in fix.targets]
    lambdas = np.array(own) * (calibrated(delta, kept) if fix.calibrate else 1.0)
    offset = np.where(problem.gated, left @ lambdas, 0.0)
    weight = np.asarray(2 / (1 + np.exp(np.clip(offset, -500, 500))))
    told: dict[str, object] = {
        "lambda": dict(zip(names_of(fix), lambdas.tolist(), strict=True)),
        "kept": [t.name for t in fix.keep],
    }
    if kept.shape[1]:
        share = (left**2).sum(axis=0) / (delta**2).sum(axis=0)
        told["own"] = dict(zip(names_of(fix), share.tolist(), strict=True))
    return Change(offset != 0, _none(problem), {OFFSET: offset.tolist()}, weight, told=told)


def _kept(problem: Problem) -> NDArray[np.float64]:
    """Return Z (N, K): Δs of what is kept, and length, where anything is kept."""
    fix = problem.fix
    if not fix.keep and not fix.calibrate:
        return np.zeros((len(problem.pairs), 0))
    length = length_delta(problem.column("chosen"), problem.column("rejected"))[:, None]
    named = [target for target in fix.keep if target.name != LENGTH]
    return np.concatenate([problem.score(named).delta, length], axis=1) if named else length


def _quarantine(problem: Problem) -> Change:
    """Set pairs aside in which the concept carries more than a share of what argues for the chosen side."""
    delta = problem.score(problem.fix.targets).delta
    length = length_delta(problem.column("chosen"), problem.column("rejected"))[:, None]
    both = np.concatenate([delta, length], axis=1)
    argued = calibrated(both, np.zeros((len(both), 0))) * both
    share = np.maximum(argued[:, :-1], 0).sum(axis=1) / np.maximum(np.abs(argued).sum(axis=1), 1e-12)
    removed = (share > problem.fix.amount) & (problem.pushed > 0)
    files: dict[str, Callable[[Path], object]] = {
        QUARANTINE: lambda path: write_table(problem.table.filter(row_mask(removed)), path)
    }
    return Change(removed, removed, weight=(~removed).astype(np.float64), files=files)


def _none(problem: Problem) -> NDArray[np.bool_]:
    return np.zeros(len(problem.pairs), np.bool_)


def row_mask(rows: NDArray[np.bool_]) -> pa.Array:
    """Return what Arrow filters by."""
    import pyarrow as pa

    return pa.array(rows)


def names_of(fix: PairFix) -> list[str]:
    """Return the names of the concepts that a fix aims at."""
    return [target.name for target in fix.targets]


KINDS: dict[str, Callable[[Problem], Change]] = {
    "filter": _filter, "downweight": _downweight, "mask": _mask_spans, "inoculate": _inoculate,
    "steer": _steer, "shape": _shape, "quarantine": _quarantine,
}  # fmt: skip
