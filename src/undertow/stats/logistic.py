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
    converged: bool
    """The gradient vanished."""


def fit_choices(
    differences: ArrayLike, clusters: ArrayLike, prior_sd: float = PRIOR_SD, start: ArrayLike | None = None
) -> Fit:
    """Fit what makes a side be chosen, from ``differences`` (N, p), chosen - rejected.

    Every pair also stands in the other order with the other label; the intercept is then 0 and the fit is
    the one without it on the pairs as they are, which is what is computed. Newton's method, halving steps.

    Args:
        differences: (N, p) chosen - rejected.
        clusters: (N,) name of each pair's cluster.
        prior_sd: of the normal prior on every coefficient.
        start: (p,) where to begin.

    Raises:
        ValueError: no pair or no column.
    """
    x = np.ascontiguousarray(differences, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"differences need pairs and columns, not {x.shape}")
    beta = np.zeros(x.shape[1]) if start is None else np.array(start, np.float64)
    ridge = 1 / prior_sd**2
    loss, converged = _loss(x, beta, ridge), False
    for _ in range(_STEPS):
        p = _sigmoid(-(x @ beta))
        gradient = x.T @ p - ridge * beta
        step: Floats = np.asarray(np.linalg.solve(_information(x, p, ridge), gradient), np.float64)
        if float(gradient @ step) < 1e-10:
            converged = True
            break
        beta, loss = _descend(x, beta, step, ridge, loss)
    return Fit(beta, _robust(x, beta, ridge, clusters), converged)


def _descend(x: Floats, beta: Floats, step: Floats, ridge: float, loss: float) -> tuple[Floats, float]:
    for _ in range(30):
        moved = beta + step
        new = _loss(x, moved, ridge)
        if new <= loss:
            return moved, new
        step = step / 2
    return beta, loss


def _loss(x: Floats, beta: Floats, ridge: float) -> float:
    return float(np.logaddexp(0.0, -(x @ beta)).sum() + ridge * (beta @ beta) / 2)


def _sigmoid(x: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(x), np.float64)


def _information(x: Floats, p: Floats, ridge: float) -> Floats:
    information: Floats = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(x.shape[1])
    return information


def _robust(x: Floats, beta: Floats, ridge: float, clusters: ArrayLike) -> Floats:
    """Square roots of the diagonal of bread · meat · bread (Liang & Zeger 1986)."""
    _, code = np.unique(np.asarray(clusters), return_inverse=True)
    count, rows, columns = int(code.max()) + 1, *x.shape
    if count < 2 or rows <= columns:
        return np.full(columns, np.nan)
    p = _sigmoid(-(x @ beta))
    scores = np.column_stack(
        [np.bincount(code, weights=column, minlength=count) for column in (x * p[:, None]).T]
    )
    bread = np.linalg.inv(_information(x, p, ridge))
    correction = count / (count - 1) * (rows - 1) / (rows - columns)
    return np.asarray(np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread) * correction), np.float64)
