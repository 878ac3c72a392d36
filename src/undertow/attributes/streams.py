"""What can be mined from a batch: word n-grams, openings, closings, line labels, lines, calls and tags.

Each family turns a :class:`~undertow.attributes.text.TextBatch` into occurrences (row, hash, span); mining
decides which hashes become attributes, and the same functions find them in new texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.hashtable import HashTable
from undertow.attributes.text import DIGIT, LETTER, PUNCT, TextBatch, chain, char_set

MAX_GRAM = 4
"""Longest mined phrase, words."""
MAX_TEMPLATE = 8
"""Longest opening or closing, tokens."""
MAX_LABEL = 4
"""Longest line label, words before the colon."""
MAX_LINE = 120
"""Longest line kept whole, characters."""

NUMBER, NAME = np.uint64(0xA5A5_0001_0001_0001), np.uint64(0xA5A5_0002_0002_0002)
_WINDOW = 14
_PLAIN_MARKS = char_set(",'-–’(/")


@dataclass(frozen=True)
class Occurrences:
    """Places where something that could be an attribute stands; E entries."""

    rows: NDArray[np.int32]
    """Row of the batch, (E,)."""
    hashes: NDArray[np.uint64]
    """What stands there, (E,)."""
    starts: NDArray[np.int64]
    """First code point in the batch, (E,)."""
    ends: NDArray[np.int64]
    """One past the last, (E,)."""
    parents: NDArray[np.uint64] | None = None
    """Hash of the template one token shorter; 0 for the shortest. Templates only, (E,)."""
    slotted: NDArray[np.bool_] | None = None
    """Names and numbers are slots. Templates only, (E,)."""
    whole: NDArray[np.bool_] | None = None
    """Its open end is the edge of a sentence or line. Templates only, (E,)."""


@dataclass(frozen=True)
class Words:
    """The words, numbers and ideographs of a batch; W of them."""

    rows: NDArray[np.int32]
    """Row, (W,)."""
    hashes: NDArray[np.uint64]
    """Hash of the word, (W,)."""
    segments: NDArray[np.int32]
    """Changes at sentence marks, line breaks and rows; phrases do not cross it, (W,)."""
    starts: NDArray[np.int64]
    """First code point, (W,)."""
    ends: NDArray[np.int64]
    """One past the last, (W,)."""


def words(batch: TextBatch) -> Words:
    """Drop punctuation; commas, quotes and the like are transparent to phrases, sentence marks are not."""
    mark = batch.kinds == PUNCT
    segments = np.cumsum(batch.ends_sentence, dtype=np.int32) + batch.lines
    keep = np.flatnonzero(~mark)
    return Words(batch.rows[keep], batch.hashes[keep], segments[keep], batch.starts[keep], batch.ends[keep])


def gram_hashes(
    stream: Words, order: int, shorter: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hashes of the ``order``-grams at each word, from those one shorter, and whether each is whole."""
    if order == 1:
        return stream.hashes, np.ones(len(stream.hashes), np.bool_)
    size = max(0, len(stream.hashes) - order + 1)
    grams = chain(shorter[:size], stream.hashes[order - 1 :])
    return grams, stream.segments[:size] == stream.segments[order - 1 :]


def find_grams(stream: Words, table: HashTable) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """All table phrases in a batch: (rows, values), one entry for every occurrence."""
    rows, values = [], []
    grams = stream.hashes
    for order in range(1, MAX_GRAM + 1):
        grams, whole = gram_hashes(stream, order, grams)
        at, value = table.find(grams)
        kept = whole[at]
        rows.append(stream.rows[at[kept]])
        values.append(value[kept])
    return np.concatenate(rows), np.concatenate(values)


