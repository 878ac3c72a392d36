"""What the archive search believes of each attribute, and what it draws next from that belief.

Pure arrays over the m attributes; a draw costs one normal number an attribute. The posterior P(violation |
attribute) is a Beta over the *credit* of scores: 1 for a violation, for less the part of the way from an
ordinary score to the threshold, so that half of a conjunction shows before the whole was ever seen. It is
drawn by its normal approximation: among thousands of hardly tried attributes the Beta's long tails would win
every draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]

MISSED = 0.25
"""What a draw counts that its prompt did not realise, or that failed: the attribute is soon drawn again."""
SUSPECT = 0.2
"""Mean credit of a companion from which a violation may be that companion's as well."""
LEADING = 64
"""Suspects looked at for a candidate of suspects."""
Trigger = tuple[int, ...]
"""Attributes that elicit the behaviour together, ascending."""


class Ordinary:
    """Running mean and spread of the scores that do not violate (Welford)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, score: float) -> None:
        """Take in one score."""
        self.n += 1
        step = score - self.mean
        self.mean += step / self.n
        self._squares += step * (score - self.mean)

    def credit(self, score: float, threshold: float) -> float:
        """Return how far ``score`` is on the way from an ordinary score to ``threshold``, in [0, 1].

        What lies within one standard deviation of the mean is ordinary.
        """
        start = self.mean + math.sqrt(self._squares / self.n) if self.n else threshold
        return min(1.0, max(0.0, (score - start) / max(threshold - start, 1.0)))


class Belief:
    """Posterior over m attributes, and the triggers that are known."""

    def __init__(self, m: int) -> None:
        self.effort: Floats = np.zeros(m)
        """(m,) how often drawn or held; what was tried least is explored first."""
        self.n: Floats = np.zeros(m)
        """(m,) trials, less what better known companions account for."""
        self.credit: Floats = np.zeros(m)
        """(m,) credit earned in them."""
        self.hits: Floats = np.zeros(m)
        """(m,) violations in them."""
        self.alone: Floats = np.zeros(m)
        """(m,) those of them beside no other suspect: that they were half of something is then unlikely."""
        self.open: NDArray[np.bool_] = np.ones(m, dtype=np.bool_)
        """(m,) which attributes are still explored: those of no known trigger."""
        self.known: list[Trigger] = []
        """Triggers, in the order in which they were found."""
        self._met: set[int] = set()
        """Pairs of suspects, each as one number, that stood together in a prompt that did not violate, or are
        being asked together."""
        self._total_n = self._total_credit = 0.0

    @property
    def rate(self) -> float:
        """Mean credit of a trial, the prior of an untried attribute; one credit in 100 before any trial."""
        return (self._total_credit + 1.0) / (self._total_n + 100.0)

    def mean(self, attributes: Indices | slice = slice(None)) -> Floats:
        """Return the posterior mean credit of ``attributes``; the prior weighs one trial."""
        mean: Floats = (self.credit[attributes] + self.rate) / (self.n[attributes] + 1)
        return mean

    def sd(self, attributes: Indices | slice = slice(None)) -> Floats:
        """Return the posterior standard deviation of ``attributes``."""
        mean = self.mean(attributes)
        sd: Floats = np.sqrt(mean * (1 - mean) / (self.n[attributes] + 2))
        return sd

    def explains(self, held: Sequence[int] | Indices) -> Trigger | None:
        """Return the first known trigger that a prompt with the attributes ``held`` carries."""
        there = set(np.asarray(held).tolist())
        return next((trigger for trigger in self.known if there.issuperset(trigger)), None)

    def suspects(self) -> Indices:
        """Return the open attributes whose credit stands clear of the mean attribute's by one deviation."""
        tried = np.flatnonzero(self.open & (self.credit > 0))
        clear: Indices = tried[self.mean(tried) - self.sd(tried) > self.rate]
        return clear

    # Learning

    def observe(self, held: Indices, credit: float, violates: bool) -> None:
        """Update on a scored prompt with the attributes ``held``.

        An attribute is credited with what its best known companion leaves unexplained, and its trial counts
        as much; beside a known trigger that is nothing at all.
        """
        if not len(held):
            return
        self.effort[held] += 1
        if self.explains(held) is not None:
            return
        mean = self.mean(held)
        best = int(np.argmax(mean))
        beside = np.full(len(held), mean[best])
        beside[best] = max(np.delete(mean, best), default=0.0)
        earned = np.maximum(credit - beside, 0.0)
        self.n[held] += 1 - beside
        self.credit[held] += earned
        if violates:
            self.hits[held] += earned
            self.alone[held] += np.where(beside < SUSPECT, earned, 0.0)
        self._total_n += float((1 - beside).sum())
        self._total_credit += float(earned.sum())

    def tested(self, attributes: Sequence[int]) -> None:
        """Note that these stood together in a prompt that did not violate."""
        self._met.update(self._pairs(attributes))

    def _pair(self, one: int, other: int) -> int:
        return min(one, other) * len(self.open) + max(one, other)

    def _pairs(self, attributes: Sequence[int]) -> list[int]:
        return [self._pair(one, other) for one, other in combinations(attributes, 2)]

    def know(self, trigger: Trigger) -> None:
        """Take a trigger out of the picture: it is explored no more, and explains whatever carries it."""
        self.known.append(trigger)
        self.open[list(trigger)] = False

    # Drawing

    def draw(self, k: int, explore: float, rng: np.random.Generator) -> Indices:
        """Draw up to ``k`` distinct attributes for a candidate, ascending; they count as tried at once.

        A share ``explore`` of the candidates are the least tried attributes; of the others, suspects that
        have not met yet, or one Thompson draw among the least tried.
        """
        chosen: list[int] = []
        if rng.random() >= explore:
            ranked = self._thompson(rng)
            chosen = self._unmet(ranked, k) or ranked[:1]
            self.tested(chosen)
        chosen += self._least_tried(k - len(chosen), chosen, rng)
        return self.ask(chosen)

    def ask(self, attributes: Sequence[int]) -> Indices:
        """Count ``attributes`` as tried, even before their verdict: no other candidate need try them."""
        drawn = np.sort(np.asarray(attributes, dtype=np.intp))
        self.effort[drawn] += 1
        return drawn

    def settle(self, drawn: Indices, realised: Indices) -> None:
        """Take back what a draw counted, once it is known what was realised: nothing, where it failed."""
        self._met.difference_update(self._pairs(drawn.tolist()))
        self.effort[drawn] -= np.where(np.isin(drawn, realised), 1.0, 1.0 - MISSED)

    def _thompson(self, rng: np.random.Generator) -> list[int]:
        """Rank the leading attributes with credit by one posterior draw each, best first."""
        tried = np.flatnonzero(self.open & (self.credit > 0))
        sampled = self.mean(tried) + self.sd(tried) * rng.standard_normal(len(tried))
        leading: list[int] = tried[_largest(sampled, LEADING)].tolist()
        return leading

    def _unmet(self, ranked: Sequence[int], k: int) -> list[int]:
        """Return up to ``k`` suspects of whom no two have met, in order of rank; fewer than two are none."""
        suspects = set(self.suspects().tolist())
        waiting = [attribute for attribute in ranked if attribute in suspects]
        for first, leader in enumerate(waiting):
            chosen = [leader]
            for other in waiting[first + 1 :]:
                if len(chosen) < k and self._met.isdisjoint(self._pair(other, one) for one in chosen):
                    chosen.append(other)
            if len(chosen) > 1:
                return chosen
        return []

    def _least_tried(self, n: int, beside: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Draw ``n`` open attributes of least effort, ties at random; closed ones where nothing is open."""
        if n <= 0:
            return []
        urgency = np.where(self.open, -self.effort, -np.inf) - rng.random(len(self.effort)) * (MISSED / 2)
        urgency[list(beside)] = np.nan
        free = np.flatnonzero(urgency > -np.inf)
        if not len(free) and not len(beside):
            free = np.arange(len(urgency))
            urgency = rng.random(len(urgency))
        least: list[int] = free[_largest(urgency[free], n)].tolist()
        return least


def _largest(values: Floats, n: int) -> Indices:
    """Return the places of the ``n`` largest values, largest first."""
    n = min(n, len(values))
    top = np.argpartition(-values, n - 1)[:n] if 0 < n < len(values) else np.arange(len(values))
    order: Indices = top[np.argsort(-values[top], kind="stable")]
    return order
