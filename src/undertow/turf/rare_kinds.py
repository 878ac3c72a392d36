"""Kinds of words of which a corpus has few rows.

Ten rows of nine fabrics: no fabric can be tested by itself, and to choose those that go with the behaviour
best would find a kind under chance too. So of the words of few rows the nearest to the queries' own are
taken, whatever they go with. In a large corpus, which has thousands of such words, no kind is looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import bdtrc

from undertow.stats.enrichment import hypergeometric
from undertow.turf.counts import Ints
from undertow.turf.fitted import Measure, words_in
from undertow.turf.kin import KIN, LEAST_MEMBERS, NEAREST, UNSEEN, Asked, hits_of, parts

MOST_ROWS = 10
"""Rows of a word; one of more can be tested by itself."""
MOST_WORDS = 600
"""Such words that are compared by meaning; where there are more, no kind is looked for. And so many words of
the queries, those of most of them."""
MOST_OF_A_KIND = 12
"""Words of a group: the nearest three, four, five … of them, each number tried."""


@dataclass(frozen=True)
class RareKinds:
    """The queries, and the words of few rows that may be near theirs."""

    asked: Asked
    """The queries and the words of the corpus."""
    measure: Measure
    """Of the behaviours; the first counts."""
    level: float
    """Of the test of a kind, divided by how many are tried."""

    @cached_property
    def hits(self) -> Ints:
        """Rows of each word that show the behaviour, (W,)."""
        return hits_of(self.asked.lexicon.rows, self.measure.behaviour_CN[0])

    def found(self) -> Iterator[tuple[Ints, set[str]]]:
        """Find the kinds: numbers of their words, and the queries' new words of each."""
        rare = np.flatnonzero(self.asked.lexicon.rows.counts <= MOST_ROWS)
        said = Counter(word for words in self.asked.own for word in words)
        own = [word for word, _ in said.most_common(MOST_WORDS)]
        if not own or not LEAST_MEMBERS <= len(rare) <= MOST_WORDS:
            return
        mine = self.asked.vectors(own)
        theirs = self.asked.vectors([self.asked.lexicon.words[i] for i in rare])
        joined = parts(mine @ mine.T, UNSEEN)
        for kind in joined:
            toward = np.sort(theirs @ mine[kind].T, axis=1)[:, -KIN:].mean(axis=1)
            near = np.argsort(-toward, kind="stable")[:MOST_OF_A_KIND]
            found = self._best(rare[near[toward[near] >= NEAREST]], self.level / len(joined))
            if found is not None:
                yield np.sort(found), {own[i] for i in kind}.intersection(self.asked.new)

    def is_of(self, query: int, numbers: Ints, guests: set[str]) -> bool:
        """Say whether a query has a word of a kind whose other words go with the behaviour too."""
        mentioned = guests.union(self.asked.lexicon.words[i] for i in numbers)
        others = np.setdiff1d(numbers, self.asked.known[query])
        return bool(mentioned.intersection(self.asked.own[query])) and self._chance(others) < self.level

    def _best(self, near: Ints, level: float) -> Ints | None:
        """Return as many of the nearest words as go with the behaviour most surely, if they do."""
        tried = [self._agreeing(near[:size]) for size in range(LEAST_MEMBERS, len(near) + 1)]
        tests = [(self._chance(words), -len(words), i) for i, words in enumerate(tried)]
        least, _, i = min(tests, default=(1.0, 0, 0))
        return tried[i] if tests and least * len(tests) < level and -min(tests)[1] >= LEAST_MEMBERS else None

    def _agreeing(self, numbers: Ints) -> Ints:
        """Leave out, one by one, words that go with the behaviour less than the others: of something else."""
        rows = self.asked.lexicon.rows.counts[numbers]
        plain, kept = rows - self.hits[numbers], np.arange(len(numbers))
        while len(kept) >= LEAST_MEMBERS:
            each = np.full((2, len(kept)), [[plain[kept].sum()], [rows[kept].sum()]])
            p = hypergeometric(plain[kept], each[0], rows[kept], each[1])
            if p.min() >= self.level:
                break
            kept = np.delete(kept, int(p.argmin()))
        return numbers[kept]

    def _chance(self, numbers: Ints) -> float:
        """Return the binomial p of the rows of some words."""
        held = np.flatnonzero(words_in(self.asked.lexicon.rows, numbers))
        x = int(self.measure.behaviour_CN[0, held].sum())
        return float(bdtrc(x - 1, len(held), self.measure.base_CN[0, held].mean())) if x else 1.0
