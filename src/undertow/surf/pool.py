"""The weighted attribute pool and the replay buffer (paper §3.1.2–3.1.5).

Departures: ``explore`` mixes uniform draws into every iteration, so a run cannot lock itself into its first
hits; uniform means over distinct attributes, never over rows, because rare triggers are the point; equal
scores at the buffer's edge go to the newer candidate, or a judge that only says 0 or 100 would freeze the
buffer at its first n hits (the paper is silent on ties).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Entry:
    """One place of the replay buffer, (q, r, s, A) with q and r left in the sample."""

    score: float
    """s ∈ [0, 100]."""
    attributes: tuple[int, ...]
    """A: pool indices of the realised attributes."""
    candidate: str
    """Candidate id."""


def attribute_weights(buffer: Sequence[Entry], size: int) -> NDArray[np.float64]:
    """Weigh each of ``size`` attributes by eq. 1: w(a) = Σ_B s·1[a ∈ A], shape (size,)."""
    weights = np.zeros(size)
    for entry in buffer:
        weights[list(entry.attributes)] += entry.score
    return weights


def top_k(buffer: Sequence[Entry], new: Sequence[Entry], n: int) -> list[Entry]:
    """Keep the n highest scores of B ∪ new (eq. 2), best first; among equals the newer."""
    newest_first = [*reversed(new), *buffer]
    return sorted(newest_first, key=lambda entry: -entry.score)[:n]


def draw_attributes(
    weights: NDArray[np.float64], n: int, k: int, explore: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw the attributes of ``n`` candidates.

    Args:
        weights: (m,) from eq. 1; all zero (t = 0) means uniform over 𝒜.
        n: Candidates.
        k: Draws a candidate, with replacement: a candidate has at most k distinct attributes.
        explore: Share of draws made uniformly over the m distinct attributes.
        rng: Source of all draws.

    Returns:
        For each candidate its distinct attribute indices, ascending.
    """
    shape = (n, k)
    drawn = rng.integers(len(weights), size=shape)
    total = weights.sum()
    if total > 0:
        cumulative = np.cumsum(weights) / total
        weighted = np.minimum(np.searchsorted(cumulative, rng.random(shape), side="right"), len(weights) - 1)
        drawn = np.where(rng.random(shape) < explore, drawn, weighted)
    return [np.unique(row) for row in drawn]
