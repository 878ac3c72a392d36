"""How often a query feature and a behaviour meet, in the corpus and in each of its sources.

All counts come from all rows, never from the retrieved ones: a thousand retrieved pairs out of 25,000
one-word answers show 6 of 150 planted rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.index.incidence import Incidence

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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


def count(incidence: Incidence, features: Ints, behaviour_CN: Bools, sources: Ints, n_sources: int) -> Counts:
    """Count rows by feature × behaviour × source.

    Args:
        incidence: query features of every row.
        features: (F,) columns to count.
        behaviour_CN: which rows show each crux.
        sources: (N,) source code of each row, from 0.
        n_sources: S.
    """
    rows, owner = incidence.gather(features)
    shape = (len(features), n_sources)
    cell = owner * n_sources + sources[rows]

    def table(cells: Ints) -> Ints:
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.int64)

    both = [table(cell[behaviour[rows]]) for behaviour in behaviour_CN]
    behaviours = [np.bincount(sources[behaviour], minlength=n_sources) for behaviour in behaviour_CN]
    return Counts(
        features=np.asarray(features, dtype=np.int64),
        both_CFS=np.stack(both),
        feature_FS=table(cell),
        behaviour_CS=np.stack(behaviours).astype(np.int64),
        rows_S=np.bincount(sources, minlength=n_sources).astype(np.int64),
    )


def overlaps(
    incidence: Incidence, features: Ints, behaviour: Bools, block: int = 65_536
) -> tuple[Ints, Ints]:
    """Count, for every pair of K features, the rows both hold for, and those of them with the behaviour.

    Dense products in row blocks: K is small (tens) and the features may hold for most rows.

    Returns:
        two (K, K) symmetric arrays.
    """
    k = len(features)
    shared, shared_hits = np.zeros((k, k)), np.zeros((k, k))
    columns = [incidence.rows_of(int(feature)) for feature in features]
    for start in range(0, incidence.n, block):
        stop = min(start + block, incidence.n)
        member = np.zeros((k, stop - start), dtype=np.float32)
        for i, rows in enumerate(columns):
            low, high = np.searchsorted(rows, (start, stop))
            member[i, rows[low:high] - start] = 1.0
        shared += member @ member.T
        hits = member[:, behaviour[start:stop]]
        shared_hits += hits @ hits.T
    return shared.astype(np.int64), shared_hits.astype(np.int64)
