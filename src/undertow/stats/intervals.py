"""Intervals of proportions and of their differences.

Wilson's score interval throughout (Wilson 1927): it stays inside [0, 1] and has a width at 0 and 1, where a
rate of a model's behaviour usually lies. Differences are Newcombe's square-and-add intervals built on it
(Newcombe 1998a, paired, method 10; 1998b, independent, method 10). Means of a few values that are bounded but
no yes or no take :func:`bounded_mean`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from undertow.records import Interval, Rate
from undertow.stats.resample import bootstrap_groups


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two proportions, after − before."""

    value: float | None
    """In [-1, 1]; ``None`` when nothing was paired."""
    interval: Interval | None
    """Two-sided interval; ``None`` iff ``value`` is."""
    n: int
    """Pairs."""
    reason: str = ""
    """Why value and interval are missing."""


_MANY = 40
"""Clusters from which a t distribution is taken for normal."""


def normal_quantile(level: float) -> float:
    """Two-sided normal quantile: 1.96 for ``level`` 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def mean_quantile(level: float, clusters: float) -> float:
    """Two-sided quantile for a mean over so many (effective) clusters: t below 40 of them, else normal."""
    if clusters >= _MANY:
        return normal_quantile(level)
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, max(clusters - 1, 1)))


def score_bounds(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's bounds of a proportion ``p`` of ``n`` trials (Wilson 1927; Newcombe 1998b, method 3)."""
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if p == 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if p == 1 else min(1.0, (middle + half) / scale)
    return low, high


