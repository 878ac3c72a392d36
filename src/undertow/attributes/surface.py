"""Deterministic properties of a text: layout, length, register, language, stance, question form.

Every property is a sentence about one side; the order of the sentences is fixed, so a column number means
the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.attributes.hashtable import HashTable
from undertow.attributes.language import language_columns
from undertow.attributes.lexicons import LEXICONS
from undertow.attributes.patterns import PATTERNS, WINDOW, Pattern
from undertow.attributes.streams import MAX_GRAM, Words, find_grams, gram_hashes, words
from undertow.attributes.text import (
    DIGIT,
    IDEOGRAPH,
    LETTER,
    PUNCT,
    SKIP,
    TABLE,
    TextBatch,
    analyse,
    as_strings,
    char_set,
    char_tables,
)
from undertow.records import Side

Columns = list[tuple[str, str, NDArray[np.bool_]]]
"""(kind, sentence, rows it holds for)."""

BANDS = {
    "query": ((1, 5, "up to five words"), (6, 12, "six to twelve words"), (13, 30, "13 to 30 words"),
              (31, 80, "31 to 80 words"), (81, 200, "81 to 200 words"), (201, 600, "201 to 600 words"),
              (601, None, "more than 600 words")),
    "response": ((1, 3, "one to three words"), (4, 10, "four to ten words"), (11, 30, "11 to 30 words"),
                 (31, 80, "31 to 80 words"), (81, 200, "81 to 200 words"), (201, 500, "201 to 500 words"),
                 (501, None, "more than 500 words")),
}  # fmt: skip
"""Length bands, words separated by white space."""
MORE_THAN = (
    8, 10, 12, 15, 18, 20, 22, 25, 28, 30, 35, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300, 400, 500, 800,
    1000,
)  # fmt: skip
AT_MOST = (2, 3, 4, 6, 8, 10, 15, 20, 30, 50)
"""Words of a query from which, and to which, a trigger may reach: a band cuts one that lies across it."""
REACH = "reach"
"""Family of these."""

_SPACES = char_set(" \t\n\r\v\f\u00a0\u2028\u2029\u3000\x1c\x1d\x1e\x1f\x85")
_EMOJI = ((0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x1F000, 0x1F2FF))


@lru_cache(maxsize=1)
def _flag_table() -> tuple[NDArray[np.uint64], dict[str, np.uint64]]:
    """A bit for every character that some pattern needs, and for a few character groups."""
    tables = char_tables()
    codes = np.arange(TABLE + 1)
    letters = ((tables.kind == LETTER) & (codes != ord("_"))) | (tables.kind == IDEOGRAPH)
    lower = np.isin(codes, tables.fold[tables.upper])  # most scripts have no case
    groups = {
        "upper": tables.upper,
        "lower": lower,
        "letter": letters,
        "0": tables.kind == DIGIT,
        "accent": letters & (codes > 0x7F),
        "emoji": np.any([(codes >= low) & (codes <= high) for low, high in _EMOJI], axis=0),
        "solid": (tables.kind != SKIP) & (codes != 0xFE0F) & (codes != 0x200D),
    }
    for mark in sorted({mark for pattern in PATTERNS for mark in pattern.needs} | set("?!\n")):
        groups.setdefault(mark, codes == ord(mark))
    bits = {name: np.uint64(1 << i) for i, name in enumerate(groups)}
    table = np.zeros(TABLE + 1, np.uint64)
    for name, mask in groups.items():
        table[mask] |= bits[name]
    return table, bits


def row_flags(batch: TextBatch) -> NDArray[np.uint64]:
    """Bits of all characters of each row, (n,)."""
    flags = np.zeros(len(batch), np.uint64)
    full = np.flatnonzero(np.diff(batch.offsets))
    if len(full):
        values = _flag_table()[0][np.minimum(batch.codes, TABLE)]
        flags[full] = np.bitwise_or.reduceat(values, batch.offsets[full])
    return flags


def _has(flags: NDArray[np.uint64], marks: str | tuple[str, ...]) -> NDArray[np.bool_]:
    bits = _flag_table()[1]
    wanted = np.bitwise_or.reduce(np.array([bits[mark] for mark in marks], np.uint64))
    return np.asarray((flags & wanted) != 0, np.bool_)


def _match(pattern: Pattern, strings: pa.Array, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Run one regular expression over the given rows only."""
    if rows.all():
        return np.asarray(pc.match_substring_regex(strings, pattern.regex), np.bool_)
    found = np.zeros(len(strings), np.bool_)
    at = np.flatnonzero(rows)
    if len(at):
        part = strings.take(pa.array(at))
        found[at] = np.asarray(pc.match_substring_regex(part, pattern.regex), np.bool_)
    return found


