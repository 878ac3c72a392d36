"""The words of failing queries, and the words of the corpus that mean the like and go with a behaviour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from undertow.index.incidence import Incidence
from undertow.index.open import Index
from undertow.index.words import IndexedWords
from undertow.stats.intervals import wilson_lower
from undertow.stats.multiplicity import benjamini_hochberg
from undertow.turf.counts import Bools, Floats, Ints, overlaps
from undertow.turf.fitted import Measure

MOST_OWN = 1000
"""Content words of a query that are read, the first ones."""
MOST_WORDS = 400
"""Words compared by meaning, those that go with the behaviour most."""
MOST_TOGETHER = 40
"""Words of the queries of which two may go together."""
CENTRE = 300
"""Most frequent words whose mean is taken from every vector: single words are alike for being words."""
CARRIER = "It is a {}."
"""Sentence in which words are embedded: alone, "saw" is no tool."""
NEAR = (0.4, 0.3, 0.2)
"""Mean centred cosines from which words are joined, each tried."""
KIN, NEAREST = 3, 0.2
"""Mean centred cosine to so many nearest words of a group from which a word is near it."""
UNSEEN = 0.3
"""The same for a word that the corpus does not have, so that nothing but its meaning speaks for it."""
LEAST_HITS = 2
"""Rows with the behaviour that a word of a group has at least."""
TELLING = (0.6, 0.3)
"""Share of the best word's rise over the base rate that the words of a group have, each tried."""
BOUND = 0.8
"""Jaccard overlap of rows from which two words of a query are parts of one phrase."""
LIFT = 2.0
"""Lift (lower bound) from which a query's word that is near a group, but less telling, is of its kind."""
LEAST_MEMBERS = 3
"""Words of a group; a smaller one is told by the words themselves."""


