"""Learning the vocabulary of one side of a corpus: what is mined, how it is written as a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.hashtable import HashTable
from undertow.attributes.language import head_words, languages, stop_table
from undertow.attributes.mine import (
    Grams,
    Mined,
    collect_grams,
    encode,
    join_words,
    mine_templates,
    outer_words,
    select_grams,
)
from undertow.attributes.shapes import SHAPES
from undertow.attributes.streams import FAMILIES, Family, Occurrences, Words, capitals, names, words
from undertow.attributes.surface import surface
from undertow.attributes.text import DIGIT, LETTER, TextBatch, analyse, chunks
from undertow.attributes.topics import EMPTY, Topics, fit_topics
from undertow.attributes.wordgroups import MAX_WORDS, group_words
from undertow.models.base import Embedder
from undertow.records import Side

WORKERS = 2
"""Threads; NumPy and Arrow release the interpreter lock."""
GROUP_CHARS = 4_000_000
"""Characters that regular expressions see at once, and one thread's unit of work."""
MAX_PHRASES = {"query": 7000, "response": 3500}
"""Most mined phrases of a side."""
LEAST_SEEN = 5
"""Times a word must begin sentences, and stand nowhere else, to count as no name."""
MAX_WORD_SHARE = 0.15
"""Words in more of the rows make no topic."""
TYPE_TEMPLATES = 60
"""Openings, closings and calls of responses that count as response types beside the surface features."""

T = TypeVar("T")


@dataclass(frozen=True)
class Lexis:
    """What the corpus's words tell about new words."""

    lowercase: HashTable
    """Words that are mostly written in lower case; others with a capital are names."""
    english: HashTable
    """Words that stand mostly in English rows."""


@dataclass(frozen=True)
class Entry:
    """One attribute of a vocabulary."""

    text: str
    """``The query …`` or ``The response …``."""
    kind: str
    """Family: length, language, register, format, …, opening, closing, phrase, topic."""


@dataclass(frozen=True)
class SideModel:
    """The vocabulary of one side: first the surface properties, then what was mined."""

    side: Side
    """What it describes."""
    entries: list[Entry]
    """Attributes; their order is the column order, (m,)."""
    tables: list[HashTable]
    """For each of :func:`families_of` the side: hash → column."""
    phrases: HashTable
    """Phrase hash → column."""
    topics: Topics
    """Topic model; topic i has the column ``m - k + i``."""


def groups(column: pa.Array) -> list[tuple[int, pa.Array]]:
    """Split a column into (first row, texts) units of work."""
    return list(chunks(column, GROUP_CHARS))


def parallel(work: Callable[[tuple[int, pa.Array]], T], units: Sequence[tuple[int, pa.Array]]) -> Iterable[T]:
    """Map over units of work on a few threads; results come in order."""
    if len(units) < 2:
        return [work(unit) for unit in units]
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(work, units))


def batches_of(strings: pa.Array) -> list[tuple[int, TextBatch]]:
    """Analyse some texts in cache-sized batches: (first row, batch)."""
    return [(first, analyse(part)) for first, part in chunks(strings)]


def learn_lexis(columns: Sequence[pa.Array]) -> Lexis:
    """Count how words are written, and in rows of which language they stand."""
    parts = [part for column in columns for part in parallel(_lexis_part, groups(column))]
    if not parts:
        return Lexis(HashTable.from_sets([]), HashTable.from_sets([]))
    hashes, lower, inner, english = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    ids, distinct = encode(hashes)
    seen, lower, inner, in_english = (
        np.bincount(ids, weights, len(distinct)) for weights in (None, lower, inner, english)
    )
    ordinary = (lower > inner) | ((inner == 0) & (seen >= LEAST_SEEN))
    known = (in_english >= 2) & (in_english > 0.7 * seen) & (in_english.sum() > 0.05 * seen.sum())
    return Lexis(HashTable.from_sets([distinct[ordinary]]), HashTable.from_sets([distinct[known]]))