def wilson(hits: int, n: int, level: float = 0.95) -> Interval | None:
    """Wilson's interval of ``hits`` out of ``n``; ``None`` when ``n`` is 0.

    Raises:
        ValueError: not 0 ≤ hits ≤ n.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits out of {n} trials")
    if n == 0:
        return None
    return Interval(*score_bounds(hits / n, n, normal_quantile(level)), level)


def rate(hits: int, n: int, level: float = 0.95) -> Rate:
    """A proportion with its n and Wilson interval."""
    return Rate(int(hits), int(n), wilson(int(hits), int(n), level))


def wilson_bounds(
    hits: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper Wilson bounds of arrays of any broadcastable shapes; NaN where ``n`` is 0."""
    k, m = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
    z = normal_quantile(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = k / m
        middle = p + z * z / (2 * m)
        half = z * np.sqrt(p * (1 - p) / m + z * z / (4 * m * m))
        scale = 1 + z * z / m
        low = np.where(k == 0, 0.0, (middle - half) / scale)
        high = np.where(k == m, 1.0, (middle + half) / scale)
    empty = m == 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def wilson_lower(hits: ArrayLike, n: ArrayLike, level: float = 0.95) -> NDArray[np.float64]:
    """Lower Wilson bound, vectorised; NaN where ``n`` is 0."""
    return wilson_bounds(hits, n, level)[0]


def difference_of_rates(
    before: Rate, after: Rate, level: float = 0.95
) -> tuple[float | None, Interval | None]:
    """Difference after − before of two independent rates with Newcombe's interval (1998b, method 10).

    ``(None, None)`` when one of them has no trials.
    """
    p, q = before.value, after.value
    if p is None or q is None:
        return None, None
    z = normal_quantile(level)
    low_p, high_p = score_bounds(p, before.n, z)
    low_q, high_q = score_bounds(q, after.n, z)
    value = q - p
    down = math.hypot(q - low_q, high_p - p)
    up = math.hypot(high_q - q, p - low_p)
    return value, Interval(max(-1.0, value - down), min(1.0, value + up), level)


def difference_by_intervals(before: Rate, after: Rate) -> Difference:
    """Difference after − before of two independent rates by squaring and adding their own intervals' arms.

    Newcombe's method 10 (1998b) with whatever intervals the rates carry, so that one widened for resamples of
    the same prompt stays wide.
    """
    one, other = before.interval, after.interval
    if before.value is None or after.value is None or one is None or other is None:
        return Difference(None, None, 0, "a rate is missing")
    value = after.value - before.value
    down = math.hypot(after.value - other.low, one.high - before.value)
    up = math.hypot(other.high - after.value, before.value - one.low)
    span = Interval(max(-1.0, value - down), min(1.0, value + up), one.level)
    return Difference(value, span, before.n + after.n)


def newcombe_paired(
    both: float, before_only: float, after_only: float, neither: float, *, level: float = 0.95
) -> Interval:
    """Interval of after − before from the four cells of a paired table (Newcombe 1998a, method 10).

    Cells may be fractional. Raises:
        ValueError: the table is empty.
    """
    n = both + before_only + after_only + neither
    if n <= 0:
        raise ValueError("an empty paired table has no interval")
    z = normal_quantile(level)
    p, q = (both + after_only) / n, (both + before_only) / n
    low_p, high_p = score_bounds(p, n, z)
    low_q, high_q = score_bounds(q, n, z)
    phi = _phi(both, after_only, before_only, neither)
    down = _correlated(p - low_p, high_q - q, phi)
    up = _correlated(high_p - p, q - low_q, phi)
    return Interval(max(-1.0, p - q - down), min(1.0, p - q + up), level)


def _phi(a: float, b: float, c: float, d: float) -> float:
    """Correlation of a 2 × 2 table, shrunk towards 0 by half a pair (Newcombe 1998a, method 10)."""
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    covariance = a * d - b * c
    shrunk = max(covariance - (a + b + c + d) / 2, 0.0) if covariance > 0 else covariance
    return shrunk / math.sqrt(margins)


def _correlated(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def paired_difference(
    before: ArrayLike,
    after: ArrayLike,
    rng: np.random.Generator | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Difference:
    """Difference after − before of paired yes/no outcomes (n,), pair i on the same prompt and replicate.

    Without ``groups`` the pairs are taken as independent: Newcombe's closed form. ``groups`` (n,) names the
    prompt of each pair; whole prompts are then resampled with ``rng``, so that resamples of one prompt
    are not taken for evidence about others. Where all prompts agree the bootstrap has no width, and each
    prompt counts as one pair in Newcombe's form.

    Raises:
        ValueError: lengths differ, or ``groups`` without ``rng``.
    """
    b, a = np.asarray(before, bool), np.asarray(after, bool)
    if b.shape != a.shape or b.ndim != 1:
        raise ValueError(f"pairs need two vectors of one length, not {b.shape} and {a.shape}")
    if not len(b):
        return Difference(None, None, 0, "no pair has both outcomes")
    cells = np.array([(b & a).sum(), (b & ~a).sum(), (~b & a).sum(), (~b & ~a).sum()], np.float64)
    value = float(cells[2] - cells[1]) / len(b)
    if groups is None:
        return Difference(value, newcombe_paired(*cells, level=level), len(b))
    if rng is None:
        raise ValueError("resampling whole groups needs an rng")
    change = a.astype(np.float64) - b
    interval = bootstrap_groups(change, groups, rng, level=level)
    if interval is None or interval.high - interval.low < 1e-12:
        count = len(np.unique(np.asarray(groups)))
        interval = newcombe_paired(*(cells * count / len(b)), level=level)
    return Difference(value, interval, len(b))


def bounded_mean(
    values: ArrayLike,
    low: float,
    high: float,
    rng: np.random.Generator,
    level: float = 0.95,
    draws: int = 10_000,
) -> Interval | None:
    """Interval of the mean of a few independent values (n,) that lie between ``low`` and ``high``.

    Jeffreys' interval of a proportion (Brown, Cai & DasGupta 2001) for values that need not be 0 or 1: the
    Bayesian bootstrap (Rubin 1981) with half a value more at each end of the range, so that the weights are
    Dirichlet(1, …, 1, ½, ½). Values that are all alike keep a width, where Student's interval and the
    bootstrap have none; it never leaves the range. ``None`` without values.

    Raises:
        ValueError: a value outside the range.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample):
        return None
    if not ((sample >= low) & (sample <= high)).all():
        raise ValueError(f"values from {sample.min()} to {sample.max()}, not within {low} to {high}")
    weights = rng.dirichlet(np.append(np.ones(len(sample)), [0.5, 0.5]), draws)
    tail, mean = (1 - level) / 2, float(sample.mean())
    below, above = np.quantile(weights @ np.append(sample, [low, high]), [tail, 1 - tail])
    return Interval(max(low, min(float(below), mean)), min(high, max(float(above), mean)), level)


def mcnemar(before: ArrayLike, after: ArrayLike) -> float | None:
    """Exact two-sided McNemar p of paired yes/no outcomes (n,); ``None`` when no pair changed."""
    from scipy.stats import binomtest

    b, a = np.asarray(before, bool), np.asarray(after, bool)
    gained, lost = int((~b & a).sum()), int((b & ~a).sum())
    if gained + lost == 0:
        return None
    return float(binomtest(gained, gained + lost, 0.5).pvalue)
