"""Logistic regression of paired choices: P(first is chosen) = σ(β·x), x what the two sides differ by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PRIOR_SD = 10.0
"""Standard deviation of the normal prior on each coefficient: weak enough (a log-odds of 10) to move no
estimable one, strong enough to keep a separated one finite."""
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients of differences and their cluster-robust standard errors."""

    coef: Floats
    """(p,) log-odds of being chosen per unit of the difference."""
    se: Floats
    """(p,) by clusters, CR1 with statsmodels' correction G/(G - 1)·(N - 1)/(N - p); NaN below two."""
    model_se: Floats
    """(p,) from the curvature alone, pairs as independent: for a separated column, where scores vanish."""
    converged: bool
    """The gradient vanished."""


def fit_choices(differences: ArrayLike, clusters: ArrayLike, prior_sd: float = PRIOR_SD) -> Fit:
    """Fit what makes a side be chosen, from ``differences`` (N, p), chosen - rejected.

    Every pair also stands in the other order with the other label; the intercept is then 0 and the fit is
    the one without it on the pairs as they are, which is what is computed. Newton's method, halving steps.

    Args:
        differences: (N, p) chosen - rejected.
        clusters: (N,) name of each pair's cluster.
        prior_sd: of the normal prior on every coefficient.

    Raises:
        ValueError: no pair or no column.
    """
    x = np.ascontiguousarray(differences, np.float64)
    if x.ndim != 2 or not all(x.shape):
        raise ValueError(f"differences need pairs and columns, not {x.shape}")
    beta = np.zeros(x.shape[1])
    ridge = 1 / prior_sd**2
    scores = np.asarray(x @ beta, np.float64)
    loss = _loss(scores, beta, ridge)
    converged = False
    for _ in range(_STEPS):
        p = _sigmoid(-scores)
        gradient = x.T @ p - ridge * beta
        step: Floats = np.asarray(np.linalg.solve(_information(x, p, ridge), gradient), np.float64)
        if float(gradient @ step) < 1e-9:
            # taken all the same: it squares the error, so that where this stops hangs on no last bit
            beta, scores, converged = beta + step, scores + x @ step, True
            break
        beta, scores, loss = _descend(x, beta, step, ridge, scores, loss)
    bread = np.asarray(np.linalg.inv(_information(x, _sigmoid(-scores), ridge)), np.float64)
    return Fit(beta, _robust(x, scores, bread, clusters), np.sqrt(np.diag(bread)), converged)


def _descend(
    x: Floats, beta: Floats, step: Floats, ridge: float, scores: Floats, loss: float
) -> tuple[Floats, Floats, float]:
    """Take the step, halved until the loss does not rise; return coefficients, x·β and loss."""
    along = np.asarray(x @ step, np.float64)
    for halving in range(30):
        part = 0.5**halving
        moved, there = beta + part * step, scores + part * along
        reached = _loss(there, moved, ridge)
        if reached <= loss:
            return moved, there, reached
    return beta, scores, loss


def _loss(scores: Floats, beta: Floats, ridge: float) -> float:
    # log(1 + e⁻ˢ), a third of the time of logaddexp
    each = np.log(1 + np.exp(-np.abs(scores))) + np.maximum(-scores, 0)
    return float(each.sum() + ridge * (beta @ beta) / 2)


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1 + small), np.float64)


def _information(x: Floats, p: Floats, ridge: float) -> Floats:
    return np.asarray((x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(x.shape[1]), np.float64)


def cluster_codes(clusters: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Give each row's cluster a number (N,), not always without gaps, and count the clusters.

    Small whole numbers stand as they are: sorting thirty thousand for each of a thousand fits is slow.
    """
    given = np.asarray(clusters)
    if given.dtype.kind in "iu" and given.size and given.min() >= 0 and given.max() < 4 * given.size:
        return given.astype(np.int64), int(np.count_nonzero(np.bincount(given)))
    distinct, code = np.unique(given, return_inverse=True)
    return code.astype(np.int64), len(distinct)


def _robust(x: Floats, eta: Floats, bread: Floats, clusters: ArrayLike) -> Floats:
    """Square roots of the diagonal of bread · meat · bread (Liang & Zeger 1986)."""
    from scipy.sparse import csr_matrix

    code, count = cluster_codes(clusters)
    rows, columns = x.shape
    if count < 2 or rows <= columns:
        return np.full(columns, np.nan)
    p = _sigmoid(-eta)
    member = csr_matrix((p, (code, np.arange(rows))), shape=(int(code.max()) + 1, rows))
    scores = np.asarray(member @ x, np.float64)
    meat = scores.T @ scores
    correction = count / (count - 1) * (rows - 1) / (rows - columns)
    return np.asarray(np.sqrt(np.diag(bread @ meat @ bread) * correction), np.float64)