def _lexis_part(unit: tuple[int, pa.Array]) -> tuple[NDArray[np.uint64], *tuple[NDArray[np.bool_], ...]]:
    """For every word: hash, written in lower case, capital inside a sentence, in a row of English."""
    parts = []
    for _, batch in batches_of(unit[1]):
        word = batch.kinds == LETTER
        inner = np.zeros(len(word), np.bool_)
        at, first = capitals(batch)
        inner[at[~first]] = True
        row_is_english = languages(batch, *head_words(batch)) == 0
        parts.append(
            (batch.hashes[word], ~batch.capital[word], inner[word], row_is_english[batch.rows[word]])
        )
    hashes, *flags = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return (hashes, *flags)


@dataclass(frozen=True)
class Reading:
    """What one pass over a column found; rows are rows of the column, spans count from the row's start."""

    words: Words
    """Word stream."""
    found: list[Occurrences]
    """For each family of the side."""
    surface: NDArray[np.bool_] | None
    """Surface incidence, where asked for."""


def families_of(side: Side) -> list[Family]:
    """The mined families that make sense for a side."""
    return [family for family in (*FAMILIES, *SHAPES) if side in family.sides]


def read_column(column: pa.Array, side: Side, lexis: Lexis, with_surface: bool) -> Reading:
    """Tokenise a column once and collect everything that mining needs."""

    def work(unit: tuple[int, pa.Array]) -> Reading:
        first, strings = unit
        parts = [(first + at, batch) for at, batch in batches_of(strings)]
        found = [_found(batch, start, side, lexis) for start, batch in parts]
        incidence = (
            surface(strings, [batch for _, batch in parts], side, lexis.english)[1] if with_surface else None
        )
        return Reading(
            join_words([_located(words(batch), batch, start) for start, batch in parts]),
            [_join(list(family)) for family in zip(*found, strict=True)],
            incidence,
        )

    readings = list(parallel(work, groups(column)))
    return Reading(
        join_words([reading.words for reading in readings]),
        [_join([reading.found[i] for reading in readings]) for i in range(len(families_of(side)))],
        np.concatenate([reading.surface for reading in readings if reading.surface is not None])
        if with_surface
        else None,
    )


def _found(batch: TextBatch, first: int, side: Side, lexis: Lexis) -> list[Occurrences]:
    is_name = names(batch, lexis.lowercase)
    out = []
    for family in families_of(side):
        found = family.find(batch, is_name)
        base = batch.offsets[found.rows]
        out.append(
            replace(
                found, rows=found.rows + np.int32(first), starts=found.starts - base, ends=found.ends - base
            )
        )
    return out


def _located(stream: Words, batch: TextBatch, first: int) -> Words:
    base = batch.offsets[stream.rows]
    return Words(
        stream.rows + np.int32(first),
        stream.hashes,
        stream.segments,
        (stream.starts - base).astype(np.int32),
        (stream.ends - base).astype(np.int32),
    )


def _join(parts: Sequence[Occurrences]) -> Occurrences:
    def column(name: str) -> NDArray[np.generic] | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return Occurrences(**{name: column(name) for name in Occurrences.__dataclass_fields__})  # type: ignore[arg-type]


def response_types(reading: Reading, n: int, mined: Sequence[Mined], least: int) -> sparse.csr_matrix:
    """What kinds of response there are: surface properties and the most frequent templates, (n, t)."""
    parts = [sparse.csr_matrix(reading.surface, dtype=np.float32)] if reading.surface is not None else []
    for family, found, kept in zip(families_of("response"), reading.found, mined, strict=True):
        if family.name in ("opening", "closing", "call"):
            parts.append(_incidence(found, kept.hashes[:TYPE_TEMPLATES], n))
    joined = sparse.hstack(parts, format="csc", dtype=np.float32)
    counts = np.asarray(joined.sum(axis=0)).ravel()
    telling = np.flatnonzero((counts >= 2 * least) & (counts <= 0.9 * n))
    return sparse.csr_matrix(joined[:, telling])


