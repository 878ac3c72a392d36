"""How often a query feature and a behaviour meet, in the corpus and in each of its sources.

All counts come from all rows, never from the retrieved ones: a thousand retrieved pairs out of 25,000
one-word answers show 6 of 150 planted rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Rows(Protocol):
    """Which rows query features hold for: an :class:`~undertow.index.incidence.Incidence` and its like."""

    @property
    def n(self) -> int:
        """Rows of the corpus."""

    def rows_of(self, column: int) -> NDArray[np.integer]:
        """Return the ascending rows of one feature."""

    def gather(self, columns: NDArray[np.integer]) -> tuple[NDArray[np.integer], Ints]:
        """Return the rows of several features in sequence, and for each row the position of its feature."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Contingency counts of F query features and C cruxes over N rows from S sources."""

    features: Ints
    """(F,) cluster ids of the query features."""
    both_CFS: Ints
    """Rows with feature and behaviour in each source."""
    feature_FS: Ints
    """Rows with the feature in each source."""
    behaviour_CS: Ints
    """Rows with the behaviour in each source."""
    rows_S: Ints
    """Rows of each source."""

    @property
    def both_CF(self) -> Ints:
        """x: rows with feature and behaviour."""
        return np.asarray(self.both_CFS.sum(axis=2))

    @property
    def feature_F(self) -> Ints:
        """M: rows with the feature."""
        return np.asarray(self.feature_FS.sum(axis=1))

    @property
    def behaviour_C(self) -> Ints:
        """n: rows with the behaviour."""
        return np.asarray(self.behaviour_CS.sum(axis=1))

    @property
    def rows(self) -> int:
        """N: rows of the corpus."""
        return int(self.rows_S.sum())

    @property
    def base_C(self) -> NDArray[np.float64]:
        """P(behaviour), n / N."""
        return self.behaviour_C / self.rows


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """The rows of F query features one after another, gathered once for all that is counted on them."""

    features: Ints
    """(F,) cluster ids."""
    rows: NDArray[np.integer]
    """(P,) row ids, feature by feature."""
    owner: Ints
    """(P,) position of each row's feature in ``features``."""
    cell: Ints
    """(P,) position × S + source of the row."""
    sources: Ints
    """(N,) source code of every row of the corpus, from 0."""
    n_sources: int
    """S."""

    @classmethod
    def gather(cls, incidence: Rows, features: Ints, sources: Ints, n_sources: int) -> FeatureRows:
        """Collect the rows of ``features``."""
        rows, owner = incidence.gather(features)
        cell = owner * n_sources + sources[rows]
        return cls(np.asarray(features, dtype=np.int64), rows, owner, cell, sources, n_sources)

    def table(self, cells: Ints) -> Ints:
        """Count cells as an (F, S) table."""
        shape = (len(self.features), self.n_sources)
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.int64)


def count(of: FeatureRows, behaviour_CN: Bools) -> Counts:
    """Count rows by feature × behaviour × source; ``behaviour_CN`` says which rows show each crux."""
    both = [of.table(of.cell[behaviour[of.rows]]) for behaviour in behaviour_CN]
    behaviours = [np.bincount(of.sources[behaviour], minlength=of.n_sources) for behaviour in behaviour_CN]
    return Counts(
        features=of.features,
        both_CFS=np.stack(both),
        feature_FS=of.table(of.cell),
        behaviour_CS=np.stack(behaviours).astype(np.int64),
        rows_S=np.bincount(of.sources, minlength=of.n_sources).astype(np.int64),
    )


def overlaps(incidence: Rows, features: Ints, behaviour: Bools) -> tuple[Ints, Ints]:
    """Count, for every pair of K features, the rows both hold for, and those of them with the behaviour.

    One bit a row: K is tens, and the features may hold for most rows.

    Returns:
        two (K, K) symmetric arrays.
    """
    k, words = len(features), -(-incidence.n // 64)
    bits = np.zeros((k, words), dtype=np.uint64)
    for i, feature in enumerate(features):
        mask = np.zeros(words * 64, dtype=np.bool_)
        mask[incidence.rows_of(int(feature))] = True
        bits[i] = np.packbits(mask).view(np.uint64)
    padded = np.zeros(words * 64, dtype=np.bool_)
    padded[: incidence.n] = behaviour
    hit = np.packbits(padded).view(np.uint64)
    shared, shared_hits = np.zeros((k, k), np.int64), np.zeros((k, k), np.int64)
    for i in range(k):
        both = bits[i] & bits
        shared[i] = np.bitwise_count(both).sum(axis=1)
        shared_hits[i] = np.bitwise_count(both & hit).sum(axis=1)
    return shared, shared_hits
