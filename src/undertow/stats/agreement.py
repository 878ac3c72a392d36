"""Agreement between judges, and rates corrected for a judge that errs.

Labels are nominal. A quantity that the data do not define is ``None``, with the reason beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from undertow.records import Agreement, Interval, Rate
from undertow.stats.intervals import normal_quantile, rate, score_bounds


def cohens_kappa(
    first: ArrayLike,
    second: ArrayLike,
    level: float = 0.95,
    groups: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Agreement:
    """Cohen's κ (1960) of two raters (n,), ``None`` where chance alone must agree: both used one label only.

    Without ``groups`` the interval is for large samples (Fleiss, Cohen & Everitt 1969, eq. 13). ``groups``
    (n,) names the prompt of each item; whole prompts are then resampled with ``rng``, 2,000 times, for
    resamples of one prompt are alike (Davison & Hinkley 1997, section 3.8).

    Raises:
        ValueError: lengths differ, or ``groups`` without ``rng``.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"two raters need two vectors of one length, not {a.shape} and {b.shape}")
    n, agreed = len(a), int((a == b).sum())
    if n == 0:
        return Agreement(None, None, 0, 0, "nothing was rated by both")
    _, labels = np.unique(np.concatenate([a, b]), return_inverse=True)
    k = int(labels.max()) + 1
    pairs = labels[:n] * k + labels[n:]
    table = _tables(pairs, np.zeros(n, np.int64), k)
    kappa = float(_kappas(table)[0])
    if math.isnan(kappa):
        return Agreement(None, None, n, agreed, "both used one label only")
    if groups is None:
        half = normal_quantile(level) * math.sqrt(max(_kappa_variance(table[0] / n, kappa), 0.0) / n)
        return Agreement(kappa, Interval(max(-1.0, kappa - half), min(1.0, kappa + half), level), n, agreed)
    if rng is None:
        raise ValueError("resampling whole groups needs an rng")
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    return Agreement(kappa, _resampled(_tables(pairs, group, k), rng, level), n, agreed)


def _resampled(tables: NDArray[np.float64], rng: np.random.Generator, level: float) -> Interval:
    """Percentile interval of κ over whole groups; a resample with one label only says nothing."""
    drawn = (tables[rng.integers(len(tables), size=len(tables))].sum(0) for _ in range(2000))
    draws = _kappas(np.stack(list(drawn)))
    low, high = np.quantile(draws[~np.isnan(draws)], [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high), level)


def _tables(pairs: NDArray[np.int64], group: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Count the pairs of labels of each group, (groups, k, k)."""
    found = np.bincount(group * k * k + pairs, minlength=(int(group.max()) + 1) * k * k)
    return found.reshape(-1, k, k).astype(np.float64)


def _kappas(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """κ of each table (R, k, k); NaN where chance alone must agree."""
    p = tables / tables.sum((1, 2), keepdims=True)
    chance = (p.sum(1) * p.sum(2)).sum(1)
    observed = np.trace(p, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def _kappa_variance(p: NDArray[np.float64], kappa: float) -> float:
    """Variance of κ times n (Fleiss, Cohen & Everitt 1969, eq. 13)."""
    rows, columns = p.sum(1), p.sum(0)
    chance = float(rows @ columns)
    same = float((np.diag(p) * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    cross = (columns[:, None] + rows[None, :]) ** 2
    other = (1 - kappa) ** 2 * float((p * cross).sum() - (np.diag(p) * np.diag(cross)).sum())
    return (same + other - (kappa - chance * (1 - kappa)) ** 2) / (1 - chance) ** 2


def krippendorff_alpha(
    ratings: ArrayLike, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> Agreement:
    """Krippendorff's α for nominal ratings (raters, units), NaN where a rater gave none.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C. The interval is the percentile
    bootstrap over units. Units with fewer than two ratings say nothing and are left out; ``n`` counts the
    others, ``agreed`` those whose ratings are all alike.
    """
    counts = _unit_counts(np.asarray(ratings, np.float64))
    n = len(counts)
    agreed = int((counts.max(1) == counts.sum(1)).sum()) if n else 0
    if n == 0:
        return Agreement(None, None, 0, 0, "no unit has two ratings")
    [alpha] = _alphas(counts[None])
    if math.isnan(alpha):
        return Agreement(None, None, n, agreed, "all ratings are alike")
    draws = np.concatenate([_alphas(counts[rng.integers(n, size=(50, n))]) for _ in range(resamples // 50)])
    known = draws[~np.isnan(draws)]
    low, high = np.quantile(known, [0.5 - level / 2, 0.5 + level / 2])
    return Agreement(float(alpha), Interval(float(low), float(high), level), n, agreed)


def _unit_counts(ratings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count each label of each unit, (units with two ratings or more, labels)."""
    labels = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == labels).sum(0).astype(np.float64)
    return np.asarray(counts[counts.sum(1) >= 2], np.float64)


