"""Words of a kind that go with the behaviour together, where no single attribute of the query says it.

A topic is many words, each in a few rows. Clusters of meaning made beforehand hold them together with words
that carry nothing ("orchestra" beside "violin"). So the groups are made for the behaviour at hand: words of
the corpus's queries that go with it, each by itself significant, are joined where they mean about the same.
A group is then fitted: of the words near it, one after the other comes in or goes out while the rows with one
of them (or with two: a battle and its soldiers) go with the behaviour better, by phi.

The failing query's own words say which group it belongs to, a word never seen in training too. A word belongs
to a group only where the group's other words carry the behaviour without it, under most of the cruxes, and
where it is no part of a set phrase: "a wise judge" has nothing to do with the police.

Under chance no word passes, so no group is made; a group is then tested like any other feature. Beside these
stand the queries' own words, kinds too rare for tests of single words (:mod:`undertow.turf.rare_kinds`), and
own words of which two go together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from undertow.index.incidence import Beside, Incidence
from undertow.index.open import Index
from undertow.turf.counts import Bools, Floats, Ints
from undertow.turf.fitted import Measure, fitted, words_in
from undertow.turf.kin import LEAST_MEMBERS, MOST_OWN, Asked, Kin, going_words
from undertow.turf.rare_kinds import RareKinds

FITTED = 6
"""Groups that are fitted for each number of words: those that go with the behaviours most."""
MOST_OF_ONE = {1: 0.5, 2: 0.75}
"""Most of a group's behaviour rows that one word has, where one or two words are needed."""
TOWERS = 5
"""A word with so many times the behaviour rows of the third best is told by itself, where one is needed."""
ALIKE = 0.8
"""Jaccard overlap of rows from which two groups are one."""
KEPT = 6
"""Groups that are tested, those that go with the behaviours most."""
NAMED = 4
"""Words in the name of a group."""


@dataclass(frozen=True, slots=True)
class Group:
    """Words of a kind, or one word."""

    words: tuple[str, ...]
    """The query's own first, then the most frequent."""
    rows: Ints
    """(r,) ascending rows that have ``least`` of them."""
    share: float
    """Share of the failing queries that have one."""
    least: int = 1
    """Words of it that a query has to have, 1 or 2."""
    kind: bool = True
    """Whether they mean about the same, so that a word never seen may belong to it."""

    @property
    def is_one(self) -> bool:
        """Say whether it is a single word."""
        return len(self.words) == 1

    @property
    def text(self) -> str:
        """Return the group as a sentence."""
        if self.is_one:
            return f"The query contains the word '{self.words[0]}'"
        shown = ", ".join(f"'{word}'" for word in self.words[:NAMED])
        if not self.kind:
            return f"The query contains two or more of the words {shown}"
        return f"The query mentions {'two or more of ' if self.least > 1 else ''}{shown} or the like"


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


def own_words(index: Index, prompts: Sequence[str], majority: float, support: int) -> list[Group]:
    """Return each content word of most of the prompts that stands in at least ``support`` rows.

    The index's attributes have only the words that stand out in a source or beside a kind of response: a word
    of six rows of one source, all of them with a behaviour that the source has anyway, is none of them.
    """
    from undertow.attributes.content import content_words

    if index.lexicon is None:
        return []
    said = Counter(word for prompt in prompts for word in content_words(prompt)[:MOST_OWN])
    rows, number = index.lexicon.rows, index.lexicon.number
    often = [word for word, times in said.items() if times > majority * len(prompts) and word in number]
    return [
        Group((word,), rows.rows_of(number[word]).astype(np.int64), said[word] / len(prompts))
        for word in often
        if rows.counts[number[word]] >= support
    ]


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
    if index.lexicon is None:
        return []
    asked = Asked.read(index, index.lexicon, prompts)
    measure = Measure(behaviour_CN, weights_C, index.source_codes)
    every = [
        kin
        for each, base in zip(behaviour_CN, measure.base_CN, strict=True)
        if (kin := Kin.among(asked, each, base, level))
    ]
    found = [
        group
        for least in MOST_OF_ONE
        for kin, members in _first(asked, every, measure, least, majority)
        if (group := _group(asked, kin, members, measure, least)) and group.share > majority
    ]
    found += [group for group in _rare(asked, measure, level) if group.share > majority]
    together = _together(asked, measure, level)
    found += [together] if together and together.share > majority else []
    found.sort(key=lambda group: -measure.phi(group.rows))
    return _distinct(found)[:KEPT]


def _rare(asked: Asked, measure: Measure, level: float) -> Iterator[Group]:
    """Make groups of words that are too few to be tested one by one."""
    rare = RareKinds(asked, measure, level)
    for numbers, guests in rare.found():
        kind = _Kind(asked, numbers, 1, guests, measure)
        if kind.is_many():
            share = float(np.mean([rare.is_of(i, numbers, guests) for i in range(len(asked.own))]))
            yield Group(kind.named(), kind.rows, share)


