"""Concepts without a model: surface features of responses, mined words and openings; words of prompts.

Mining sees both responses of every pair and never which of them was chosen, so that what is tested was not
selected by its effect. Equal responses are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.fit import batches_of, groups, learn_lexis, parallel
from undertow.attributes.hashtable import HashTable, sorted_unique
from undertow.attributes.mine import collect_grams, encode, join_words, merge_same_rows, row_signatures
from undertow.attributes.streams import MAX_GRAM, Words, gram_hashes, words
from undertow.attributes.surface import phrase_hashes, surface, surface_names, word_counts
from undertow.attributes.text import DIGIT, PUNCT, TextBatch, as_strings
from undertow.preference.concepts import Activations, Concept, PromptActivations
from undertow.preference.features import MARKED, SPOKEN, Marked
from undertow.progress import SILENT, Progress

if TYPE_CHECKING:
    from undertow.data.preferences import PreferenceData

LEAST_SHARE = 0.005
"""A mined word stands on one side only in at least this share of the pairs,"""
LEAST_PAIRS, LEAST_PROMPTS = 25, 10
"""and in at least so many pairs of so many prompts."""
MAX_MINED = 1000
"""Most mined words: half of them the ones that sides differ in most often, half those that sides that have
them share least."""
MAX_OPENINGS = 60
"""Most mined openings of one to three words."""
OPENING_WORDS = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """What rates of m texts are shares of; nothing is below 1."""

    words: NDArray[np.int64]
    """Words, split at white space, (m,)."""
    lines: NDArray[np.int64]
    """Lines that are not blank, (m,)."""
    sentences: NDArray[np.int64]
    """Sentences with a word; a line's end ends one too, (m,)."""


def local_concepts(data: PreferenceData, progress: Progress = SILENT) -> Activations:
    """Measure surface features and mined words on both sides of every pair.

    Returns:
        Rates in [0, 1]: matches a line, sentence or word; for openings and closings 0 or 1.
    """
    texts, sides = distinct_responses(data)
    with progress.task("read responses", 3) as task:
        marked, streams = _read(texts)
        task.advance(note="surface")
        mined, names = _mined(streams, sides, data.prompt_group, texts)
        task.advance(note="words")
        opened, openings = _openings(streams, sides, data.prompt_group, texts)
        task.advance(note="openings")
    known = [(each.name, f"The response {each.text}.") for each in (*MARKED, *SPOKEN)]
    found = [(f"word: {name}", f"The response says '{name}'.") for name in names]
    begun = [(f"opens: {name}", f"The response opens with '{name}'.") for name in openings]
    table = sparse.hstack([marked, mined, opened], format="csr", dtype=np.float32)
    named = _unique((*known, *found, *begun))
    concepts = tuple(Concept(name, text, "local") for name, text in named)
    return Activations(concepts, *(sparse.csr_matrix(table[side]) for side in sides))


def prompt_concepts(data: PreferenceData, progress: Progress = SILENT) -> PromptActivations:
    """Say which surface properties and mined words each pair's prompt has, 1 where it has it."""
    first = np.unique(data.prompt_group, return_index=True)[1]
    texts = as_strings(data.table["prompt"].take(pa.array(first)))
    with progress.task("read prompts", 1) as task:
        parts = batches_of(texts)
        held = surface(texts, [batch for _, batch in parts], "query", learn_lexis([texts]).english)[1]
        stream = join_words([located_words(batch, start) for start, batch in parts])
        least = max(LEAST_PROMPTS, int(LEAST_SHARE * len(texts)))
        grams = collect_grams(stream, len(texts), least)
        kept = merge_same_rows(grams, row_signatures(grams))
        often = np.argsort(-np.diff(grams.rows.indptr)[kept], kind="stable")[:MAX_MINED]
        kept = np.sort(kept[often])
        task.advance()
    said = spelled(texts, stream, grams.at[kept], grams.orders[kept])
    concepts = [(text.removeprefix("The query "), f"{text}.") for _, text in surface_names("query")]
    concepts += [(f"word: {text}", f"The query says '{text}'.") for text in said]
    table = sparse.hstack([sparse.csr_matrix(held, dtype=np.float32), grams.rows[kept].T], format="csr")
    some = np.flatnonzero(np.asarray((table > 0).sum(axis=0)).ravel())
    named = _unique([concepts[i] for i in some])
    values = sparse.csr_matrix(table[data.prompt_group][:, some], dtype=np.float32)
    return PromptActivations(tuple(Concept(name, text, "local") for name, text in named), values)