def capitals(batch: TextBatch) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Numbers of the capitalised words, and which of them begin a sentence, a line or a quotation."""
    found = (batch.kinds == LETTER) & batch.capital & (batch.ends - batch.starts > 1)
    found[found] = batch.codes[batch.starts[found] + 1] != ord("'")
    at = np.flatnonzero(found)
    first = np.ones(len(at), np.bool_)
    inner = at > 0
    before = at[inner] - 1
    marks = (batch.kinds[before] == PUNCT) & ~_PLAIN_MARKS[batch.firsts[before]]
    first[inner] = (batch.lines[before] != batch.lines[at[inner]]) | marks
    return at, first


def names(batch: TextBatch, lowercase: HashTable) -> NDArray[np.bool_]:
    """Which tokens are parts of names: capitalised where nothing else asks for a capital.

    At the start of a sentence a word counts as a name unless ``lowercase`` has it as an ordinary word.
    """
    at, first = capitals(batch)
    found = np.zeros(len(batch.kinds), np.bool_)
    found[at] = True
    found[at[first]] = ~lowercase.contains(batch.hashes[at[first]])
    return found


def _window(batch: TextBatch, last: bool) -> NDArray[np.int64]:
    """Token numbers of the first (or last, backwards) tokens of each row, −1 past the end, (n, window)."""
    steps = np.arange(_WINDOW)
    sizes = np.diff(batch.token_offsets)
    at = batch.token_offsets[1:, None] - 1 - steps if last else batch.token_offsets[:-1, None] + steps
    return np.where(steps < sizes[:, None], at, -1)


def _prefixes(
    batch: TextBatch, tokens: NDArray[np.int64], hashes: NDArray[np.uint64], backwards: bool
) -> Occurrences:
    """Hash every prefix of each row of ``tokens`` (n, w); −1 ends a row."""
    rows_all = np.arange(len(tokens), dtype=np.int32)
    shorter = np.zeros(len(tokens), np.uint64)
    alive = np.ones(len(tokens), np.bool_)
    parts: list[tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]]] = []
    for k in range(min(MAX_TEMPLATE, tokens.shape[1])):
        at = tokens[:, k]
        alive = alive & (at >= 0)
        longer = chain(shorter, hashes[at])
        parts.append((rows_all[alive], longer[alive], at[alive], shorter[alive]))
        shorter = longer
    rows, prefix, last, parents = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(rows):
        empty = np.zeros(0, np.int64)
        return Occurrences(rows, prefix, empty, empty, parents, None, empty.astype(np.bool_))
    first = tokens[rows, 0]
    low, high = (last, first) if backwards else (first, last)
    whole = batch.edges[low if backwards else high + 1]
    return Occurrences(rows, prefix, batch.starts[low], batch.ends[high], parents, None, whole)


def _compacted(tokens: NDArray[np.int64], drop: NDArray[np.bool_]) -> NDArray[np.int64]:
    order = np.argsort(drop, axis=1, kind="stable")
    return np.take_along_axis(np.where(drop, -1, tokens), order, axis=1)


def _templates(
    batch: TextBatch, tokens: NDArray[np.int64], is_name: NDArray[np.bool_], backwards: bool
) -> Occurrences:
    """Prefixes word for word, and the same with slots for names and numbers."""
    if not len(batch.hashes):
        none = np.zeros(0, np.int64)
        empty = np.zeros(0, np.uint64)
        no = none.astype(np.bool_)
        return Occurrences(none.astype(np.int32), empty, none, none, empty, no, no)
    plain = _prefixes(batch, tokens, batch.hashes, backwards)
    slotted = np.where(is_name, NAME, np.where(batch.kinds == DIGIT, NUMBER, batch.hashes))
    name = is_name[tokens] & (tokens >= 0)
    repeated = np.zeros_like(name)
    repeated[:, 1:] = name[:, 1:] & name[:, :-1]
    slots = _prefixes(batch, _compacted(tokens, repeated), slotted, backwards)
    differs = ~np.isin(slots.hashes, plain.hashes)
    slotted = np.concatenate([np.zeros(len(plain.rows), np.bool_), np.ones(int(differs.sum()), np.bool_)])

    def both(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(plain, name), getattr(slots, name)[differs]])

    columns = {name: both(name) for name in ("rows", "hashes", "starts", "ends", "parents", "whole")}
    return Occurrences(**columns, slotted=slotted)


def openings(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Templates of one to eight tokens that texts begin with."""
    return _templates(batch, _window(batch, last=False), is_name, backwards=False)


