"""A batch of texts as arrays: code points, tokens and lines, with no Python loop over rows.

Rows are concatenated into one code-point array; a token is a span of it with a 64-bit hash of its folded
characters. The hash is a polynomial over the prefix sums (so every span's hash costs one subtraction),
finished with murmur's mixer. Two different spans share a hash with probability of about 2^-64.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SKIP, LETTER, DIGIT, IDEOGRAPH, PUNCT = range(5)
"""Character classes; also token kinds, where LETTER is a word and DIGIT a number."""

TABLE = 0x20000
"""Code points with an entry of their own; above are rare ideographs and private use."""

CHUNK_CHARS = 500_000
"""Code points worked on at once: bounds memory and keeps the arrays near the cache."""

_PRIME = 0x9E3779B97F4A7C55
_MIX1, _MIX2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)

_CONTINUA = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
)  # fmt: skip
"""Scripts written without spaces (Thai, Lao, Burmese, Khmer, kana, Han): every character is a token."""


def char_set(marks: str) -> NDArray[np.bool_]:
    """A table that says of each code point, cut off at :data:`TABLE`, whether it is one of ``marks``."""
    table = np.zeros(TABLE + 1, np.bool_)
    table[[ord(mark) for mark in marks]] = True
    return table


SENTENCE_MARKS = char_set(".?!;:。？！；：…")
"""Marks that phrases do not cross."""


@dataclass(frozen=True)
class CharTables:
    """What each code point below :data:`TABLE` (and one shared entry for all above) is."""

    kind: NDArray[np.uint8]
    """Character class."""
    fold: NDArray[np.uint32]
    """Simple case folding; typographic apostrophes fold to the plain one."""
    upper: NDArray[np.bool_]
    """Upper- or title-case letters."""
    apostrophe: NDArray[np.bool_]
    """Characters that join two letters into one word."""


def _classes() -> NDArray[np.uint8]:
    by_category = {"L": LETTER, "M": LETTER, "N": LETTER, "P": PUNCT, "S": PUNCT}
    kind = np.zeros(TABLE + 1, np.uint8)
    for code in range(TABLE):
        category = unicodedata.category(chr(code))
        kind[code] = DIGIT if category == "Nd" else by_category.get(category[0], SKIP)
    for low, high in _CONTINUA:
        kind[low : high + 1][kind[low : high + 1] != SKIP] = IDEOGRAPH
    kind[ord("_")] = LETTER
    kind[TABLE] = IDEOGRAPH
    return kind


def _fold(code: int) -> int:
    folded = chr(code).casefold()
    return ord(folded) if len(folded) == 1 else code


@lru_cache(maxsize=1)
def char_tables() -> CharTables:
    """Build the character tables once (about 0.1 s)."""
    fold = np.array([_fold(code) for code in range(TABLE)] + [TABLE], np.uint32)
    upper = np.array([chr(code).isupper() or chr(code).istitle() for code in range(TABLE)] + [False])
    apostrophe = np.zeros(TABLE + 1, np.bool_)
    for mark in "'’ʼ":
        apostrophe[ord(mark)] = True
        fold[ord(mark)] = ord("'")
    return CharTables(_classes(), fold, upper, apostrophe)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every input bit over the whole word (murmur3's 64-bit finaliser)."""
    out = values ^ (values >> _SHIFT)
    out *= _MIX1
    out ^= out >> _SHIFT
    out *= _MIX2
    out ^= out >> _SHIFT
    return out


