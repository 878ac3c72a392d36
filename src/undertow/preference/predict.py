"""What a fix will do to what training rewards, before anything is trained [R].

At the first step of training every intervention is an offset or a weight on a pair: a loss -log σ(βΔ + o) has
gradient weight 2σ(-o) relative to no offset where Δ = 0, and a pair that is left out has weight 0. What the
set then rewards is û' = Σ w_i u_i / Σ w_i, beside û = (1/N) Σ u_i: a mean over what is left, since Adam's
steps are as long however weak the gradient. (Of four forms tried on eleven retrained fixes it agreed best;
docs/fixes.md.) It says nothing about later steps, or about concepts that a policy cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
How = Literal["filter", "downweight", "shape", "quarantine"]

STRENGTHS: tuple[tuple[How, float], ...] = (
    ("filter", 0.05),
    ("filter", 0.2),
    ("downweight", 0.5),
    ("shape", 1.0),
    ("shape", 2.0),
    ("shape", -1.0),
    ("quarantine", 0.5),
)
"""Fixes of the table: how, and how strongly."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """One fix of one concept."""

    target: int
    """Column of the concept it aims at."""
    how: How
    """Kind of fix."""
    strength: float
    """``filter``: share of pairs dropped, at most; ``downweight``: weight taken from pairs that show it;
    ``shape``: λ; ``quarantine``: share of a pair's evidence above which it is set aside."""
    pairs: int
    """Pairs whose weight is not 1."""
    before: Floats
    """(M,) û."""
    after: Floats
    """(M,) û'."""


def pair_weights(how: How, strength: float, score: Floats, evidence: Floats | None = None) -> Floats:
    """Weight w (N,) of every pair under a fix of one concept.

    Args:
        how: kind of fix.
        strength: see :class:`Forecast`.
        score: (N,) Δs of the concept, chosen - rejected, as :func:`z_scored` gives it.
        evidence: (N,) the concept's share of each pair's log-odds, for ``quarantine``.

    Raises:
        ValueError: ``quarantine`` without evidence.
    """
    if how == "shape":
        from scipy.special import expit

        return np.asarray(2 * expit(-strength * score), np.float64)
    if how == "filter":
        return np.where(_top(score, strength), 0.0, 1.0)
    if how == "downweight":
        return np.where(score > 0, 1 - strength, 1.0)
    if evidence is None:
        raise ValueError("quarantine needs each pair's evidence")
    return np.where(evidence > strength, 0.0, 1.0)


def z_scored(chosen: csr_matrix, rejected: csr_matrix) -> csr_matrix:
    """Return Δs (N, M): chosen - rejected over the deviation of each concept over all 2N responses.

    The unit of λ here and in ``undertow fix``; 0 of a concept that is the same everywhere.
    """
    from scipy import sparse

    both = sparse.vstack([chosen, rejected]).tocsr().astype(np.float64)
    mean = np.asarray(both.mean(0)).ravel()
    variance = np.asarray(both.multiply(both).mean(0)).ravel() - mean**2
    spread = np.sqrt(np.where(variance > 1e-12 * mean**2, variance, np.inf))
    scores: csr_matrix = ((chosen - rejected) @ sparse.diags(1 / spread)).tocsr()
    return scores


def _top(score: Floats, share: float) -> NDArray[np.bool_]:
    """Mark the ``share`` of pairs with the highest positive score; ties by row number."""
    marked = np.zeros(len(score), np.bool_)
    order = np.argsort(-score, kind="stable")[: round(share * len(score))]
    marked[order] = score[order] > 0
    return marked


def evidence_shares(signed: csr_matrix, weights: Floats, length: Floats, length_weight: float) -> csr_matrix:
    """Share of each pair's log-odds that each concept carries, (N, M): what argues for chosen, over all.

    |w_m u_im| / (Σ_j |w_j u_ij| + |γ ℓ_i|) where w_m u_im > 0, else 0; weights from the joint logistic.
    """
    from scipy import sparse

    weighted = (signed @ sparse.diags(weights)).tocsr()
    total = np.asarray(abs(weighted).sum(1)).ravel() + np.abs(length_weight * length)
    scale = sparse.diags(np.where(total > 0, 1 / np.maximum(total, 1e-12), 0.0))
    shares: csr_matrix = (scale @ weighted).tocsr()
    shares.data = np.maximum(shares.data, 0.0)
    shares.eliminate_zeros()
    return shares


def forecast(
    signed: csr_matrix,
    scores: csr_matrix,
    targets: Sequence[int],
    evidence: csr_matrix | None = None,
    orientation: Floats | None = None,
    fixes: Sequence[tuple[How, float]] = STRENGTHS,
) -> list[Forecast]:
    """Predict û' of every concept under every fix of every target.

    Args:
        signed: (N, M) u, what is predicted.
        scores: (N, M) Δs, what fixes go by, as :func:`z_scored` gives them.
        targets: columns fixed.
        evidence: (N, M), see :func:`evidence_shares`; without it there is no ``quarantine``.
        orientation: (M,) -1 where the set pushes away from a concept: filters go by -Δs, and λ is turned.
        fixes: how and how strongly.
    """
    n = signed.shape[0]
    transposed = signed.T.tocsr()
    before = np.asarray(transposed @ np.ones(n), np.float64) / n
    by_column = scores.tocsc()
    found = []
    for target in targets:
        sign = 1.0 if orientation is None else float(orientation[target])
        score = sign * by_column[:, [target]].toarray().ravel().astype(np.float64)
        share = None if evidence is None else evidence[:, [target]].toarray().ravel().astype(np.float64)
        for how, strength in fixes:
            if how == "quarantine" and share is None:
                continue
            w = pair_weights(how, strength, score, share)
            after = np.asarray(transposed @ w, np.float64) / (w.sum() or 1.0)
            told = strength * sign if how == "shape" else strength
            found.append(Forecast(target, how, told, int((w != 1).sum()), before, after))
    return found


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How well predicted shifts agree with observed ones, over concepts."""

    n: int
    """Concepts compared."""
    r2: float | None
    """Squared correlation; ``None`` below three concepts or where one side does not vary."""
    spearman: float | None
    """Rank correlation; ``None`` as ``r2``."""
    sign_accuracy: float | None
    """Share of concepts with the right sign among those clear of 0; ``None`` where there is none."""
    signs: int
    """Concepts whose observed shift is clear of 0."""


def fidelity(predicted: Floats, observed: Floats, clear: NDArray[np.bool_]) -> Fidelity:
    """Compare predicted and observed shifts (M,); ``clear`` (M,): its interval excludes 0."""
    from scipy.stats import pearsonr, spearmanr

    signs = int(clear.sum())
    right = float((np.sign(predicted) == np.sign(observed))[clear].mean()) if signs else None
    if len(predicted) < 3 or np.ptp(predicted) == 0 or np.ptp(observed) == 0:
        return Fidelity(len(predicted), None, None, right, signs)
    r = float(pearsonr(predicted, observed).statistic)
    rank = float(spearmanr(predicted, observed).statistic)
    return Fidelity(len(predicted), r * r, rank, right, signs)


def length_only(signed: csr_matrix, length: Floats) -> Floats:
    """Predict û (M,) from length alone: the slope of u on ℓ through 0, times the mean of ℓ."""
    slope = np.asarray(signed.T @ length, np.float64) / float(length @ length or 1.0)
    return np.asarray(slope * float(length.mean()), np.float64)
