"""Fit a group of words to behaviours: one word after the other comes in or goes out while phi rises."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from undertow.index.incidence import Incidence
from undertow.stats.intervals import wilson_lower
from undertow.turf.counts import Bools, Floats, Ints

MOST_CHANGES, LEAST_GAIN = 60, 0.002
"""Words that come in or go out at most, and the relative gain in phi of each at least."""
MOST = 0.5
"""Weight of the cruxes that a group's other words must carry, more than."""


@dataclass(frozen=True)
class Measure:
    """How much rows go with the behaviours."""

    behaviour_CN: Bools
    """(C, N) which rows show each behaviour."""
    weights_C: Floats
    """How much each counts, summing to 1."""

    @cached_property
    def base_C(self) -> Floats:
        """Share of all rows that show each behaviour."""
        return np.asarray(self.behaviour_CN.mean(axis=1))

    def phi(self, rows: Ints) -> float:
        """Return the weighted mean of the correlations of some rows with the behaviours."""
        hits_C1 = self.behaviour_CN[:, rows].sum(axis=1)[:, None]
        return float(self.of_counts(hits_C1, np.array([len(rows)]))[0])

    def of_counts(self, hits_CW: Ints, rows_W: Ints) -> Floats:
        """Return the same of W sets of rows by how many they are and how many show each behaviour."""
        n_C1, total = self.behaviour_CN.sum(axis=1, dtype=np.float64)[:, None], self.behaviour_CN.shape[1]
        m = rows_W.astype(np.float64)
        spread = np.sqrt(np.maximum(m * (total - m) * n_C1 * (total - n_C1), 1.0))
        value: Floats = self.weights_C @ ((hits_CW * float(total) - m * n_C1) / spread)
        return value

    @cached_property
    def mostly_N(self) -> Bools:
        """(N,) rows that show most of the behaviours."""
        return np.asarray(self.weights_C @ self.behaviour_CN > MOST)

    def carried_by(self, rows: Ints) -> bool:
        """Say whether some rows show most of the behaviours more often than all rows."""
        hits_C = self.behaviour_CN[:, rows].sum(axis=1)
        lower_C = wilson_lower(hits_C, np.full(len(hits_C), len(rows)))
        return bool(self.weights_C[lower_C > self.base_C].sum() > MOST)


def words_in(rows: Incidence, numbers: Ints) -> Ints:
    """Count the words of a group that each row has, (N,)."""
    return np.bincount(rows.gather(numbers)[0], minlength=rows.n)


def fitted(rows: Incidence, pool: Ints, start: Ints, measure: Measure, least: int) -> Ints:
    """Take words in or out while the rows that have ``least`` of them go with the behaviours better.

    Args:
        rows: of the words.
        pool: W words that may be in it, those of ``start`` among them.
        start: words that are in it at first.
        measure: of what is better.
        least: words that a row has to have.
    """
    inside, words_N = np.isin(pool, start), words_in(rows, start)
    row, owner = rows.gather(pool)
    hits_CP = measure.behaviour_CN[:, row]
    held = np.flatnonzero(words_N >= least)
    x_C, m = measure.behaviour_CN[:, held].sum(axis=1), len(held)
    for _ in range(MOST_CHANGES):
        changed = words_N[row] == (least - ~inside)[owner]
        sign = np.where(inside, -1, 1)
        m_W = m + sign * np.bincount(owner[changed], minlength=len(pool))
        x_CW = np.stack([np.bincount(owner[changed & hit], minlength=len(pool)) for hit in hits_CP])
        x_CW = x_C[:, None] + sign * x_CW
        now = measure.of_counts(x_C[:, None], np.array([m]))[0]
        gained = measure.of_counts(x_CW, m_W)
        best = int(gained.argmax())
        if gained[best] <= now + LEAST_GAIN * abs(now):
            break
        words_N[row[owner == best]] += sign[best]
        x_C, m, inside[best] = x_CW[:, best], int(m_W[best]), not inside[best]
    return pool[inside]