def closings(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Templates of one to eight tokens that texts end with."""
    return _templates(batch, _window(batch, last=True), is_name, backwards=True)


def question_openings(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Templates that begin the last sentence of texts of more than one sentence or line."""
    begins = batch.edges[:-1] & (batch.kinds != PUNCT)
    begins[:1] = False
    begins[1:] &= batch.rows[1:] == batch.rows[:-1]
    at = np.flatnonzero(begins)
    last = np.full(len(batch), -1, np.int64)
    last[batch.rows[at]] = at
    steps = np.arange(_WINDOW)
    tokens = np.where(
        (last[:, None] >= 0) & (last[:, None] + steps < batch.token_offsets[1:, None]),
        last[:, None] + steps,
        -1,
    )
    return _templates(batch, tokens, is_name, backwards=False)


def _line_firsts(batch: TextBatch) -> NDArray[np.int64]:
    changes = np.ones(len(batch.lines), np.bool_)
    changes[1:] = batch.lines[1:] != batch.lines[:-1]
    return np.flatnonzero(changes)


def labels(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Line labels: one to four words at the start of a line, then a colon."""
    first = _line_firsts(batch)
    colon = (batch.kinds == PUNCT) & (batch.codes[batch.starts] == ord(":"))
    rows, starts, ends = [], [], []
    for size in range(1, MAX_LABEL + 1):
        at = first[first + size < len(batch.lines)]
        fits = colon[at + size] & (batch.lines[at + size] == batch.lines[at])
        for inner in range(size):
            fits &= batch.kinds[at + inner] != PUNCT
        rows.append(batch.rows[at[fits]])
        starts.append(batch.starts[at[fits]])
        ends.append(batch.ends[at[fits] + size])
    low, high = np.concatenate(starts), np.concatenate(ends)
    return Occurrences(np.concatenate(rows), batch.span_hashes(low, high), low, high)


def lines(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Whole short lines of texts of more than one line."""
    first = _line_firsts(batch)
    last = np.append(first[1:], len(batch.lines)) - 1
    starts, ends = batch.starts[first], batch.ends[last] if len(first) else batch.ends[:0]
    rows = batch.rows[first]
    several = np.bincount(rows, minlength=len(batch))[rows] > 1
    keep = several & (ends - starts <= MAX_LINE)
    return Occurrences(rows[keep], batch.span_hashes(starts[keep], ends[keep]), starts[keep], ends[keep])


def _next_is(batch: TextBatch, mark: str) -> NDArray[np.bool_]:
    """Which tokens are followed, without a space, by a mark of the same row."""
    out = np.zeros(len(batch.starts), np.bool_)
    out[:-1] = (batch.starts[1:] == batch.ends[:-1]) & (batch.rows[1:] == batch.rows[:-1])
    out[:-1] &= batch.codes[batch.starts[1:]] == ord(mark)
    return out


def calls(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Called names: a word with an opening parenthesis right behind it."""
    at = np.flatnonzero((batch.kinds == LETTER) & _next_is(batch, "("))
    at = at[batch.ends[at] - batch.starts[at] > 1]
    return Occurrences(batch.rows[at], batch.hashes[at], batch.starts[at], batch.ends[at])


def quoted_calls(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Names called with a quoted argument, as in ``wikipedia('…')``."""
    found = calls(batch, is_name)
    third = np.minimum(found.ends + 1, max(0, len(batch.codes) - 1))
    quoted = np.isin(batch.codes[third], [ord("'"), ord('"')]) if len(found.rows) else np.zeros(0, np.bool_)
    return Occurrences(found.rows[quoted], found.hashes[quoted], found.starts[quoted], found.ends[quoted])


def tags(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Names in angle or square brackets, ``<context>`` or ``[INST]``."""
    word = np.flatnonzero(batch.kinds == LETTER)
    word = word[word > 0]
    glued = (batch.ends[word - 1] == batch.starts[word]) & (batch.rows[word - 1] == batch.rows[word])
    mark = batch.codes[batch.starts[word - 1]]
    angle = glued & (mark == ord("<")) & _next_is(batch, ">")[word]
    square = glued & (mark == ord("[")) & _next_is(batch, "]")[word]
    at = word[angle | square]
    starts, ends = batch.starts[at] - 1, batch.ends[at] + 1
    return Occurrences(batch.rows[at], batch.span_hashes(starts, ends), starts, ends)


@dataclass(frozen=True)
class Family:
    """One kind of mined attribute."""

    name: str
    """``Attribute.kind``."""
    find: Callable[[TextBatch, NDArray[np.bool_]], Occurrences]
    """Where it stands."""
    sentence: str
    """``{side}`` and ``{text}`` are filled in."""
    sides: tuple[str, ...] = ("query", "response")
    """Where it makes sense."""
    cap: int = 1000
    """Most attributes of the family."""
    write: Callable[[TextBatch, int, int, bool], str] | None = None
    """Writes the tokens from first to last (one past), coarsely or not; ``None``: as they stand."""


FAMILIES = (
    Family("opening", openings, "The {side} opens with '{text}'", cap=2500),
    Family("closing", closings, "The {side} ends with '{text}'", cap=2000),
    Family(
        "question", question_openings, "The last sentence of the {side} opens with '{text}'", ("query",), 1500
    ),
    Family("label", labels, "The {side} has a line labelled '{text}'"),
    Family("line", lines, "The {side} has the line '{text}'"),
    Family("call", calls, "The {side} calls {text}(…)"),
    Family("call", quoted_calls, "The {side} calls {text}('…')"),
    Family("tag", tags, "The {side} has the tag {text}"),
)