def _incidence(found: Occurrences, hashes: NDArray[np.uint64], n: int) -> sparse.csr_matrix:
    table = HashTable.build(hashes, np.arange(len(hashes), dtype=np.int32))
    at, column = table.find(found.hashes)
    matrix = sparse.csr_matrix(
        (np.ones(len(at), np.float32), (found.rows[at], column)), shape=(n, len(hashes))
    )
    matrix.data[:] = 1
    return matrix


class _Sentences:
    """Collects attributes; one that reads like an earlier one shares its column."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = list(entries)
        self._columns = {entry.text: i for i, entry in enumerate(self.entries)}

    def add(self, text: str, kind: str) -> int:
        """Column of the sentence."""
        column = self._columns.setdefault(text, len(self.entries))
        if column == len(self.entries):
            self.entries.append(Entry(text, kind))
        return column


def build_side(
    side: Side,
    column: pa.Array,
    reading: Reading,
    mined: Sequence[Mined],
    lexis: Lexis,
    sources: NDArray[np.int64],
    types: sparse.csr_matrix,
    surface_entries: Sequence[Entry],
    least: int,
    seed: int,
    embedder: Embedder | None,
) -> SideModel:
    """Choose the phrases and topics of one side and write everything as sentences."""
    n = len(column)
    sentences = _Sentences(surface_entries)

    def table(family: Family, found: Occurrences, kept: Mined) -> HashTable:
        shown = show(column, found, kept.at, lexis, family)
        columns = [sentences.add(family.sentence.format(side=side, text=text), family.name) for text in shown]
        return HashTable.build(kept.hashes, np.array(columns, np.int32))

    families = list(zip(families_of(side), reading.found, mined, strict=True))
    tables = [table(*each) for each in families if each[0].write is None]
    stream = outer_words(reading.words, n)
    grams = collect_grams(stream, n, least)
    chosen = select_grams(grams, sources, types, least, MAX_PHRASES[side])
    shown = _show_grams(column, stream, grams, chosen)
    columns = [sentences.add(_phrase_sentence(side, text), "phrase") for text in shown]
    hashes = [grams.hashes[chosen]]
    if embedder is not None and side == "query":
        for group, members in _word_groups(column, stream, grams, embedder, seed):
            columns += [sentences.add(f"The {side} mentions {group} or the like", "topic")] * len(members)
            hashes.append(grams.hashes[members])
    phrases = HashTable.build(np.concatenate(hashes), np.array(columns, np.int32))
    tables += [table(*each) for each in families if each[0].write is not None]  # told last: they say least
    topics = _learn_topics(column, stream, grams, seed) if side == "query" else EMPTY
    for name in topics.names:
        sentences.add(f"The {side} is about: {name}", "topic")
    return SideModel(side, sentences.entries, tables, phrases, topics)


def _phrase_sentence(side: Side, text: str) -> str:
    return f"The {side} contains the {'phrase' if ' ' in text else 'word'} '{text}'"


def _content_words(grams: Grams) -> NDArray[np.int64]:
    """Numbers of the single words that are not function words and not everywhere."""
    counts = np.diff(grams.rows.indptr)
    telling = (grams.orders == 1) & (counts <= MAX_WORD_SHARE * grams.rows.shape[1])
    return np.flatnonzero(telling & ~stop_table().contains(grams.hashes))


def _word_groups(
    column: pa.Array, stream: Words, grams: Grams, embedder: Embedder, seed: int
) -> list[tuple[str, NDArray[np.int64]]]:
    """Names of the groups of words of a kind, and the numbers of their words."""
    counts = np.diff(grams.rows.indptr)
    at = _content_words(grams)
    at = at[np.lexsort((at, -counts[at]))][: 2 * MAX_WORDS]
    shown = _show_grams(column, stream, grams, at)
    wordy = np.array([len(word) > 2 and word.isalpha() for word in shown], np.bool_)
    at = at[wordy][:MAX_WORDS]
    shown = [word for word, keep in zip(shown, wordy, strict=True) if keep][:MAX_WORDS]
    return [(group.name, at[group.members]) for group in group_words(shown, counts[at], embedder, seed)]


def _learn_topics(column: pa.Array, stream: Words, grams: Grams, seed: int) -> Topics:
    at = _content_words(grams)
    return fit_topics(
        grams.rows[at],
        grams.hashes[at],
        seed,
        lambda term: _show_grams(column, stream, grams, at[term : term + 1])[0],
    )


def clean(text: str) -> str:
    """Show untrusted text on one line: white space collapsed, unprintable characters dropped, lower case."""
    return printable(" ".join(text.lower().split()))


def printable(text: str) -> str:
    """Put spaces where a character cannot be printed."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _show_grams(column: pa.Array, stream: Words, grams: Grams, chosen: NDArray[np.int64]) -> list[str]:
    at = grams.at[chosen]
    texts = column.take(pa.array(stream.rows[at])).to_pylist()
    out = []
    for text, first, order in zip(texts, at, grams.orders[chosen], strict=True):
        out.append(clean(_spelled(text, stream, range(int(first), int(first) + int(order)))))
    return out


