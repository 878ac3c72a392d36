"""Words of a kind that go with the behaviour together, where no single attribute of the query says it.

A topic is many words, each in a few rows. Clusters of meaning made beforehand hold them together with words
that carry nothing ("orchestra" beside "violin"). So the groups are made for the behaviour at hand: words of
the corpus's queries that go with it, each by itself significant, are joined where they mean about the same,
and the failing query's own words say which group it belongs to, a word never seen in training too.

A word belongs to a group only where the group's other words carry the behaviour without it, under most of the
cruxes, and where it is no part of a set phrase: "a wise judge" has nothing to do with the police.

Under chance no word passes, so no group is made; a group is then tested like any other feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.index.incidence import Beside, Incidence
from undertow.index.open import Index
from undertow.index.words import IndexedWords
from undertow.stats.enrichment import hypergeometric
from undertow.stats.intervals import wilson_lower
from undertow.stats.multiplicity import benjamini_hochberg
from undertow.turf.counts import Bools, Floats, Ints
from undertow.turf.redundancy import rise

MOST_WORDS = 400
"""Words compared by meaning, those that go with the behaviour most."""
NEAR = (0.5, 0.42, 0.35)
"""Mean cosines of single words from which they are joined, each tried."""
MOST_OF_ONE, OFTEN_TOGETHER = 0.5, 1.5
"""Most of a group's behaviour rows that one word has, and of its words in such a row on average."""
LEAST_MEMBERS = 3
"""Words of a group; a smaller one is told by the words themselves."""
TELLING = (0.6, 0.3)
"""Share of the best word's rise over the base rate that the words of a group have, each tried."""
MOST = 0.5
"""Weight of the cruxes that a group's other words must carry, more than."""
BOUND = 0.8
"""Jaccard overlap of rows from which two words of a query are parts of one phrase."""
NAMED = 4
"""Words in the name of a group."""


@dataclass(frozen=True, slots=True)
class Group:
    """Words of a kind."""

    words: tuple[str, ...]
    """The query's own first, then the most frequent."""
    rows: Ints
    """(r,) ascending rows that have one of them."""
    share: float
    """Share of the failing queries that have one."""

    @property
    def text(self) -> str:
        """Return the group as a sentence."""
        shown = ", ".join(f"'{word}'" for word in self.words[:NAMED])
        return f"The query mentions {shown} or the like"


@dataclass(frozen=True, slots=True)
class Widened:
    """The features of an index and further ones behind them."""

    base: Incidence | Beside
    """Of the index."""
    extra: tuple[Ints, ...]
    """Ascending rows of each further feature; their numbers follow the base's."""

    @property
    def n(self) -> int:
        """Rows of the corpus."""
        return self.base.n

    def rows_of(self, column: int) -> NDArray[np.integer]:
        """Return the ascending rows of one feature."""
        return self.base.rows_of(column) if column < self.base.m else self.extra[column - self.base.m]

    def gather(self, columns: NDArray[np.integer]) -> tuple[NDArray[np.integer], Ints]:
        """Return the rows of several features in sequence, and for each row the position of its feature."""
        parts = [self.rows_of(int(column)) for column in columns]
        rows = np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32)
        return rows, np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def word_groups(
    index: Index,
    prompts: Sequence[str],
    behaviour_CN: Bools,
    weights_C: Floats,
    majority: float,
    level: float,
) -> list[Group]:
    """Find the groups of words that go with one of C behaviours and that most of the prompts have a word of.

    Args:
        index: with the words of its queries; without, there are no groups.
        prompts: failing queries.
        behaviour_CN: which rows show each behaviour.
        weights_C: how much each counts, summing to 1.
        majority: share of the prompts that must have a word of the group, more than.
        level: false-discovery rate of single words.
    """
    from undertow.attributes.content import content_words

    lexicon = index.lexicon
    if lexicon is None:
        return []
    own = [content_words(prompt) for prompt in prompts]
    said = [lexicon.number[word] for words in own for word in words if word in lexicon.number]
    base_C = behaviour_CN.mean(axis=1)
    found: dict[tuple[int, ...], Group] = {}
    for behaviour in behaviour_CN:
        going, rises = _going_with(lexicon.rows, behaviour, said, level)
        if len(going) < LEAST_MEMBERS:
            continue
        new = sorted({word for words in own for word in words} - lexicon.number.keys())
        vectors = index.embedder.embed([*(lexicon.words[i] for i in going), *new])
        for members, guests in _joined(vectors[: len(going)] @ vectors.T, rises):
            numbers = going[members]
            if tuple(numbers) in found or not _alternatives(lexicon.rows, numbers, behaviour):
                continue
            kind = _Kind(lexicon, numbers, {new[i] for i in guests}, behaviour_CN, base_C, weights_C)
            share = float(np.mean([kind.is_of(words) for words in own]))
            if share > majority:
                words = _named(lexicon.words, numbers, lexicon.rows.counts, own)
                found[tuple(numbers)] = Group(words, np.flatnonzero(lexicon.rows.any_of(numbers)), share)
    return list(found.values())