def chain(head: NDArray[np.uint64], tail: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of a sequence from the hash of its head and of its last element."""
    return mix(head * np.uint64(_PRIME) + tail)


@lru_cache(maxsize=4)
def _powers(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    inverse = pow(_PRIME, -1, 1 << 64)
    out = []
    for base in (_PRIME, inverse):
        steps = np.full(size, base, np.uint64)
        steps[0] = 1
        out.append(np.multiply.accumulate(steps))
    return out[0], out[1]


@dataclass(frozen=True)
class TextBatch:
    """n texts as arrays; T tokens, C code points."""

    strings: pa.StringArray
    """The texts, NFC, (n,)."""
    codes: NDArray[np.uint32]
    """Code points of all rows, (C,)."""
    offsets: NDArray[np.int64]
    """Row i is ``codes[offsets[i]:offsets[i + 1]]``, (n + 1,)."""
    starts: NDArray[np.int64]
    """First code point of each token, (T,)."""
    ends: NDArray[np.int64]
    """One past its last code point, (T,)."""
    kinds: NDArray[np.uint8]
    """LETTER (word), DIGIT (number), IDEOGRAPH or PUNCT (a run of one mark), (T,)."""
    hashes: NDArray[np.uint64]
    """Hash of the folded token, (T,)."""
    capital: NDArray[np.bool_]
    """Begins with a capital letter, (T,)."""
    rows: NDArray[np.int32]
    """Row of each token, (T,)."""
    token_offsets: NDArray[np.int64]
    """Row i's tokens are ``[token_offsets[i], token_offsets[i + 1])``, (n + 1,)."""
    lines: NDArray[np.int32]
    """Running number of the line a token stands on; never shared by two rows, (T,)."""
    prefix: NDArray[np.uint64]
    """Prefix sums of the span hash, (C + 1,)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def firsts(self) -> NDArray[np.uint32]:
        """First code point of each token, cut off at :data:`TABLE`, (T,)."""
        return np.minimum(self.codes[self.starts], TABLE)

    @cached_property
    def ends_sentence(self) -> NDArray[np.bool_]:
        """Tokens that end a sentence or clause, ``.?!;:`` and their kin, (T,)."""
        return SENTENCE_MARKS[self.firsts]

    @cached_property
    def edges(self) -> NDArray[np.bool_]:
        """Whether a sentence or line ends right before each token, and after the last, (T + 1,)."""
        edges = np.ones(len(self.starts) + 1, np.bool_)
        edges[1:-1] = self.ends_sentence[:-1] | (self.lines[1:] != self.lines[:-1])
        return edges

    def text(self, start: int, end: int) -> str:
        """The original characters of one span."""
        return self.codes[start:end].tobytes().decode("utf-32-le", "replace")

    def span_hashes(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hashes of arbitrary spans of folded code points."""
        return _span_hashes(self.prefix, starts, ends)


def _span_hashes(
    prefix: NDArray[np.uint64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint64]:
    inverse = _powers(_size(len(prefix)))[1]
    return mix((prefix[ends] - prefix[starts]) * inverse[starts])


def _size(n: int) -> int:
    return max(CHUNK_CHARS * 2, 1 << max(1, n - 1).bit_length())


def as_strings(texts: Sequence[str] | pa.ChunkedArray | pa.Array) -> pa.Array:
    """Texts as one Arrow array in NFC; missing ones are empty, lone surrogates become question marks."""
    if not isinstance(texts, pa.ChunkedArray | pa.Array):
        texts = _from_python(texts)
    if not pa.types.is_large_string(texts.type):
        texts = texts.cast(pa.large_string())
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.large_string())
    return _normalised(pc.fill_null(texts, ""))


def _from_python(texts: Sequence[str]) -> pa.Array:
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string())


def _normalised(strings: pa.Array) -> pa.Array:
    """NFC; plain ASCII rows are already normal."""
    other = pc.invert(pc.string_is_ascii(strings))
    if not pc.any(other, min_count=0).as_py():
        return strings
    return pc.replace_with_mask(strings, other, pc.utf8_normalize(strings.filter(other), form="NFC"))


def chunks(strings: pa.Array, chars: int = CHUNK_CHARS) -> Iterator[tuple[int, pa.Array]]:
    """Split texts into (first row, texts) of about ``chars`` bytes each, in order; at least one part."""
    n = len(strings)
    if not n:
        yield 0, strings
        return
    sizes = np.cumsum(np.asarray(pc.binary_length(strings), np.int64))
    edges = np.unique(np.append(np.searchsorted(sizes, np.arange(0, sizes[-1] + 1, chars)), n))
    first = 0
    for last in edges[edges > 0]:
        yield first, strings.slice(first, last - first)
        first = int(last)