def _spelled(text: str, stream: Words, spans: range) -> str:
    """Write words with a space between them, but not where the text has nothing there (Han, kana, Thai)."""
    parts = [text[stream.starts[spans[0]] : stream.ends[spans[0]]]]
    for i in spans[1:]:
        apart = "" if stream.ends[i - 1] == stream.starts[i] else " "
        parts.append(f"{apart}{text[stream.starts[i] : stream.ends[i]]}")
    return "".join(parts)


def show(
    column: pa.Array, found: Occurrences, at: NDArray[np.int64], lexis: Lexis, family: Family
) -> list[str]:
    """Write mined spans as people read them, with slots where the template has them."""
    if not len(at):
        return []
    batch = analyse(column.take(pa.array(found.rows[at])))
    is_name = names(batch, lexis.lowercase)
    slotted = found.slotted[at] if found.slotted is not None else np.zeros(len(at), np.bool_)
    base = batch.offsets[:-1]
    low, high = base + found.starts[at], base + found.ends[at]
    first, last = np.searchsorted(batch.starts, low), np.searchsorted(batch.starts, high)
    if family.write is not None:
        return [
            printable(family.write(batch, int(first[i]), int(last[i]), bool(slotted[i])))
            for i in range(len(at))
        ]
    return [
        _slots(batch, is_name, int(first[i]), int(last[i]))
        if slotted[i]
        else clean(batch.text(int(low[i]), int(high[i])))
        for i in range(len(at))
    ]


def _slots(batch: TextBatch, is_name: NDArray[np.bool_], first: int, last: int) -> str:
    parts: list[str] = []
    for token in range(first, last):
        gap = batch.text(int(batch.ends[token - 1]), int(batch.starts[token])) if token > first else ""
        if is_name[token]:
            if token > first and is_name[token - 1]:
                continue
            parts.append(gap + "<name>")
        elif batch.kinds[token] == DIGIT:
            parts.append(gap + "<number>")
        else:
            parts.append(gap + batch.text(int(batch.starts[token]), int(batch.ends[token])))
    return clean("".join(parts))


def mine_side(reading: Reading, side: Side, least: int) -> list[Mined]:
    """Mine the templates of every family of a side."""
    families = families_of(side)
    mined = [
        mine_templates(found, least, family.cap)
        for family, found in zip(families, reading.found, strict=True)
    ]
    plain, quoted = (i for i, family in enumerate(families) if family.name == "call")
    mined[plain] = _without(mined[plain], mined[quoted])
    return mined


def _without(mined: Mined, same: Mined) -> Mined:
    """Leave out what ``same`` has with the same number of rows: a name that is only called one way."""
    counts = dict(zip(same.hashes.tolist(), same.counts.tolist(), strict=True))
    pairs = zip(mined.hashes.tolist(), mined.counts.tolist(), strict=True)
    keep = np.array([counts.get(key) != count for key, count in pairs], np.bool_)
    return Mined(mined.hashes[keep], mined.at[keep], mined.counts[keep])
