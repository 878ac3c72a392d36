"""Rankings from paired comparisons (Bradley & Terry 1952), with ties, separable tables and intervals.

θ maximises Σ w log σ(θ_winner − θ_loser) − (ridge / 2) Σ θ² and sums to 0. The ridge keeps an item that won
every comparison finite; with 1e-2 it moves a well-measured θ by less than its error. A tie counts half a win
for each (Davidson's model would estimate a rate of ties that nobody asks for).

Source: the salience study (Bradley–Terry over feature pairs × behaviours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import kendalltau

from undertow.records import Interval

RIDGE = 1e-2
_NEWTON_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores of items, best first is for the reader to sort."""

    theta: NDArray[np.float64]
    """(items,), sums to 0; log-odds for Bradley–Terry, the data's unit for least squares."""
    intervals: tuple[Interval | None, ...]
    """(items,) percentile intervals over redrawn tables; ``None`` with fewer than two comparisons."""
    n: int
    """Comparisons."""


def bradley_terry(wins: ArrayLike, ridge: float = RIDGE) -> NDArray[np.float64]:
    """Fit θ (items,) to ``wins`` (items, items), where ``wins[i, j]`` is how often i beat j; ties are halves.

    Newton's method on a concave target: it converges on every table, the empty one gives zeros.

    Raises:
        ValueError: not square, negative or not finite, or ``ridge`` not positive.
    """
    table = np.array(wins, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"wins has shape {table.shape}: must be square")
    if not np.isfinite(table).all() or (table < 0).any():
        raise ValueError("wins must be finite and not negative")
    if not ridge > 0:
        raise ValueError(f"ridge {ridge}: must be positive, or a separable table has no finite answer")
    np.fill_diagonal(table, 0)
    return _newton(table, ridge)


def _newton(wins: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    met = wins + wins.T
    theta = np.zeros(len(wins))
    for _ in range(_NEWTON_STEPS):
        p = expit(theta[:, None] - theta)
        gradient = (wins - met * p).sum(1) - ridge * theta
        weight = met * p * (1 - p)
        curvature = np.diag(weight.sum(1) + ridge) - weight
        step = np.linalg.solve(curvature, gradient)
        theta = theta + _damped(wins, met, theta, step, ridge)
        if np.abs(step).max(initial=0) < _TOLERANCE:
            break
    return theta - theta.mean() if len(theta) else theta


def _damped(
    wins: NDArray[np.float64],
    met: NDArray[np.float64],
    theta: NDArray[np.float64],
    step: NDArray[np.float64],
    ridge: float,
) -> NDArray[np.float64]:
    """Halve a Newton step until it does not lower the target (θ far out makes the curvature tiny)."""

    def target(at: NDArray[np.float64]) -> float:
        return float(-(wins * np.logaddexp(0, at - at[:, None])).sum() - ridge / 2 * at @ at)

    now = target(theta)
    for _ in range(30):
        if target(theta + step) >= now - 1e-12 * abs(now):
            return step
        step = step / 2
    return step


def least_squares(
    first: ArrayLike, second: ArrayLike, difference: ArrayLike, items: int, ridge: float = RIDGE
) -> NDArray[np.float64]:
    """Fit θ (items,) to measured differences: θ[first] − θ[second] ≈ difference, all (comparisons,).

    The continuous variant of the ranking, on ME_i − ME_j. Sums to 0.
    """
    i, j, d = np.asarray(first, int), np.asarray(second, int), np.asarray(difference, np.float64)
    design = np.zeros((len(d), items))
    np.add.at(design, (np.arange(len(d)), i), 1.0)
    np.add.at(design, (np.arange(len(d)), j), -1.0)
    theta = np.linalg.solve(design.T @ design + ridge * np.eye(items), design.T @ d)
    return np.asarray(theta - theta.mean())


def win_table(first: ArrayLike, second: ArrayLike, outcome: ArrayLike, items: int) -> NDArray[np.float64]:
    """Count wins (items, items) from comparisons; ``outcome`` 1: first won, 0: second won, ½: a tie."""
    i, j, won = np.asarray(first, int), np.asarray(second, int), np.asarray(outcome, np.float64)
    table = np.zeros((items, items))
    np.add.at(table, (i, j), won)
    np.add.at(table, (j, i), 1 - won)
    return table


def rank(
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    items: int,
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> Ranking:
    """Bradley–Terry of comparisons (one a pair × behaviour), with an interval from redrawn tables.

    Each draw gives every pair another chance of winning, from Beta(won + ½, lost + ½) (Jeffreys), plays its
    comparisons again and fits the table. A plain bootstrap would give no width at all where one side won all
    of four comparisons. Where nearly every pair is won outright, only the ridge holds θ, beyond the reach of
    those tables: there the interval goes on to θ. In simulations of six items with four comparisons a pair
    95 % intervals held the truth in 99 % of cases (90 % without playing again).
    """
    wins = win_table(first, second, outcome, items)
    theta, n = bradley_terry(wins), len(np.asarray(outcome))
    if n < 2:
        return Ranking(theta, (None,) * items, n)
    met = np.triu(wins + wins.T)
    i, j = np.nonzero(met)
    fits = np.empty((draws, items))
    for draw in range(draws):
        chance = rng.beta(wins[i, j] + 0.5, wins[j, i] + 0.5)
        table = np.zeros((items, items))
        won = rng.binomial(met[i, j].astype(int), chance)
        table[i, j], table[j, i] = won, met[i, j] - won
        fits[draw] = bradley_terry(table)
    tail = (1 - level) / 2
    low, high = np.quantile(fits, [tail, 1 - tail], axis=0)
    ends = zip(np.minimum(low, theta), np.maximum(high, theta), strict=True)
    intervals = tuple(Interval(float(a), float(b), level) for a, b in ends)
    return Ranking(theta, intervals, n)


def cycle_rate(wins: ArrayLike) -> tuple[int, int]:
    """Count triples of items in which each beats the next in a circle: (cycles, triples with no tie)."""
    table = np.asarray(wins, np.float64)
    beats = table > table.T
    met = (table + table.T > 0) & (table != table.T)
    a, b, c = _triples(len(table))
    decided = met[a, b] & met[b, c] & met[a, c]
    round_ = (beats[a, b] & beats[b, c] & beats[c, a]) | (beats[b, a] & beats[c, b] & beats[a, c])
    return int((round_ & decided).sum()), int(decided.sum())


def _triples(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    from itertools import combinations

    chosen = np.array(list(combinations(range(n), 3)), np.intp).reshape(-1, 3)
    return chosen[:, 0], chosen[:, 1], chosen[:, 2]


def mean_tau(scores: Sequence[ArrayLike]) -> float | None:
    """Mean Kendall τ-b over all pairs of score vectors (items,); ``None`` where no pair has one."""
    vectors = [np.asarray(each, np.float64) for each in scores]
    taus = [
        float(kendalltau(vectors[a], vectors[b]).statistic)
        for a in range(len(vectors))
        for b in range(a + 1, len(vectors))
    ]
    known = [tau for tau in taus if np.isfinite(tau)]
    return float(np.mean(known)) if known else None