def _unique(named: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    seen: dict[str, int] = {}
    out = []
    for name, text in named:
        seen[name] = seen.get(name, 0) + 1
        out.append((name if seen[name] == 1 else f"{name} ({seen[name]})", text))
    return out


def distinct_responses(data: PreferenceData) -> tuple[pa.Array, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Distinct responses in order of appearance, and which of them each side of each pair is."""
    columns = [data.table[name] for name in ("chosen", "rejected")]
    both = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    encoded = both.combine_chunks().dictionary_encode()
    codes = np.asarray(encoded.indices).astype(np.int64)
    return as_strings(encoded.dictionary), (codes[: len(data)], codes[len(data) :])


def known_features(texts: pa.Array) -> sparse.csr_matrix:
    """Rates of the features that need no mining, ``MARKED`` then ``SPOKEN``, of n texts (n, features)."""
    return _read(as_strings(texts))[0]


def length_in_words(data: PreferenceData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words of chosen and rejected, split at white space (ideographs count half): the length control."""
    texts, (chosen, rejected) = distinct_responses(data)
    parts = parallel(lambda unit: [word_counts(batch) for _, batch in batches_of(unit[1])], groups(texts))
    counts = np.concatenate([count for part in parts for count in part])
    return counts[chosen], counts[rejected]


def _read(texts: pa.Array) -> tuple[sparse.csr_matrix, Words]:
    """Rates of the known features of m texts, (m, f), and their words."""

    def work(unit: tuple[int, pa.Array]) -> tuple[sparse.csr_matrix, Words]:
        first, strings = unit
        parts = batches_of(strings)
        stream = join_words([located_words(batch, start) for start, batch in parts])
        counts = [np.concatenate(count) for count in zip(*map(_counts, parts), strict=True)]
        sizes = Sizes(*(np.maximum(each, 1) for each in (*counts, _sentences(stream, len(strings)))))
        marked = np.stack([_marked(strings, sizes, each) for each in MARKED], axis=1)
        spoken = _said(stream, _spoken_table(), len(SPOKEN), sizes.sentences)
        stream = replace(stream, rows=stream.rows + np.int32(first))
        return sparse.csr_matrix(sparse.hstack([sparse.csr_matrix(marked), spoken])), stream

    tables, streams = zip(*parallel(work, groups(texts)), strict=True)
    return sparse.csr_matrix(sparse.vstack(tables)), join_words(streams)


def _counts(part: tuple[int, TextBatch]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words and lines that are not blank of each text of a batch."""
    batch = part[1]
    fresh = np.ones(len(batch.lines), np.bool_)
    fresh[1:] = batch.lines[1:] != batch.lines[:-1]
    return word_counts(batch), np.bincount(batch.rows[fresh], minlength=len(batch))


def located_words(batch: TextBatch, first: int) -> Words:
    """Words of a batch, rows counted from ``first`` on, places from their row's start.

    Departure from :func:`words`: the full stop of a list number ends no sentence.
    """
    stream = words(batch)
    ends = batch.ends_sentence.copy()
    opening = np.ones(len(ends), np.bool_)
    opening[1:] = batch.lines[1:] != batch.lines[:-1]
    after = np.flatnonzero(opening & (batch.kinds == DIGIT)) + 1
    ends[after[after < len(ends)]] = False
    segments = np.cumsum(ends, dtype=np.int32) + batch.lines
    base = batch.offsets[stream.rows]
    return Words(
        stream.rows + np.int32(first),
        stream.hashes,
        segments[batch.kinds != PUNCT],
        stream.starts - base,
        stream.ends - base,
    )


def _sentences(stream: Words, n: int) -> NDArray[np.int64]:
    """Sentences (up to . ? ! ; : or a line's end) with a word in each of n texts."""
    fresh = np.ones(len(stream.rows), np.bool_)
    fresh[1:] = stream.segments[1:] != stream.segments[:-1]
    return np.bincount(stream.rows[fresh], minlength=n)


def _marked(strings: pa.Array, sizes: Sizes, feature: Marked) -> NDArray[np.float64]:
    found = np.zeros(len(strings), np.int64)
    at = np.arange(len(strings))
    if feature.needs:
        at = np.flatnonzero(np.asarray(pc.match_substring(strings, feature.needs), np.bool_))
    if len(at):
        part = strings if len(at) == len(strings) else strings.take(pa.array(at))
        count = pc.match_substring_regex if feature.unit == "text" else pc.count_substring_regex
        found[at] = np.asarray(count(part, feature.regex)).astype(np.int64)
    if feature.unit == "text":
        return found.astype(np.float64)
    rates: NDArray[np.float64] = np.minimum(found / getattr(sizes, feature.unit), 1.0)
    return rates


@lru_cache(maxsize=1)
def _spoken_table() -> HashTable:
    lexicons = [[phrase.strip() for phrase in each.phrases.split(",")] for each in SPOKEN]
    hashes = phrase_hashes([phrase for phrases in lexicons for phrase in phrases])
    cuts = np.cumsum([len(phrases) for phrases in lexicons])[:-1]
    return HashTable.from_sets([np.sort(part) for part in np.split(hashes, cuts)])


def _said(stream: Words, table: HashTable, width: int, sentences: NDArray[np.int64]) -> sparse.csr_matrix:
    """Share of each text's sentences that hold a phrase of each value of ``table``, (n, width)."""
    hits = []
    grams = stream.hashes
    for order in range(1, MAX_GRAM + 1):
        grams, whole = gram_hashes(stream, order, grams)
        at, value = table.find(grams)
        kept = whole[at]
        hits.append(stream.segments[at[kept]].astype(np.int64) * width + value[kept])
    segment, value = np.divmod(sorted_unique(np.concatenate(hits)), width)
    row_of = np.zeros(int(stream.segments.max(initial=0)) + 1, np.int64)
    row_of[stream.segments] = stream.rows
    rows = row_of[segment]
    shape = (len(sentences), width)
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, value)), shape=shape)
    return sparse.csr_matrix(sparse.diags(1 / sentences) @ counts)


Sides = tuple[NDArray[np.int64], NDArray[np.int64]]


def _mined(
    stream: Words, sides: Sides, prompts: NDArray[np.int32], texts: pa.Array
) -> tuple[sparse.csr_matrix, list[str]]:
    """Share of sentences with each mined phrase, and the phrases."""
    grams = collect_grams(stream, len(texts), min(LEAST_PAIRS, max(2, len(texts) // 20)))
    kept = merge_same_rows(grams, row_signatures(grams))
    chosen = kept[_differing(sparse.csr_matrix(grams.rows[kept].T), sides, prompts)]
    table = HashTable.build(grams.hashes[chosen], np.arange(len(chosen), dtype=np.int32))
    rates = _said(stream, table, len(chosen), np.maximum(_sentences(stream, len(texts)), 1))
    return rates, spelled(texts, stream, grams.at[chosen], grams.orders[chosen])


def _differing(held: sparse.csr_matrix, sides: Sides, prompts: NDArray[np.int32]) -> NDArray[np.int64]:
    """Which columns of ``held`` (texts, columns) tell the sides of pairs apart, blind to which was chosen."""
    apart, shared, asked = _apart(held, sides, prompts)
    least = max(min(LEAST_PAIRS, max(2, len(prompts) // 20)), LEAST_SHARE * len(prompts))
    fits = np.flatnonzero((apart >= least) & (asked >= min(LEAST_PROMPTS, int(prompts.max()) + 1)))
    often = fits[np.argsort(-apart[fits], kind="stable")][: MAX_MINED // 2]
    rest = np.setdiff1d(fits, often)
    alone = apart[rest] / (apart[rest] + 2 * shared[rest])
    few = rest[np.lexsort((-apart[rest], -alone))][: MAX_MINED - len(often)]
    return np.sort(np.concatenate([often, few]))


def _apart(
    held: sparse.csr_matrix, sides: Sides, prompts: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of which one side holds each column, both do, and prompts of the former, each (columns,)."""
    one, other = held[sides[0]], held[sides[1]]
    apart = abs(one - other)
    apart.eliminate_zeros()
    shared = one.multiply(other)
    n = len(prompts)
    by_prompt = sparse.csr_matrix((np.ones(n, np.float32), (prompts, np.arange(n))))
    asked = by_prompt @ apart
    return tuple(_nonzero(sparse.csc_matrix(each)) for each in (apart, shared, asked))  # type: ignore[return-value]


def _nonzero(table: sparse.csc_matrix) -> NDArray[np.int64]:
    return np.diff(table.indptr).astype(np.int64)


def _openings(
    stream: Words, sides: Sides, prompts: NDArray[np.int32], texts: pa.Array
) -> tuple[sparse.csr_matrix, list[str]]:
    """Whether each text opens with each frequent opening of one to three words, and the openings."""
    rows = stream.rows
    first = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])) if len(rows) else np.zeros(0, np.int64)
    ids, places, orders = [], [], []
    hashes = stream.hashes
    for order in range(1, OPENING_WORDS + 1):
        hashes, whole = gram_hashes(stream, order, hashes)
        at = first[first < len(hashes)]
        at = at[whole[at]]
        ids.append(hashes[at])
        places.append(at)
        orders.append(np.full(len(at), order, np.int8))
    at, order_of = np.concatenate(places), np.concatenate(orders)
    codes, opened = encode(np.concatenate(ids))
    held = sparse.csr_matrix(
        (np.ones(len(at), np.float32), (rows[at], codes)), shape=(len(texts), max(1, len(opened)))
    )
    apart, _, asked = _apart(held, sides, prompts)
    least = max(min(LEAST_PAIRS, max(2, len(prompts) // 20)), LEAST_SHARE * len(prompts))
    fits = np.flatnonzero((apart >= least) & (asked >= min(LEAST_PROMPTS, int(prompts.max()) + 1)))
    best = np.sort(fits[np.argsort(-apart[fits], kind="stable")][:MAX_OPENINGS])
    example = np.zeros(len(opened), np.int64)
    example[codes] = np.arange(len(codes))
    shown = spelled(texts, stream, at[example[best]], order_of[example[best]])
    return sparse.csr_matrix(held[:, best]), shown


def spelled(texts: pa.Array, stream: Words, at: NDArray[np.int64], orders: NDArray[np.int8]) -> list[str]:
    """Phrases as one text writes them, folded, on one line."""
    ends = stream.ends[at + orders - 1]
    cells = zip(stream.rows[at], stream.starts[at], ends, strict=True)
    return [" ".join(texts[int(row)].as_py()[start:end].casefold().split()) for row, start, end in cells]