@dataclass(frozen=True)
class Asked:
    """The content words of the failing queries beside those of the corpus."""

    index: Index
    lexicon: IndexedWords
    own: list[list[str]]
    """Of each query."""
    new: list[str]
    """Those that the corpus does not have, or once."""
    known: list[Ints]
    """Of each query the numbers of those that it has."""
    free: list[Ints]
    """Of each query the known ones that are no part of a set phrase in it."""
    embedded: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Vectors of words that were asked for."""

    @classmethod
    def read(cls, index: Index, lexicon: IndexedWords, prompts: Sequence[str]) -> Asked:
        """Read the words of failing queries."""
        from undertow.attributes.content import content_words

        own, number = [content_words(prompt)[:MOST_OWN] for prompt in prompts], lexicon.number
        known = [np.array([number[word] for word in words if word in number], np.int64) for words in own]
        free = [_free(lexicon.rows, each) for each in known]
        seldom = lexicon.rows.counts < LEAST_HITS
        said = {word for words in own for word in words}
        new = sorted(word for word in said if word not in number or seldom[number[word]])
        return cls(index, lexicon, own, new, known, free)

    @property
    def said(self) -> Ints:
        """Numbers of all known words."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.known]))

    def mention(self, kin: Kin, members: Ints, least: int) -> float:
        """Return the share of the queries with enough words near a group."""
        near = {kin.words[i] for i in kin.near(members)}
        return float(np.mean([len(near.intersection(words)) >= least for words in self.own]))

    @cached_property
    def centre(self) -> NDArray[np.float32]:
        """Mean vector of frequent words."""
        mean: NDArray[np.float32] = self._embed(self.lexicon.words[:CENTRE]).mean(axis=0)
        return mean

    def _embed(self, words: Sequence[str]) -> NDArray[np.float32]:
        new = [word for word in dict.fromkeys(words) if word not in self.embedded]
        if new:
            vectors = self.index.embedder.embed([CARRIER.format(word) for word in new])
            self.embedded.update(zip(new, vectors, strict=True))
        return np.stack([self.embedded[word] for word in words])

    def vectors(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Return centred unit vectors of words."""
        apart = self._embed(words) - self.centre
        unit: NDArray[np.float32] = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-9)
        return unit


def _rises(rate: Floats, base: Floats) -> Floats:
    value: Floats = np.clip((rate - base) / np.maximum(1.0 - base, 1e-12), 0.0, None)
    return value


def hits_of(rows: Incidence, behaviour: Bools) -> Ints:
    """Count the rows of each word that show a behaviour, (W,)."""
    shown = np.append(behaviour[rows.column_rows], False)
    hits: Ints = np.add.reduceat(shown, rows.column_pointers[:-1], dtype=np.int64)
    return hits


def going_words(asked: Asked, measure: Measure, level: float) -> Ints:
    """Return the queries' words that go with the first behaviour, one of several that stand in the same rows.

    Each is tested against the sources of its rows; of more than :data:`MOST_TOGETHER` the surest.
    """
    rows, said, behaviour = asked.lexicon.rows, asked.said, measure.behaviour_CN[0]
    hits = hits_of(rows, behaviour)[said]
    base: Floats = np.array([measure.base_CN[0, rows.rows_of(int(i))].mean() for i in said])
    p = np.where(hits >= LEAST_HITS, bdtrc(hits - 1.0, rows.counts[said], base), 1.0)
    going = np.flatnonzero((benjamini_hochberg(p) < level) & (hits > base * rows.counts[said]))
    numbers = said[going[np.lexsort((-hits[going], p[going]))][:MOST_TOGETHER]]
    shared, _ = overlaps(rows, numbers, behaviour)
    union = rows.counts[numbers][:, None] + rows.counts[numbers][None, :] - shared
    same = np.tril(shared >= BOUND * union, -1)
    kept = np.zeros(len(numbers), np.bool_)
    for i in range(len(numbers)):
        kept[i] = not (same[i] & kept).any()
    return numbers[kept]


def _free(rows: Incidence, known: Ints) -> Ints:
    """Return the words of a query that are no part of a set phrase: no other has (nearly) the same rows."""
    from scipy import sparse

    row, owner = rows.gather(known)
    held = sparse.csr_array((np.ones(len(row), np.int32), (row, owner)), shape=(rows.n, len(known)))
    shared = (held.T @ held).tocoo()
    one, other = shared.coords
    union = rows.counts[known[one]] + rows.counts[known[other]] - shared.data
    bound = (shared.data >= BOUND * union) & (one != other)
    return np.delete(known, np.unique(one[bound]))


def parts(cosines: NDArray[np.float32], near: float) -> list[Ints]:
    """Join M words by average linkage from a mean cosine on: ascending positions of each part."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(cosines) < 2:
        return [np.arange(len(cosines))]
    apart = np.clip(1.0 - cosines.astype(np.float64), 0.0, None)
    tree = linkage(squareform((apart + apart.T) / 2, checks=False), "average")
    label = fcluster(tree, 1.0 - near, "distance")
    return [np.flatnonzero(label == part) for part in np.unique(label)]


@dataclass(frozen=True)
class Kin:
    """W words that go with a behaviour, each significantly, and V that the corpus does not have."""

    numbers: Ints
    """Of the W words."""
    rises: Floats
    """Rise of each word's rate over the base rate."""
    lifted: Bools
    """Words of the failing queries whose rate is surely ``LIFT`` times the base rate."""
    words: list[str]
    """All W + V."""
    cosines: NDArray[np.float32]
    """(W, W + V), centred."""

    @classmethod
    def among(cls, asked: Asked, behaviour: Bools, base_N: Floats, level: float) -> Kin | None:
        """Find the words that go with a behaviour, those of the queries first; ``None``: too few.

        Each is held against the sources of its own rows.

        Args:
            asked: the queries and the words.
            behaviour: rows that show it, (N,).
            base_N: share of the rows of each row's source that do.
            level: false-discovery rate of single words.
        """
        rows, counts = asked.lexicon.rows, asked.lexicon.rows.counts
        first, hits = rows.column_pointers[:-1], hits_of(rows, behaviour)
        base = np.add.reduceat(np.append(base_N[rows.column_rows], 0.0), first) / np.maximum(counts, 1)
        p = np.ones(len(hits))
        often = np.flatnonzero((hits >= LEAST_HITS) & (hits > base * counts))
        p[often] = bdtrc(hits[often] - 1, counts[often], base[often])
        rate = np.nan_to_num(wilson_lower(hits, counts))
        tested = np.flatnonzero(counts >= LEAST_HITS)
        going = tested[(benjamini_hochberg(p[tested]) < level) & (rate[tested] > base[tested])]
        strength = _rises(rate[going], base[going]) * np.sqrt(hits[going])
        going = going[np.lexsort((-strength, ~np.isin(going, asked.said)))][:MOST_WORDS]
        if len(going) < LEAST_MEMBERS:
            return None
        lifted = np.isin(going, asked.said) & (rate[going] >= LIFT * base[going])
        words = [*(asked.lexicon.words[i] for i in going), *asked.new]
        vectors = asked.vectors(words)
        cosines = vectors[: len(going)] @ vectors.T
        return cls(going, _rises(hits[going] / counts[going], base[going]), lifted, words, cosines)

    def joined(self) -> Iterator[Ints]:
        """Join words by average linkage: positions of the members of each group."""
        for telling in TELLING:
            some = np.flatnonzero(self.rises >= telling * self.rises.max())
            if len(some) < LEAST_MEMBERS:
                continue
            for near in NEAR:
                for part in parts(self.cosines[np.ix_(some, some)], near):
                    if len(part) >= LEAST_MEMBERS:
                        yield some[part]

    def near(self, members: Ints) -> Ints:
        """Return the positions of the words near a group, its members among them."""
        toward = self.cosines[members].copy()
        toward[np.arange(len(members)), members] = -1.0
        nearest = np.sort(toward, axis=0)[-min(KIN, len(members) - 1) :].mean(axis=0)
        floor = np.where(np.arange(len(nearest)) < len(self.numbers), NEAREST, UNSEEN)
        return np.union1d(np.flatnonzero(nearest >= floor), members)

    def guests(self, near: Ints) -> set[str]:
        """Return the words of the queries that are of the kind though no members of it can be."""
        width = len(self.numbers)
        return {self.words[i] for i in near if i >= width or self.lifted[i]}