def analyse(strings: pa.Array) -> TextBatch:
    """Tokenise a batch of texts in NFC.

    Words are runs of letters, digits and underscores, joined over inner apostrophes; numbers are runs of
    digits joined over inner ``.`` and ``,``; a run of one punctuation mark is a token.
    """
    codes, offsets = _code_points(strings)
    tables = char_tables()
    at = np.minimum(codes, TABLE)
    kind = _joined(tables.kind[at], codes, tables.apostrophe[at])
    starts, ends = _spans(kind, codes, offsets)
    prefix = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(tables.fold[at] * _powers(_size(len(prefix)))[0][: len(codes)], out=prefix[1:])
    token_offsets = np.searchsorted(starts, offsets)
    rows = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(token_offsets))
    return TextBatch(
        strings=strings,
        codes=codes,
        offsets=offsets,
        starts=starts,
        ends=ends,
        kinds=_token_kinds(kind, starts, ends),
        hashes=_span_hashes(prefix, starts, ends),
        capital=tables.upper[at[starts]],
        rows=rows,
        token_offsets=token_offsets,
        lines=_line_numbers(codes, starts, rows),
        prefix=prefix,
    )


def _code_points(strings: pa.Array) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    offsets = np.zeros(len(strings) + 1, np.int64)
    np.cumsum(np.asarray(pc.utf8_length(strings), np.int64), out=offsets[1:])
    bounds = np.frombuffer(strings.buffers()[1], np.int64)[strings.offset : strings.offset + len(strings) + 1]
    data = strings.buffers()[2]
    raw = memoryview(data)[bounds[0] : bounds[-1]] if data is not None and len(bounds) else b""
    text = str(raw, "utf-8")
    return np.frombuffer(text.encode("utf-32-le"), np.uint32), offsets


def _joined(
    kind: NDArray[np.uint8], codes: NDArray[np.uint32], apostrophe: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    if len(kind) < 3:
        return kind
    before, after = kind[:-2], kind[2:]
    inner = kind[1:-1]
    point = (codes[1:-1] == ord(".")) | (codes[1:-1] == ord(","))
    inner[apostrophe[1:-1] & (before == LETTER) & (after == LETTER)] = LETTER
    inner[point & (before == DIGIT) & (after == DIGIT)] = DIGIT
    return kind


def _spans(
    kind: NDArray[np.uint8], codes: NDArray[np.uint32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not len(kind):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    word = (kind == LETTER) | (kind == DIGIT)
    goes_on = np.zeros(len(kind), np.bool_)
    goes_on[1:] = (word[1:] & word[:-1]) | (
        (kind[1:] == PUNCT) & (kind[:-1] == PUNCT) & (codes[1:] == codes[:-1])
    )
    goes_on[offsets[:-1][offsets[:-1] < len(kind)]] = False
    inside = kind != SKIP
    starts = np.flatnonzero(inside & ~goes_on)
    last = np.ones(len(kind), np.bool_)
    last[:-1] = ~goes_on[1:]
    return starts, np.flatnonzero(inside & last) + 1


def _token_kinds(
    kind: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint8]:
    letters = np.zeros(len(kind) + 1, np.int32)
    np.cumsum(kind == LETTER, out=letters[1:])
    kinds = kind[starts]
    kinds[(kinds == DIGIT) & (letters[ends] > letters[starts])] = LETTER
    return kinds


def _line_numbers(
    codes: NDArray[np.uint32], starts: NDArray[np.int64], rows: NDArray[np.int32]
) -> NDArray[np.int32]:
    newline = np.cumsum((codes == 10) | (codes == 13), dtype=np.int32)
    return newline[starts] + rows
