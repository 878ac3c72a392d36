"""Offsets of the preference loss, flat and aware of how concepts hang together.

L = -E log σ(βΔ_θ + Σ_c λ_c Δs_c): its optimum is βΔ_θ = logit p - Σ λ_c Δs_c, so λ > 0 suppresses and
λ < 0 amplifies (specs/fixes). Structure-aware [R; the paper only proposes it]: what a concept shares with
kept ones and with length is taken out of its score first, and λ_c may be the weight that the pairs give it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.stats.logistic import fit_choices

Floats = NDArray[np.float64]
_RIDGE = 1e-3
"""ρ / N: enough to solve for kept concepts that are the same, too little to leave anything behind."""
_LEFT = 1e-6
"""Share of a concept's variance below which nothing of it is left."""


def residual(delta: Floats, kept: Floats, name: str = "concept") -> Floats:
    """Return s_c^⊥ = Δs_c - Z(ZᵀZ + ρI)⁻¹ZᵀΔs_c, (N,): what of a concept its relatives do not carry.

    Args:
        delta: (N,) Δs of the concept.
        kept: (N, K) Δs of parent and siblings, or of the child to be kept, and length.
        name: For the message.

    Raises:
        UsageError: nothing is left, the kept concepts say all of it.
    """
    if not kept.shape[1]:
        return delta
    gram = kept.T @ kept + _RIDGE * len(delta) * np.eye(kept.shape[1])
    left: Floats = delta - kept @ np.linalg.solve(gram, kept.T @ delta)
    if left @ left <= _LEFT * (delta @ delta):
        raise UsageError(f"{name}: what is kept says all of it; nothing is left to shape")
    return left


def calibrated(delta: Floats, kept: Floats) -> Floats:
    """Return w_c (M,), the pairs' own log-odds a unit of each concept, kept ones held; λ_c = w_c nulls c.

    Logistic P(chosen) = σ(Σ w_j Δs_j + γ Z), order-swapped, so without intercept.
    """
    together = np.concatenate([delta, kept], axis=1)
    return fit_choices(together, np.arange(len(together))).coef[: delta.shape[1]]


def length_delta(chosen: list[str], rejected: list[str]) -> Floats:
    """Return z-scored difference of the logs of the sides' words, (N,); 0 where all are alike."""
    sizes = [
        np.log1p(np.array([len(text.split()) for text in side], np.float64)) for side in (chosen, rejected)
    ]
    spread = np.concatenate(sizes).std()
    return np.asarray((sizes[0] - sizes[1]) / (spread if spread > 0 else 1.0))


def recovery(start: float, trained: float, fixed: float) -> float | None:
    """Return how much of what training changed a fix takes back, %; ``None`` where nothing changed."""
    return None if trained == start else 100 * (trained - fixed) / (trained - start)


def selectivity(on: float, off: float) -> float | None:
    """Return on / (on + |off|) of on- and mean off-target recovery; ``None`` where nothing was recovered."""
    total = max(on, 0.0) + abs(off)
    return max(on, 0.0) / total if total else None
