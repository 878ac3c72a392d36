"""Which of a violating prompt's attributes drew the violation: one, a pair, chance, or nothing in particular.

Minimisation by deletion, with the deletions chosen by what they tell: every test asks for a subset of the
attributes anew, and the subset is taken whose outcome splits the hypotheses best. A target that answers by
chance, or a prompt that misses an attribute, costs tests but does not mislead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from undertow.surf.belief import Trigger

DETECTION = 0.8
"""P(violation | the prompt carries the trigger) that a test reckons with."""
CERTAIN = 0.95
"""Posterior weight at which a hypothesis is taken."""
SUBSETS = 64
"""Subsets considered for the next test."""
LEAST_BITS = 0.02
"""Expected information of the best test below which testing ends."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Diagnosis:
    """Posterior over all single attributes and pairs of r suspects, and two hypotheses beside them.

    *Chance*: a violation comes now and then, whatever the prompt. *Common*: whatever is asked violates.
    """

    def __init__(
        self, suspects: Sequence[int], single: Floats, pair: Floats, chance: float, rng: np.random.Generator
    ) -> None:
        """Start from a violation of a prompt that carried all ``suspects``.

        Args:
            suspects: Pool indices, r ≥ 1.
            single: (r,) prior probability of each to be a trigger.
            pair: (r,) likewise to be half of one; a pair has the product.
            chance: Violation rate of prompts without any trigger, in (0, 1).
            rng: Draws subsets where there are too many for all.
        """
        self.suspects = list(suspects)
        r = len(self.suspects)
        self._chance = chance
        pairs = list(combinations(range(r), 2))
        self._hypotheses: list[tuple[int, ...]] = [*((i,) for i in range(r)), *pairs]
        products = np.array([pair[i] * pair[j] for i, j in pairs])
        prior = np.concatenate([single, products, [1.0, chance]])
        self._weights: Floats = prior * self._likelihood(np.ones(r, dtype=np.bool_))
        self._weights /= self._weights.sum()
        self._tests = _subsets(r, rng)
        self._brought = np.zeros((r, r), dtype=np.bool_)
        """Whether i once came with j, which was not asked for."""
        self._apart = np.zeros((r, r), dtype=np.bool_)
        """Whether i once came without j."""
        self._carried: list[Mask] = []
        """Which hypotheses each scored test carried."""
        self._violating = [(set(suspects), set(suspects))]
        """(asked for, held) of the prompts that violated."""

    @property
    def best(self) -> tuple[Trigger | None, float]:
        """The likeliest trigger and its weight; ``None`` where none at all is likelier.

        Attributes that every test so far carried together weigh as one, under the name of the likeliest.
        """
        weights = self._weights[: len(self._hypotheses)]
        top = int(np.argmax(weights))
        alike = np.ones(len(weights), dtype=np.bool_)
        for carried in self._carried:
            alike &= carried == carried[top]
        weight, none = float(weights[alike].sum()), float(1 - weights.sum())
        if none > weight:
            return None, none
        return tuple(sorted(self.suspects[i] for i in self._hypotheses[top])), weight

    @property
    def cleared(self) -> bool:
        """Whether it is certain that none of the suspects is to blame."""
        trigger, weight = self.best
        return trigger is None and weight >= CERTAIN

    def proven(self, min_hits: int) -> Trigger | None:
        """Return a certain trigger that violated in ``min_hits`` prompts, of which one asked for it alone."""
        trigger, weight = self.best
        if trigger is None or weight < CERTAIN:
            return None
        there = [asked for asked, held in self._violating if held.issuperset(trigger)]
        return trigger if len(there) >= min_hits and set(trigger) in there else None

    def next(self) -> list[int] | None:
        """Return what to ask for: a certain trigger to prove it, else the most telling subset of suspects.

        ``None`` when no test would tell much.
        """
        trigger, weight = self.best
        if trigger is not None and weight >= CERTAIN:
            return list(trigger)
        brings = self._tests | (self._tests @ (self._brought & ~self._apart))
        expected = np.array([self._likelihood(there) for there in brings])
        bits = _entropy(expected @ self._weights) - _entropy(expected) @ self._weights
        best = int(np.argmax(bits.round(9)))
        if bits[best] < LEAST_BITS:
            return None
        return [self.suspects[i] for i in np.flatnonzero(self._tests[best])]

    def observe(self, asked: Iterable[int], held: Iterable[int], violates: bool) -> None:
        """Update on a scored prompt that was to carry ``asked`` of the suspects and carries ``held``."""
        there = np.isin(self.suspects, list(held))
        likelihood = self._likelihood(there)
        self._weights = self._weights * (likelihood if violates else 1 - likelihood)
        self._weights /= self._weights.sum()
        self._carried.append(self._carry(there))
        wanted = np.isin(self.suspects, list(asked))
        self._brought |= np.outer(there & wanted, there & ~wanted)
        self._apart |= np.outer(there, ~there)
        if violates:
            self._violating.append((set(asked), set(held)))

    def _likelihood(self, there: Mask) -> Floats:
        """Return P(violation) under every hypothesis for a prompt with the suspects ``there``."""
        carried = [*self._carry(there), False, True]
        return np.where(carried, max(DETECTION, self._chance), self._chance)

    def _carry(self, there: Mask) -> Mask:
        """Say which hypotheses a prompt with the suspects ``there`` carries."""
        return np.array([all(there[i] for i in hypothesis) for hypothesis in self._hypotheses])


def _subsets(r: int, rng: np.random.Generator) -> Mask:
    """Return non-empty subsets of r places, smaller ones first: all, or as many as are looked at."""
    if 2**r <= SUBSETS:
        rows = (np.arange(1, 2**r)[:, None] >> np.arange(r)) & 1
    else:
        rows = np.concatenate([np.eye(r), rng.random((SUBSETS, r)) < 0.5])
        rows = rows[rows.any(axis=1)]
    subsets: Mask = rows[np.argsort(rows.sum(axis=1), kind="stable")].astype(np.bool_)
    return subsets


def _entropy(p: Floats) -> Floats:
    """Return the entropy of yes or no with probability ``p``, bits."""
    entropy: Floats = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return entropy
