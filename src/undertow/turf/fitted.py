"""Fit a group of words to behaviours: one word after the other comes in or goes out while phi rises.

Rows are held against their own sources: what counts is the behaviour beyond the rate of the row's source, so
words of sources that nearly always behave that way carry nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from undertow.index.incidence import Incidence
from undertow.stats.intervals import wilson_lower
from undertow.turf.counts import Bools, Floats, Ints

MOST_CHANGES, LEAST_GAIN = 60, 0.002
"""Words that come in or go out at most, and the relative gain in phi of each at least."""
HABIT, HABITUAL = 0.5, 2
"""Share of a source's rows from which a behaviour is its habit, and sources that have the habit at least."""
ALIKE = 0.5
"""Share of the rise of the query's own words that a group's other words have without them."""
MOST = 0.5
"""Weight of the cruxes that a group's other words must carry, more than."""


@dataclass(frozen=True)
class Measure:
    """How much rows go with the behaviours."""

    behaviour_CN: Bools
    """(C, N) which rows show each behaviour."""
    weights_C: Floats
    """How much each counts, summing to 1."""
    sources_N: Ints
    """(N,) source of each row, from 0."""

    @cached_property
    def base_CN(self) -> Floats:
        """Share of the rows of each row's source that show each behaviour.

        Only where that is the habit of several sources: what one source alone does, a topic may have taught,
        and is held against all rows.
        """
        rows = np.maximum(np.bincount(self.sources_N), 1)
        shares = [np.bincount(self.sources_N, each) / rows for each in self.behaviour_CN]
        held = [
            share if (share >= HABIT).sum() >= HABITUAL else np.full(len(rows), each.mean())
            for share, each in zip(shares, self.behaviour_CN, strict=True)
        ]
        return np.stack([share[self.sources_N] for share in held])

    @cached_property
    def beyond_CN(self) -> Floats:
        """Each behaviour less its share in the row's source."""
        value: Floats = self.behaviour_CN - self.base_CN
        return value

    @cached_property
    def _spread_C1(self) -> Floats:
        return np.asarray((self.beyond_CN**2).sum(axis=1)[:, None])

    def phi(self, rows: Ints) -> float:
        """Return the weighted mean of the correlations of some rows with what is beyond the sources."""
        beyond_C1 = self.beyond_CN[:, rows].sum(axis=1)[:, None]
        return float(self.of_sums(beyond_C1, np.array([len(rows)]))[0])

    def of_sums(self, beyond_CW: Floats, rows_W: Ints) -> Floats:
        """Return the same of W sets of rows by how many they are and the sums of what is beyond."""
        total, m = self.behaviour_CN.shape[1], rows_W.astype(np.float64)
        spread = np.sqrt(np.maximum(m * (total - m) / total * self._spread_C1, 1e-9))
        value: Floats = self.weights_C @ (beyond_CW / spread)
        return value

    @cached_property
    def mostly_N(self) -> Bools:
        """(N,) rows that show most of the behaviours."""
        return np.asarray(self.weights_C @ self.behaviour_CN > MOST)

    def rise_C(self, rows: Ints, sure: bool) -> Floats:
        """Return how far the rates of some rows rise over those of their sources, of what is left to rise.

        With ``sure`` by the lower bounds of the rates.
        """
        hits_C, base_C = self.behaviour_CN[:, rows].sum(axis=1), self.base_CN[:, rows].sum(axis=1)
        m = np.full(len(hits_C), len(rows))
        rate_C = wilson_lower(hits_C, m) if sure else hits_C / np.maximum(m, 1)
        base_C = base_C / np.maximum(m, 1)
        value: Floats = (rate_C - base_C) / np.maximum(1.0 - base_C, 1e-12)
        return value

    def carried_by(self, rows: Ints, like: Ints) -> bool:
        """Say whether some rows show most of the behaviours, surely :data:`ALIKE` as much as others."""
        floor_C = np.maximum(ALIKE * self.rise_C(like, sure=False), 0.0)
        return bool(self.weights_C[self.rise_C(rows, sure=True) > floor_C].sum() > MOST)


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
    beyond_CP = measure.beyond_CN[:, row]
    held = np.flatnonzero(words_N >= least)
    x_C, m = measure.beyond_CN[:, held].sum(axis=1), len(held)
    for _ in range(MOST_CHANGES):
        changed = words_N[row] == (least - ~inside)[owner]
        sign = np.where(inside, -1, 1)
        m_W = m + sign * np.bincount(owner[changed], minlength=len(pool))
        of = owner[changed]
        x_CW = np.stack([np.bincount(of, each[changed], len(pool)) for each in beyond_CP])
        x_CW = x_C[:, None] + sign * x_CW
        now = measure.of_sums(x_C[:, None], np.array([m]))[0]
        gained = measure.of_sums(x_CW, m_W)
        best = int(gained.argmax())
        if gained[best] <= now + LEAST_GAIN * abs(now):
            break
        words_N[row[owner == best]] += sign[best]
        x_C, m, inside[best] = x_CW[:, best], int(m_W[best]), not inside[best]
    return pool[inside]
