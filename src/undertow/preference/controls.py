"""Is it the concept, the length, or who wrote it? Each effect raw, with length held, with the writers held.

Concepts: logistic P(chosen) = σ(w·u + γ·ℓ + b_writer(chosen) - b_writer(rejected)), each pair in both orders,
errors clustered by prompt. Groups of pairs: Δ at equal length, by least squares of u on group, ℓ and both.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.models.cores import core_count
from undertow.progress import SILENT, Progress
from undertow.records import Interval
from undertow.stats.intervals import mean_quantile, normal_quantile
from undertow.stats.logistic import cluster_codes
from undertow.stats.paired import Choices, Opponents

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]

WRITERS = 200
"""Most writers with an intercept of their own."""
SHRUNK = 0.25
"""An effect of which no more than this share is left when something is held counts as explained by it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One coefficient."""

    value: float
    """Log-odds of being chosen per unit of u."""
    interval: Interval | None
    """Clustered by prompt; ``None`` for one prompt."""


@dataclass(frozen=True, slots=True)
class Controlled:
    """One concept's effect under each control."""

    raw: Effect
    """Nothing held."""
    length: Effect | None
    """Length held; ``None`` of length itself."""
    identity: Effect | None
    """Length and writers held; ``None`` where the writers are not known, or tell the labels for sure."""
    length_explained: bool | None
    """``None`` where there is no raw effect to explain."""
    identity_explained: bool | None
    """``None`` where the writers are not known or nothing is left to explain."""


def length_difference(chosen: NDArray[np.int64], rejected: NDArray[np.int64]) -> Floats:
    """ℓ (N,): log of the ratio of the sides' lengths in words, in its own root mean square.

    The logarithm, since a judge's preference for length levels off: twice as long counts the same at 50 words
    and at 500. Odd under a swap of the sides, so the scale has no centre.
    """
    ratio = np.log1p(chosen.astype(np.float64)) - np.log1p(rejected.astype(np.float64))
    scale = float(np.sqrt(np.mean(ratio**2)))
    return ratio / scale if scale > 0 else ratio


def opponents(chosen: Sequence[str], rejected: Sequence[str]) -> Opponents:
    """Intercepts of writers from their names (N,); those past the 200 with most sides are one writer."""
    _, code = np.unique(np.array([*chosen, *rejected]), return_inverse=True)
    sides = np.bincount(code)
    rank = np.empty(len(sides), np.int64)
    rank[np.argsort(-sides, kind="stable")] = np.arange(len(sides))
    kept = np.minimum(rank[code], WRITERS)
    return Opponents.of(kept[: len(chosen)], kept[len(chosen) :])


def control_concepts(
    values: csr_matrix,
    length: Floats,
    prompts: NDArray[np.int64],
    writers: Opponents | None = None,
    always: NDArray[np.bool_] | None = None,
    progress: Progress = SILENT,
) -> list[Controlled]:
    """Fit every column of ``values`` (N, M) alone, with length, and with length and ``writers``.

    Writers are held only for columns that length does not explain and those in ``always`` (M,).
    """
    columns = values.tocsc()
    alone, by_length = Choices(prompts), Choices(prompts, length[:, None])
    by_writer = _Writers(prompts, length[:, None], writers)

    def held_of(m: int) -> Controlled:
        span = slice(columns.indptr[m], columns.indptr[m + 1])
        rows, u = columns.indices[span].astype(np.int64), columns.data[span].astype(np.float64)
        raw, held = _first(alone, rows, u), _first(by_length, rows, u)
        found = controlled(raw, held, None)
        asked = always is None or bool(always[m]) or found.length_explained is False
        return controlled(raw, held, by_writer.first(rows, u)) if asked else found

    found = []
    with (
        progress.task("hold length and writers", values.shape[1]) as task,
        ThreadPoolExecutor(core_count()) as pool,
    ):
        for each in pool.map(held_of, range(values.shape[1])):
            found.append(each)
            task.advance()
    return found


def control_length(length: Floats, prompts: NDArray[np.int64], writers: Opponents | None) -> Controlled:
    """Fit length itself, by its sign as the concepts are, alone and with the writers held."""
    rows = np.flatnonzero(length)
    u = np.sign(length[rows])
    raw = _first(Choices(prompts), rows, u)
    held = _Writers(prompts, None, writers).first(rows, u)
    return Controlled(raw, None, held, None, _explained(raw, held))