def _together(asked: Asked, measure: Measure, level: float) -> Group | None:
    """Group the queries' own words of which two in one query go with the behaviours better than any alone."""
    rows = asked.lexicon.rows
    pool = going_words(asked, measure, level)
    if len(pool) < LEAST_MEMBERS:
        return None
    numbers = np.sort(fitted(rows, pool, pool, measure, 2))
    held = np.flatnonzero(words_in(rows, numbers) >= 2)
    alone = max(measure.phi(rows.rows_of(int(i)).astype(np.int64)) for i in pool)
    if len(numbers) < LEAST_MEMBERS or measure.phi(held) <= alone:
        return None
    share = float(np.mean([np.isin(numbers, known).sum() >= 2 for known in asked.known]))
    words = sorted(numbers, key=lambda i: -rows.counts[i])
    return Group(tuple(asked.lexicon.words[i] for i in words), held, share, 2, kind=False)


def _first(
    asked: Asked, every: Sequence[Kin], measure: Measure, least: int, majority: float
) -> list[tuple[Kin, Ints]]:
    """Join words near those of the queries: the groups that go with the behaviours most, by whom they are."""
    rows = asked.lexicon.rows
    starts = {(i, each.tobytes()): (kin, each) for i, kin in enumerate(every) for each in kin.joined()}
    told = [(kin, each) for kin, each in starts.values() if asked.mention(kin, each, least) > majority]

    def goes(start: tuple[Kin, Ints]) -> float:
        kin, members = start
        held = np.flatnonzero(words_in(rows, kin.numbers[members]) >= least)
        return measure.phi(held)

    return sorted(told, key=goes, reverse=True)[:FITTED]


def _group(asked: Asked, kin: Kin, members: Ints, measure: Measure, least: int) -> Group | None:
    """Fit a group and hold it against the failing queries; ``None`` where it is none."""
    near = kin.near(members)
    pool = kin.numbers[near[near < len(kin.numbers)]]
    numbers = np.sort(fitted(asked.lexicon.rows, pool, kin.numbers[members], measure, least))
    if len(numbers) < LEAST_MEMBERS:
        return None
    kind = _Kind(asked, numbers, least, kin.guests(near), measure)
    share = float(np.mean([kind.is_of(i) for i in range(len(asked.own))]))
    return Group(kind.named(), kind.rows, share, least) if kind.is_many() else None


def _distinct(groups: Sequence[Group]) -> list[Group]:
    """Leave out groups of (nearly) the same rows as a better one."""
    kept: list[Group] = []
    for group in groups:
        shared = [len(np.intersect1d(group.rows, each.rows, assume_unique=True)) for each in kept]
        unions = [len(group.rows) + len(each.rows) for each in kept]
        if not any(x >= ALIKE * (both - x) for x, both in zip(shared, unions, strict=True)):
            kept.append(group)
    return kept


@dataclass(frozen=True)
class _Kind:
    """Words that may be a group, held against one failing query after the other."""

    asked: Asked
    numbers: Ints
    """Of the words."""
    least: int
    """Words that a query has to have."""
    guests: set[str]
    """Further words as near: unseen ones, and known ones that go with the behaviour less."""
    measure: Measure
    carried: dict[tuple[int, ...], bool] = field(default_factory=dict)
    """What :meth:`_carry_without` has found."""

    @cached_property
    def rows(self) -> Ints:
        """Rows that have enough of the words."""
        return np.flatnonzero(words_in(self.asked.lexicon.rows, self.numbers) >= self.least)

    def is_many(self) -> bool:
        """Say whether no single word has most of the rows with the behaviour, or towers above the others."""
        rows = self.asked.lexicon.rows
        hits = np.zeros(rows.n, np.bool_)
        hits[self.rows] = self.measure.mostly_N[self.rows]
        each = np.sort([int(hits[rows.rows_of(int(word))].sum()) for word in self.numbers])
        towers = self.least == 1 and each[-1] > TOWERS * each[-LEAST_MEMBERS]
        return bool(each[-1] <= MOST_OF_ONE[self.least] * hits.sum() and not towers)

    def is_of(self, query: int) -> bool:
        """Say whether a query mentions the kind by words, seen or not, that the other words stand in for."""
        mine = np.intersect1d(self.asked.known[query], self.numbers)
        free = {self.asked.lexicon.words[i] for i in self.asked.free[query]}
        own = {word for word in self.asked.own[query] if word in free or word in self.asked.new}
        mentioned = {self.asked.lexicon.words[i] for i in self.numbers} | self.guests
        return len(own & mentioned) >= self.least and self._carry_without(mine)

    def _carry_without(self, mine: Ints) -> bool:
        key = tuple(mine)
        if key not in self.carried:
            rows = self.asked.lexicon.rows
            others = words_in(rows, np.setdiff1d(self.numbers, mine)) >= self.least
            own = words_in(rows, mine) > 0
            rest, like = np.flatnonzero(others & ~own), np.flatnonzero(own)
            self.carried[key] = self.measure.carried_by(rest, like)
        return self.carried[key]

    def named(self) -> tuple[str, ...]:
        """Order the words: those of the failing queries first, then the most frequent."""
        words, counts = self.asked.lexicon.words, self.asked.lexicon.rows.counts
        said = {word for each in self.asked.own for word in each}
        order = sorted(self.numbers, key=lambda i: (words[i] not in said, -counts[i], words[i]))
        return tuple(words[i] for i in order)