def pattern_columns(strings: pa.Array, side: Side, flags: NDArray[np.uint64]) -> Columns:
    """Properties that regular expressions show; ``flags`` as from :func:`row_flags`."""
    trimmed = pc.utf8_trim_whitespace(strings)
    texts = {
        "any": strings,
        "head": pc.utf8_slice_codeunits(trimmed, 0, WINDOW),
        "tail": pc.utf8_slice_codeunits(trimmed, -WINDOW),
    }
    everywhere = np.ones(len(strings), np.bool_)
    return [
        (
            pattern.kind,
            pattern.says,
            _match(
                pattern, texts[pattern.where], _has(flags, pattern.needs) if pattern.needs else everywhere
            ),
        )
        for pattern in PATTERNS
        if side in pattern.sides
    ]


def phrase_hashes(phrases: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes of phrases of one to four words, as :func:`.find_grams` meets them in a text."""
    stream = words(analyse(as_strings(phrases)))
    sizes = np.bincount(stream.rows, minlength=len(phrases))
    if not ((sizes >= 1) & (sizes <= MAX_GRAM)).all():
        wrong = phrases[int(np.flatnonzero((sizes < 1) | (sizes > MAX_GRAM))[0])]
        raise ValueError(f"a phrase has one to four words: {wrong!r}")
    first = np.cumsum(sizes) - sizes
    out: NDArray[np.uint64] = stream.hashes[first]
    grams = stream.hashes
    for order in range(2, MAX_GRAM + 1):
        grams, _ = gram_hashes(stream, order, grams)
        out[sizes == order] = grams[first[sizes == order]]
    return out


@lru_cache(maxsize=1)
def _lexicon_table() -> HashTable:
    phrases = [[phrase.strip() for phrase in lexicon.phrases.split(",")] for lexicon in LEXICONS]
    hashes = phrase_hashes([phrase for group in phrases for phrase in group])
    sizes = [len(group) for group in phrases]
    return HashTable.from_sets([np.sort(part) for part in np.split(hashes, np.cumsum(sizes)[:-1])])


def _lexicon_columns(batch: TextBatch, side: Side, stream: Words, sizes: NDArray[np.int64]) -> Columns:
    width = len(LEXICONS)
    rows, lexicon = find_grams(stream, _lexicon_table())
    counts = np.bincount(rows.astype(np.int64) * width + lexicon, minlength=len(batch) * width)
    hits = counts.reshape(len(batch), width)
    columns: Columns = []
    for i, entry in enumerate(LEXICONS):
        if side in entry.sides:
            dense = sizes <= hits[:, i] * entry.per_words if entry.per_words else True
            columns.append((entry.kind, entry.says, (hits[:, i] >= entry.least) & dense))
    return columns


def word_counts(batch: TextBatch) -> NDArray[np.int64]:
    """Words of each row: runs between white space, or half the ideographs where that is more, (n,)."""
    gap = _SPACES[np.minimum(batch.codes, TABLE)]
    begins = ~gap
    begins[1:] &= gap[:-1]
    first = batch.offsets[:-1][np.diff(batch.offsets) > 0]
    begins[first] = ~gap[first]
    before = np.zeros(len(begins) + 1, np.int64)
    np.cumsum(begins, out=before[1:])
    spaced = before[batch.offsets[1:]] - before[batch.offsets[:-1]]
    ideographs = np.bincount(batch.rows[batch.kinds == IDEOGRAPH], minlength=len(batch))
    return np.asarray(np.maximum(spaced, (ideographs + 1) // 2), np.int64)


def _length_columns(side: Side, sizes: NDArray[np.int64]) -> Columns:
    columns: Columns = [("length", "is empty", sizes == 0), ("length", "is a single word", sizes == 1)]
    for low, high, band in BANDS[side]:
        columns.append(
            ("length", f"is {band} long", (sizes >= low) & (sizes <= (high or sizes.max(initial=0))))
        )
    if side == "query":
        columns += [(REACH, f"has more than {low} words", sizes > low) for low in MORE_THAN]
        columns += [(REACH, f"has at most {high} words", (sizes > 0) & (sizes <= high)) for high in AT_MOST]
    return columns


def _counts(batch: TextBatch, tokens: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.bincount(batch.rows[tokens], minlength=len(batch))


def _line_marks(batch: TextBatch) -> dict[str, NDArray[np.int64]]:
    """How many lines of each row begin with a bullet, a number or a letter mark."""
    n = len(batch.lines)
    first = np.ones(n, np.bool_)
    first[1:] = batch.lines[1:] != batch.lines[:-1]
    mark = np.where(batch.kinds == PUNCT, batch.codes[batch.starts], 0) if n else np.zeros(0, np.uint32)
    following = np.zeros(n, mark.dtype)
    following[:-1] = np.where(first[1:] | (batch.starts[1:] != batch.ends[:-1]), 0, mark[1:])
    single = batch.ends - batch.starts == 1
    ordinal = np.isin(following, [ord("."), ord(")"), ord(":")])
    bullet = np.isin(mark, [ord(c) for c in "-*•–+·"]) & single & (following == 0)
    return {
        "lines": _counts(batch, first),
        "bullets": _counts(batch, first & bullet),
        "numbers": _counts(batch, first & (batch.kinds == DIGIT) & ordinal),
        "letters": _counts(batch, first & (batch.kinds == LETTER) & single & ordinal),
    }


def _spacing_columns(batch: TextBatch) -> Columns:
    """White space and letters where nobody expects them."""
    n, some = len(batch), np.flatnonzero(np.diff(batch.token_offsets))
    first, last = batch.token_offsets[some], batch.token_offsets[some + 1] - 1
    before, behind, apart, long = (np.zeros(n, np.bool_) for _ in range(4))
    before[some] = batch.starts[first] > batch.offsets[some]
    behind[some] = batch.ends[last] < batch.offsets[some + 1]
    wide = (batch.starts[1:] - batch.ends[:-1] > 1) & (batch.lines[1:] == batch.lines[:-1])
    apart[batch.rows[1:][wide]] = True
    same = batch.codes[1:] == batch.codes[:-1]
    thrice = np.flatnonzero(same[1:] & same[:-1])
    thrice = thrice[char_tables().kind[np.minimum(batch.codes[thrice], TABLE)] == LETTER]
    at = np.searchsorted(batch.starts, thrice, "right") - 1
    drawn = (at >= 0) & (thrice + 2 < batch.ends[at]) & (batch.codes[thrice] != ord("_"))
    long[batch.rows[at[drawn]]] = True
    word = batch.kinds == LETTER
    small, capitals = _counts(batch, word & ~batch.capital), _counts(batch, word & batch.capital)
    return [
        ("format", "begins with white space", before),
        ("format", "ends with white space", behind),
        ("format", "has doubled spaces between words", apart),
        ("format", "has a word with a letter three times in a row", long),
        ("format", "has a capital on every word", (small == 0) & (capitals >= 3)),
    ]


def _shape_columns(
    batch: TextBatch, side: Side, flags: NDArray[np.uint64], sizes: NDArray[np.int64]
) -> Columns:
    """Counts that no single pattern can see: lists, lines, questions, capitals."""
    marks = _line_marks(batch)
    mark = (
        np.where(batch.kinds == PUNCT, batch.codes[batch.starts], 0) if len(batch.starts) else batch.codes[:0]
    )
    questions = _counts(batch, mark == ord("?"))
    numbers = _counts(batch, batch.kinds == DIGIT)
    lower, upper, letter, full = (_has(flags, (name,)) for name in ("lower", "upper", "letter", "solid"))
    columns: Columns = [
        ("format", "has a bullet list", marks["bullets"] >= 2),
        ("format", "has a numbered list", marks["numbers"] >= 2),
        ("format", "has lettered options", marks["letters"] >= 2),
        ("format", "has more than one line", marks["lines"] >= 2),
        ("format", "has more than ten lines", marks["lines"] > 10),
        ("format", "has an emoji", _has(flags, ("emoji",))),
        ("format", "contains a number", numbers >= 1),
        ("format", "contains several numbers", numbers >= 3),
        ("format", "is only a number", (numbers == 1) & ~letter & (sizes == 1)),
        ("format", "has letters with accents or from outside ASCII", _has(flags, ("accent",))),
        ("format", "is all in lower case", lower & ~upper),
        ("format", "is all in capitals", upper & ~lower & (sizes >= 2)),
        ("format", "has no letters", full & ~letter),
        ("format", "has a question mark", questions >= 1),
        ("structure", "asks two or more questions", questions >= 2),
        ("format", "has an exclamation mark", _has(flags, "!")),
        *_spacing_columns(batch),
    ]
    if side == "query":
        asks = questions >= 1
        columns += [
            ("structure", "is a long passage with a question", (sizes > 60) & asks),
            (
                "structure",
                "is a word problem with numbers",
                (numbers >= 2) & asks & (sizes >= 12) & (sizes <= 120),
            ),
            ("question", "asks no question", ~asks),
        ]
    return columns


def batch_columns(batch: TextBatch, side: Side, known: HashTable) -> Columns:
    """Properties that the arrays of one batch show; the sentences lack ``The query`` or ``The response``."""
    sizes = word_counts(batch)
    columns = _length_columns(side, sizes)
    columns += [("language", says, hits) for says, hits in language_columns(batch, known)]
    columns += _lexicon_columns(batch, side, words(batch), sizes)
    columns += _shape_columns(batch, side, row_flags(batch), sizes)
    return columns


def surface(
    strings: pa.Array, batches: Sequence[TextBatch], side: Side, known: HashTable
) -> tuple[list[tuple[str, str]], NDArray[np.bool_]]:
    """All properties of some texts.

    Args:
        strings: n texts.
        batches: The same texts, analysed in order.
        side: What the texts are.
        known: The corpus's English vocabulary; empty, no text is called foreign for its words alone.

    Returns:
        (kind, sentence) of each property, always in the same order, and the incidence (n, properties).
    """
    parts = [batch_columns(batch, side, known) for batch in batches]
    flags = np.concatenate([row_flags(batch) for batch in batches])
    matching = pattern_columns(strings, side, flags)
    names = [(kind, f"The {side} {says}") for kind, says, _ in [*parts[0], *matching]]
    incidence = np.concatenate([np.column_stack([hits for _, _, hits in part]) for part in parts])
    return names, np.hstack([incidence, np.column_stack([hits for _, _, hits in matching])])


@lru_cache(maxsize=2)
def surface_names(side: Side) -> tuple[tuple[str, str], ...]:
    """(kind, sentence) of every property of a side, in order."""
    strings = as_strings(["a"])
    return tuple(surface(strings, [analyse(strings)], side, HashTable.from_sets([]))[0])