def _alphas(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """α of each of R data sets, from counts (R, units, labels); NaN where only one label occurs."""
    weight = 1 / (counts.sum(2) - 1)
    by_label = counts.sum(1)
    total = by_label.sum(1)
    alike = (counts * (counts - 1) * weight[:, :, None]).sum((1, 2))
    expected = (total**2 - (by_label**2).sum(1)) / (total - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - alike) / expected, np.nan)


@dataclass(frozen=True, slots=True)
class Confusion:
    """A judge against the truth, counts."""

    tp: int
    """Violations that it called so."""
    fn: int
    """Violations that it missed."""
    fp: int
    """It called a violation what is none."""
    tn: int
    """Neither."""

    @property
    def sensitivity(self) -> Rate:
        """Share of the violations that it called so."""
        return rate(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Rate:
        """Share of the rest that it left alone."""
        return rate(self.tn, self.tn + self.fp)


def confusion(truth: ArrayLike, called: ArrayLike) -> Confusion:
    """Count a judge's yes/no calls (n,) against the true labels (n,)."""
    t, c = np.asarray(truth, bool), np.asarray(called, bool)
    return Confusion(int((t & c).sum()), int((t & ~c).sum()), int((~t & c).sum()), int((~t & ~c).sum()))


@dataclass(frozen=True, slots=True)
class Corrected:
    """The true rate behind one that an erring judge observed."""

    value: float | None
    """In [0, 1]; ``None`` where it cannot be told."""
    interval: Interval | None
    """Carries the sampling error of the rate and of both error rates; ``None`` iff ``value`` is."""
    reason: str = ""
    """Why it cannot be told."""


def rogan_gladen(observed: Rate, judge: Confusion, level: float = 0.95) -> Corrected:
    """Correct an observed rate for the judge's sensitivity and specificity (Rogan & Gladen 1978).

    The interval is that of Lang & Reiczigel 2014 (Prev. Vet. Med. 113, 13–22): Agresti–Coull counts for the
    rate, a success and a failure added for sensitivity and specificity, and the variance of all three. A rate
    whose interval was widened for clustered samples counts with its effective n.
    """
    missing = _uncorrectable(observed, judge)
    if missing:
        return Corrected(None, None, missing)
    z = normal_quantile(level)
    se, sp = judge.tp / (judge.tp + judge.fn), judge.tn / (judge.tn + judge.fp)
    p, n = observed.hits / observed.n, effective_n(observed)
    value = min(max((p + sp - 1) / (se + sp - 1), 0.0), 1.0)

    n_p, p_ = n + z * z, (n * p + z * z / 2) / (n + z * z)
    n_se, se_ = judge.tp + judge.fn + 2, (judge.tp + 1) / (judge.tp + judge.fn + 2)
    n_sp, sp_ = judge.tn + judge.fp + 2, (judge.tn + 1) / (judge.tn + judge.fp + 2)
    youden = se_ + sp_ - 1
    if youden <= 0:
        return Corrected(value, Interval(0.0, 1.0, level))
    middle = (p_ + sp_ - 1) / youden
    of_se, of_sp = se_ * (1 - se_) / n_se, sp_ * (1 - sp_) / n_sp
    shift = 2 * z * z * (middle * of_se - (1 - middle) * of_sp)
    variance = p_ * (1 - p_) / n_p + middle**2 * of_se + (1 - middle) ** 2 * of_sp
    half = z * math.sqrt(variance) / youden
    low, high = (min(max(middle + shift + side * half, 0.0), 1.0) for side in (-1, 1))
    return Corrected(value, Interval(min(low, value), max(high, value), level))


def _uncorrectable(observed: Rate, judge: Confusion) -> str:
    positives, negatives = judge.tp + judge.fn, judge.tn + judge.fp
    if observed.n == 0:
        return "the rate has no trials"
    if positives == 0 or negatives == 0:
        return "the labels lack one of the classes, so sensitivity or specificity is unknown"
    youden = judge.tp / positives + judge.tn / negatives - 1
    if youden <= 1e-12:
        return f"sensitivity + specificity = {youden + 1:.2f} ≤ 1: the judge is no better than chance"
    return ""


def effective_n(observed: Rate) -> float:
    """Return the n of independent trials whose Wilson interval is as wide as that of ``observed``."""
    interval, n = observed.interval, float(observed.n)
    if interval is None or n == 0:
        return n
    p, z, width = observed.hits / n, normal_quantile(interval.level), interval.high - interval.low

    def too_wide(size: float) -> bool:
        low, high = score_bounds(p, size, z)
        return high - low > width + 1e-12

    small, large = 1e-3, n
    for _ in range(60):
        middle = math.sqrt(small * large)
        small, large = (middle, large) if too_wide(middle) else (small, middle)
    return large
