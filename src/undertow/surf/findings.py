"""From scored candidates to hypotheses: which attribute, or pair, best explains the violations.

Greedy explaining-away. The pattern with the highest Wilson lower bound of P(violation | pattern) leads; among
the patterns that explain the same violations as well, the one that covers most violations stands for all its
synonyms. Whatever carries it is then out of the picture, and the rest is searched again. These are proposals
made on selected samples: their rates are never reported as results.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from undertow.stats.enrichment import hypergeometric
from undertow.stats.intervals import wilson_bounds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

PAIR_GAIN = 0.2
"""A pair must raise the lower bound of both its halves by this much to be worth its second attribute: less is
mostly a place where the behaviour would have been right, and that names no trigger."""
COVER = 0.8
"""A pattern explains the same violations as the leader if it covers this share of the leader's."""
ALIKE = 0.6
"""Share of the leader's rate below which an addition is another thing, however few its prompts."""
CHANCE = 0.2
"""Patterns as good as a proposed one that chance alone may be expected to give: more is not worth a probe."""
MAX_COLUMNS = 600
"""Attributes considered for pairs, most hits first: 600² counts take 50 ms."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One or two attributes and what the search saw of them."""

    attributes: tuple[int, ...]
    """Pool columns, ascending."""
    hits: int
    """Distinct violating prompts that carry it."""
    n: int
    """Distinct scored prompts that carry it."""


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Counts of all singles and pairs considered; equal lengths."""

    first: Ints
    second: Ints
    """-1 for a single."""
    hits: Ints
    n: Ints

    @property
    def rate(self) -> Floats:
        return self.hits / np.maximum(self.n, 1)

    @property
    def lower(self) -> Floats:
        return wilson_bounds(self.hits, self.n)[0]


def carries(incidence: csr_array, attributes: tuple[int, ...]) -> Mask:
    """Say which of the n rows carry all ``attributes``."""
    dense = incidence[:, list(attributes)].toarray()
    return np.asarray(dense.all(axis=1), dtype=np.bool_)


def propose(
    incidence: csr_array,
    violating: Mask,
    lengths: Ints,
    banned: AbstractSet[tuple[int, ...]],
    min_hits: int,
    min_rate: float = 0.0,
) -> Pattern | None:
    """Return the pattern that best covers and predicts the violations, or ``None`` when none stands out.

    Args:
        incidence: (n, m) zeros and ones, which attributes each distinct prompt carries.
        violating: (n,) verdicts.
        lengths: (m,) characters of the attributes' sentences: of those that hold for the very same prompts
            the longest says most.
        banned: Patterns that a probe has refuted.
        min_hits: Violating prompts a pattern needs.
        min_rate: Lowest share of violations among the prompts that carry it.

    Returns:
        A pattern whose hypergeometric p, times the patterns tried, is at most :data:`CHANCE`.
    """
    kept = _candidates(incidence, violating, min_hits)
    if not len(kept):
        return None
    x = csr_array(incidence[:, kept])
    patterns = _count(x, kept, violating)
    allowed = _allowed(patterns, banned, min_hits) & (patterns.rate >= min_rate)
    if not allowed.any():
        return None
    leader = int(np.argmax(np.where(allowed, patterns.lower, -1.0)))
    best = _broadest(x, kept, violating, lengths, patterns, allowed, leader)
    tests = int(allowed.sum())
    p = hypergeometric(patterns.hits[best], int(violating.sum()), patterns.n[best], len(violating))
    if float(p) * tests > CHANCE:
        return None
    return _pattern(patterns, best)


def _candidates(incidence: csr_array, violating: Mask, min_hits: int) -> Ints:
    hits = np.asarray(violating.astype(np.int64) @ incidence)
    order = np.argsort(-hits, kind="stable")[:MAX_COLUMNS]
    return np.sort(order[hits[order] >= min_hits])


def _joint(x: csr_array, weight: Mask) -> Ints:
    """Count the rows of ``weight`` that carry both i and j; singles on the diagonal. Shape (k, k)."""
    rows = csr_array(x[np.flatnonzero(weight)])
    joint: Ints = (rows.T @ rows).toarray()
    return joint


def _flat(joint: Ints) -> Ints:
    """Lay the diagonal (singles), then the upper triangle (pairs), end to end."""
    return np.concatenate([np.diagonal(joint), joint[np.triu_indices(len(joint), 1)]])


def _count(x: csr_array, kept: Ints, violating: Mask) -> _Patterns:
    i, j = np.triu_indices(len(kept), 1)
    everything = np.ones(len(violating), dtype=np.bool_)
    return _Patterns(
        first=np.concatenate([kept, kept[i]]),
        second=np.concatenate([np.full(len(kept), -1), kept[j]]),
        hits=_flat(_joint(x, violating)),
        n=_flat(_joint(x, everything)),
    )


def _allowed(patterns: _Patterns, banned: AbstractSet[tuple[int, ...]], min_hits: int) -> Mask:
    """Keep patterns with support; a pair only if it is clearly better than both halves; none refuted."""
    lower, singles = patterns.lower, patterns.second < 0
    k = int(singles.sum())
    i, j = np.triu_indices(k, 1)
    halves = np.concatenate([np.zeros(k), np.maximum(lower[i], lower[j])])
    allowed: Mask = (patterns.hits >= min_hits) & (singles | (lower >= halves + PAIR_GAIN))
    for attributes in banned:
        second = attributes[1] if len(attributes) == 2 else -1
        allowed &= ~((patterns.first == attributes[0]) & (patterns.second == second))
    return allowed


def _broadest(
    x: csr_array,
    kept: Ints,
    violating: Mask,
    lengths: Ints,
    patterns: _Patterns,
    allowed: Mask,
    leader: int,
) -> int:
    """Among the patterns that explain the leader's violations as well, return the one covering most.

    As well: it covers :data:`COVER` of them, and the prompts it adds violate nearly as often as the leader's,
    at :data:`COVER` of its rate, or at :data:`ALIKE` of it where the numbers are too small to tell.
    """
    lead = carries(x, tuple(np.searchsorted(kept, _pattern(patterns, leader).attributes).tolist()))
    shared_hits, shared = _flat(_joint(x, violating & lead)), _flat(_joint(x, lead))
    added_hits, added = patterns.hits - shared_hits, patterns.n - shared
    lower, rate = patterns.lower, patterns.rate[leader]
    with np.errstate(invalid="ignore"):
        blurred = wilson_bounds(added_hits, added)[1] >= lower[leader]
    alike = (added_hits >= COVER * rate * added) | (blurred & (added_hits >= ALIKE * rate * added))
    same = allowed & (shared_hits >= COVER * patterns.hits[leader]) & alike
    same[leader] = True
    rows = np.flatnonzero(same)
    single = patterns.second[rows] < 0
    order = np.lexsort((rows, -lengths[patterns.first[rows]], -lower[rows], ~single, -patterns.hits[rows]))
    return int(rows[order[0]])


def _pattern(patterns: _Patterns, row: int) -> Pattern:
    pair = (int(patterns.first[row]), int(patterns.second[row]))
    attributes = pair[:1] if pair[1] < 0 else pair
    return Pattern(attributes, int(patterns.hits[row]), int(patterns.n[row]))


def synonyms(incidence: csr_array, attributes: tuple[int, ...], overlap: float = 0.5) -> list[int]:
    """Return other attributes whose rows have a Jaccard overlap of at least ``overlap``, closest first."""
    rows = carries(incidence, attributes).astype(np.int64)
    both = np.asarray(rows @ incidence)
    either = np.asarray(incidence.sum(axis=0)).ravel() + rows.sum() - both
    jaccard = both / np.maximum(either, 1)
    order = np.argsort(-jaccard, kind="stable")
    return [int(c) for c in order if jaccard[c] >= overlap and jaccard[c] > 0 and c not in attributes]