@dataclass(frozen=True)
class _Kind:
    """Words that may be a group, held against one failing query after the other."""

    lexicon: IndexedWords
    numbers: Ints
    """Of the words."""
    guests: set[str]
    """Unseen words as near."""
    behaviour_CN: Bools
    base_C: Floats
    """Share of all rows that show each behaviour."""
    weights_C: Floats

    def is_of(self, words: Sequence[str]) -> bool:
        """Say whether a query mentions the kind by a word, seen or not, that the other words stand in for."""
        number = self.lexicon.number
        known = np.array([number[word] for word in words if word in number], np.int64)
        mine, others = np.intersect1d(known, self.numbers), np.setdiff1d(known, self.numbers)
        mentions = not self.guests.isdisjoint(words) or any(not self._bound(int(i), others) for i in mine)
        return mentions and self._carry_without(mine)

    def _bound(self, word: int, others: Ints) -> bool:
        """Say whether a word stands in the same rows as another of the query: both are of one phrase."""
        rows, counts = self.lexicon.rows, self.lexicon.rows.counts
        fewer, more = np.minimum(counts[others], counts[word]), np.maximum(counts[others], counts[word])
        alike, mine = others[fewer >= BOUND * more], rows.rows_of(word)
        shared = np.array([np.isin(mine, rows.rows_of(int(i))).sum() for i in alike])
        return bool((shared >= BOUND * (len(mine) + counts[alike] - shared)).any())

    def _carry_without(self, mine: Ints) -> bool:
        """Say whether the rows of the other words show most of the behaviours more often than all rows."""
        rows = self.lexicon.rows
        rest = np.setdiff1d(rows.gather(np.setdiff1d(self.numbers, mine))[0], rows.gather(mine)[0])
        hits_C = self.behaviour_CN[:, rest].sum(axis=1)
        lower_C = wilson_lower(hits_C, np.full(len(hits_C), len(rest)))
        return bool(self.weights_C[lower_C > self.base_C].sum() > MOST)


def _going_with(
    rows: Incidence, behaviour: Bools, said: Sequence[int], level: float
) -> tuple[Ints, NDArray[np.float64]]:
    """Find the words that go with a behaviour, those ``said`` first, and their rise over the base rate."""
    shown = np.append(behaviour[rows.column_rows], False)
    hits = np.add.reduceat(shown, rows.column_pointers[:-1], dtype=np.int64)
    counts, n = rows.counts, int(behaviour.sum())
    q = benjamini_hochberg(hypergeometric(hits, n, counts, rows.n))
    base = n / rows.n
    lower = rise(wilson_lower(hits, counts), base)
    going = np.flatnonzero((q < level) & (lower > 0))
    strength = lower[going] * np.sqrt(hits[going])
    going = going[np.lexsort((-strength, ~np.isin(going, said)))][:MOST_WORDS]
    return going, rise(hits[going] / counts[going], base)


def _joined(cosines: NDArray[np.float32], rises: NDArray[np.float64]) -> Iterator[tuple[Ints, list[int]]]:
    """Join words by average linkage: members, and the new words that are as near to them on average.

    Args:
        cosines: (W, W + V) of W words to themselves and to V new ones.
        rises: (W,) rise of each word's rate over the base rate.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    width = len(cosines)
    for telling in TELLING:
        some = np.flatnonzero(rises >= telling * rises.max())
        if len(some) < LEAST_MEMBERS:
            continue
        apart = np.clip(1.0 - cosines[np.ix_(some, some)].astype(np.float64), 0.0, None)
        tree = linkage(squareform((apart + apart.T) / 2, checks=False), "average")
        for near in NEAR:
            label = fcluster(tree, 1.0 - near, "distance")
            for part in np.flatnonzero(np.bincount(label) >= LEAST_MEMBERS):
                members = np.sort(some[label == part])
                guests = np.flatnonzero(cosines[members, width:].mean(axis=0) >= near)
                yield members, guests.tolist()


def _alternatives(rows: Incidence, numbers: Ints, behaviour: Bools) -> bool:
    """Say whether words stand in for each other: none has most of the rows, and they seldom meet."""
    hits = np.array([int(behaviour[rows.rows_of(int(i))].sum()) for i in numbers])
    union = int((behaviour & rows.any_of(numbers)).sum())
    return bool(hits.max() <= MOST_OF_ONE * union and hits.sum() <= OFTEN_TOGETHER * union)


def _named(
    words: Sequence[str], numbers: Ints, counts: Ints, own: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    """Order the words of a group: those of the failing queries first, then the most frequent."""
    said = {word for each in own for word in each}
    order = sorted(numbers, key=lambda i: (words[i] not in said, -counts[i], words[i]))
    return tuple(words[i] for i in order)
