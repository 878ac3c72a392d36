"""Words of the failing queries where there is little to go by: few rows of a kind, or no kind at all.

Ten rows of nine fabrics: no fabric can be tested by itself, and to choose those that go with the behaviour
best would find a kind under chance too. So of the words that stand in a row with the behaviour, the nearest
to the queries' own are taken, whatever else they go with. That each stands in such a row is a choice as well:
one row with the behaviour a word is left out of the test.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import bdtrc

from undertow.stats.multiplicity import benjamini_hochberg
from undertow.turf.counts import Floats, Ints
from undertow.turf.fitted import Measure, words_in
from undertow.turf.kin import BOUND, KIN, LEAST_HITS, LEAST_MEMBERS, UNSEEN, Asked, hits_of, parts

MOST_ROWS = 10
"""Rows of a word; one of more can be tested by itself."""
MOST_WORDS = 600
"""Such words that stand in a row with the behaviour; where there are more, no kind is looked for."""
MOST_OF_A_KIND = 12
"""Words of a group: the nearest three, four, five … of them, each number tried."""


def few_of_a_kind(asked: Asked, measure: Measure, level: float) -> Iterator[tuple[Ints, set[str]]]:
    """Find groups of words near words of the queries that go with the first behaviour together.

    Args:
        asked: the queries and the words of the corpus.
        measure: of the behaviours.
        level: of the test of a group, divided by how many are tried.

    Yields:
        the numbers of a group's words, and the queries' words of it that the corpus does not have.
    """
    rows = asked.lexicon.rows
    shown = np.flatnonzero((hits_of(rows, measure.behaviour_CN[0]) > 0) & (rows.counts <= MOST_ROWS))
    own = list(dict.fromkeys(word for words in asked.own for word in words))
    if not own or not LEAST_MEMBERS <= len(shown) <= MOST_WORDS:
        return
    mine, theirs = asked.vectors(own), asked.vectors([asked.lexicon.words[i] for i in shown])
    kinds = parts(mine @ mine.T, UNSEEN)
    for kind in kinds:
        toward = np.sort(theirs @ mine[kind].T, axis=1)[:, -KIN:].mean(axis=1)
        near = np.argsort(-toward, kind="stable")[:MOST_OF_A_KIND]
        near = shown[near[toward[near] >= UNSEEN]]
        sizes = range(LEAST_MEMBERS, len(near) + 1)
        chance, size = min(((_chance(asked, measure, near[:size]), size) for size in sizes), default=(1.0, 0))
        if chance < level / (len(kinds) * len(sizes) or 1):
            yield np.sort(near[:size]), {own[i] for i in kind}.intersection(asked.new)


def _chance(asked: Asked, measure: Measure, numbers: Ints) -> float:
    """Return the binomial p of the rows of some words, one row with the behaviour a word left out."""
    held = np.flatnonzero(words_in(asked.lexicon.rows, numbers))
    base = float(measure.base_CN[0, held].mean())
    x, m = int(measure.behaviour_CN[0, held].sum()) - len(numbers), len(held) - len(numbers)
    return float(bdtrc(x - 1, m, base)) if x > 0 else 1.0


def going_words(asked: Asked, measure: Measure, level: float) -> Ints:
    """Return the queries' words that go with the first behaviour, one of several that stand in the same rows.

    Those of most such rows first; each is tested against the sources of its rows.
    """
    rows, said = asked.lexicon.rows, asked.said
    hits = hits_of(rows, measure.behaviour_CN[0])[said]
    base: Floats = np.array([measure.base_CN[0, rows.rows_of(int(i))].mean() for i in said])
    p = np.where(hits >= LEAST_HITS, bdtrc(hits - 1.0, rows.counts[said], base), 1.0)
    going = said[(benjamini_hochberg(p) < level) & (hits > base * rows.counts[said])]
    kept: list[int] = []
    for i in sorted(going.tolist(), key=lambda i: (-rows.counts[i], i)):
        if not any(_same(asked, i, j) for j in kept):
            kept.append(i)
    return np.array(kept, np.int64)


def _same(asked: Asked, one: int, other: int) -> bool:
    """Say whether two words stand in nearly the same rows."""
    rows = asked.lexicon.rows
    shared = int(np.isin(rows.rows_of(one), rows.rows_of(other)).sum())
    return bool(shared >= BOUND * (rows.counts[one] + rows.counts[other] - shared))