class _Writers:
    """Fits with an intercept for each writer, on the pairs whose labels the writers alone do not settle."""

    def __init__(self, prompts: NDArray[np.int64], numbers: Floats | None, writers: Opponents | None) -> None:
        self._choices: Choices | None = None
        if writers is None or not (rows := writers.comparable()).any():
            return
        self._place = np.where(rows, np.cumsum(rows) - 1, -1)
        held = None if numbers is None else numbers[rows]
        self._choices = Choices(prompts[rows], held, writers.among(rows))

    def first(self, rows: NDArray[np.int64], u: Floats) -> Effect | None:
        """Fit one column; ``None`` where writers cannot be held."""
        if self._choices is None:
            return None
        place = self._place[rows]
        inside = place >= 0
        return _first(self._choices, place[inside], u[inside]) if inside.any() else None


def _first(choices: Choices, rows: NDArray[np.int64], u: Floats, level: float = 0.95) -> Effect:
    """Fit one column; of one that is never negative, or never positive, by its likelihood."""
    fit = choices.first(rows, u)
    if not len(u) or not (np.all(u >= 0) or np.all(u <= 0)) or not u.any():
        return effect(fit.coef, fit.se)
    if not np.isfinite(fit.se):
        return Effect(fit.coef, None)
    low, high = choices.around(rows, u, fit.beta, normal_quantile(level) ** 2 / 2)
    return Effect(fit.coef, Interval(min(low, fit.coef), max(high, fit.coef), level))


def effect(value: float, se: float, clusters: float = np.inf, level: float = 0.95) -> Effect:
    """Give a value its interval, by t where there are few ``clusters`` that count."""
    if not np.isfinite(se):
        return Effect(value, None)
    half = mean_quantile(level, clusters) * se
    return Effect(value, Interval(value - half, value + half, level))


def controlled(raw: Effect, length: Effect | None, identity: Effect | None) -> Controlled:
    """Decide what explains a raw effect."""
    by_length = _explained(raw, length)
    left = raw if length is None else length
    by_writer = _explained(left, identity) if not by_length else None
    return Controlled(raw, length, identity, by_length, by_writer)


def _explained(before: Effect, after: Effect | None) -> bool | None:
    """Whether an effect goes when something is held: interval over 0, another sign, or at most ¼ left."""
    if after is None or not _clear(before):
        return None
    if not _clear(after) or np.sign(after.value) != np.sign(before.value):
        return True
    return bool(abs(after.value) <= SHRUNK * abs(before.value))


def _clear(found: Effect) -> bool:
    return found.interval is not None and (found.interval.low > 0 or found.interval.high < 0)


def group_at_equal_length(
    inside: NDArray[np.bool_], u: Floats, length: Floats, prompts: NDArray[np.int64]
) -> tuple[Effect, Effect]:
    """Δ of a group, raw and at equal length: least squares of u on (1, group, ℓ, group·ℓ), clustered.

    ℓ is not centred: the coefficient of the group is the difference in pairs whose sides are as long.
    """
    one, g = np.ones(len(u)), inside.astype(np.float64)
    raw = _least_squares(np.column_stack([g, one]), u, prompts)
    held = _least_squares(np.column_stack([g, one, length, g * length]), u, prompts)
    return raw, held


def _least_squares(x: Floats, y: Floats, prompts: NDArray[np.int64]) -> Effect:
    """First coefficient with CR1 errors (as statsmodels OLS, ``cov_type="cluster"``)."""
    bread = np.linalg.pinv(x.T @ x)
    beta = bread @ (x.T @ y)
    code, count = cluster_codes(prompts)
    rows, columns = x.shape
    if count < 2 or rows <= columns:
        return Effect(float(beta[0]), None)
    residual = y - x @ beta
    scores = np.column_stack([np.bincount(code, weights=column) for column in (x * residual[:, None]).T])
    influence = scores @ bread[0]
    correction = count / (count - 1) * (rows - 1) / (rows - columns)
    return effect(float(beta[0]), float(np.sqrt(correction * (influence @ influence))))


def group_length_explained(raw: Effect, held: Effect) -> bool | None:
    """Whether length explains a group's Δ; ``None`` where Δ itself is not clear of 0."""
    return _explained(raw, held)
