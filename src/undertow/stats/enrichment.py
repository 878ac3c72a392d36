"""Is a feature associated with a behaviour? Counts of one corpus, all vectorised over features.

The letters are those of the tracing statistics everywhere: N rows, of which M have the feature and n the
behaviour; x have both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def _tail(x: ArrayLike, n: ArrayLike, M: ArrayLike, N: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    """Put the counts into scipy's order: quantile below x, population, marked, drawn."""
    counts = (np.asarray(count, np.float64) for count in (x, N, M, n))
    quantile, population, marked, drawn = counts
    return quantile - 1, population, marked, drawn


def hypergeometric(x: ArrayLike, n: ArrayLike, M: ArrayLike, N: ArrayLike) -> Floats:
    """One-sided enrichment p: P(X ≥ x) when n of N rows are drawn without regard to the M with the feature.

    Shapes broadcast. Exact in the far tail down to the smallest double; below that it is 0, and
    :func:`log_hypergeometric` still tells the order.
    """
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.sf(*_tail(x, n, M, N)), np.float64)


def log_hypergeometric(x: ArrayLike, n: ArrayLike, M: ArrayLike, N: ArrayLike) -> Floats:
    """Natural logarithm of :func:`hypergeometric`, finite where the p itself underflows."""
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.logsf(*_tail(x, n, M, N)), np.float64)


def mantel_haenszel(
    x: ArrayLike, n: ArrayLike, M: ArrayLike, N: ArrayLike, correction: float = 0.0
) -> Floats:
    """Odds ratio of feature and behaviour within strata, pooled (Mantel & Haenszel 1959).

    ``x`` and ``M`` are (S, F) counts by stratum and feature (or (S,) for one feature), ``n`` and ``N`` (S,).
    About 1: within a stratum the feature tells nothing. NaN where no stratum is informative, infinity where
    no row has the feature without the behaviour; ``correction`` (0.5, say) is added to each cell of the
    informative strata and keeps it finite.

    Returns:
        (F,) odds ratios, or a scalar array for one feature.
    """
    a = np.asarray(x, np.float64)
    feature = np.asarray(M, np.float64)
    lift = (slice(None),) + (None,) * (a.ndim - 1)
    behaviour, rows = np.asarray(n, np.float64)[lift], np.asarray(N, np.float64)[lift]
    b, c = feature - a, behaviour - a
    d = rows - feature - c
    informative = (feature > 0) & (feature < rows) & (behaviour > 0) & (behaviour < rows)
    weight = np.where(informative, 1 / np.maximum(rows + 4 * correction, 1), 0.0)
    agree = ((a + correction) * (d + correction) * weight).sum(0)
    disagree = ((b + correction) * (c + correction) * weight).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(agree / disagree, np.float64)


def log_odds_dirichlet(
    counts_a: ArrayLike,
    counts_b: ArrayLike,
    prior: ArrayLike,
    totals: tuple[float, float] | None = None,
    prior_total: float | None = None,
) -> Floats:
    """z-score of the log-odds ratio between groups a and b with an informative Dirichlet prior.

    Monroe, Colaresi & Quinn 2008, eq. 15, 16, 20, 22. ``counts_*`` and ``prior`` are (F,) (``prior`` may be a
    scalar); all must be positive in the prior. The paper's totals are sums of word counts, the default; for
    features of which a document has many or none give the numbers of documents as ``totals`` and
    ``prior_total``. Positive: more in a.

    Raises:
        ValueError: a prior that is not positive.
    """
    a, b = np.asarray(counts_a, np.float64), np.asarray(counts_b, np.float64)
    alpha = np.broadcast_to(np.asarray(prior, np.float64), a.shape)
    if (alpha <= 0).any():
        raise ValueError("a Dirichlet prior is positive everywhere")
    total_a, total_b = totals or (float(a.sum()), float(b.sum()))
    total_prior = float(alpha.sum()) if prior_total is None else prior_total
    odds_a = (a + alpha) / (total_a + total_prior - a - alpha)
    odds_b = (b + alpha) / (total_b + total_prior - b - alpha)
    variance = 1 / (a + alpha) + 1 / (b + alpha)
    return np.asarray((np.log(odds_a) - np.log(odds_b)) / np.sqrt(variance), np.float64)
