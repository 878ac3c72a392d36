"""Shapes of text: what a run of characters looks like when its letters and digits are left open.

``[12:34]`` is ``[99:99]`` and ``[<number>:<number>]``, ``**word**`` is ``**<word>**``, a path is
``/<word>/…<word>.<word>``. No shape is listed anywhere: those that enough rows hold are mined, each in a fine
form (case of words, digits of numbers) and a coarse one. Repeated marks count up to three, and what
alternates (``a/b/c/d``, ``1.2.3.4``) is cut after its third part, so that lengths do not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.streams import Family, Occurrences
from undertow.attributes.text import (
    DIGIT,
    LETTER,
    PUNCT,
    TABLE,
    TextBatch,
    chain,
    char_set,
    char_tables,
    mix,
)

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

FORM = "form"
"""Their family, ``Attribute.kind``."""
LONGEST = 12
"""Tokens of a run that are looked at."""
SPAN = 6
"""Tokens from one mark of a pair to the other."""
RUN, DIGITS = 3, 5
"""Length from which all runs of a mark, and all numbers, look alike."""
MARKS = 4
"""Marks at the edge of a text."""
_PAIRS = dict(zip("([{<“‘«„「『（【", ")]}>”’»“」』）】", strict=True))
_HALVES = char_set("".join([*_PAIRS, *_PAIRS.values(), '"', "'"]))
_SAME = char_set("*~`\"'|$%=#_")
_SENTENCE = char_set(".,;:!?")
_DIGIT, _UPPER, _LOWER, _LINE, _OTHER, _NONE = range(6)


def _closers() -> NDArray[np.uint32]:
    """Closing mark of each opening one, by code point; 0 where a mark opens nothing."""
    table = np.zeros(TABLE + 1, np.uint32)
    table[_SAME] = np.flatnonzero(_SAME)
    for opens, closes in _PAIRS.items():
        table[ord(opens)] = ord(closes)
    return table


_CLOSERS = _closers()


@lru_cache(maxsize=1)
def _letter_classes() -> tuple[NDArray[np.uint8], ...]:
    """Class of a character as the first, second and last of a word, times 36, 6 and 1."""
    tables = char_tables()
    table = np.full(TABLE + 1, _OTHER, np.uint8)
    table[tables.kind == LETTER] = _LOWER
    table[tables.upper] = _UPPER
    table[tables.kind == DIGIT] = _DIGIT
    table[ord("_")] = _LINE
    return 36 * table, 6 * table, np.where(table == _UPPER, _LOWER, table).astype(np.uint8)


def _word_forms(batch: TextBatch) -> NDArray[np.uint8]:
    """How each token begins, goes on and ends, were it a word: 36 × first + 6 × second + last, (T,)."""
    first, second, last = _letter_classes()
    inner = np.minimum(batch.starts + 1, batch.ends - 1)
    sized = second.take(batch.codes[inner], mode="clip")
    sized[inner == batch.starts] = 6 * _NONE
    sized += first[batch.firsts]
    sized += last.take(batch.codes[batch.ends - 1], mode="clip")
    return sized


_PLAIN_FORMS = np.zeros(256, np.bool_)
for _first, _second in ((_LOWER, _LOWER), (_UPPER, _LOWER), (_LOWER, _NONE), (_UPPER, _NONE)):
    _PLAIN_FORMS[36 * _first + 6 * _second + _LOWER] = True
_PLAIN_FORMS[36 * _UPPER + 6 * _UPPER + _LOWER] = True


@dataclass(frozen=True)
class _Seen:
    """What every family needs of a batch, made once."""

    fine: NDArray[np.uint32]
    """Symbol of each token with the case of words and the digits of numbers, (T,)."""
    coarse: NDArray[np.uint32]
    """The same without, (T,)."""
    odd: NDArray[np.bool_]
    """Words of another form than ``word``, ``Word`` and ``WORD``, (T,)."""
    begins: Ints
    """First token of each run without a space, (R,)."""
    ends: Ints
    """Its last token, (R,)."""


def _seen(batch: TextBatch) -> _Seen:
    if "shapes_seen" not in batch.__dict__:
        batch.__dict__["shapes_seen"] = _read(batch)
    seen: _Seen = batch.__dict__["shapes_seen"]
    return seen


def _read(batch: TextBatch) -> _Seen:
    forms, word = _word_forms(batch), batch.kinds == LETTER
    odd = word & ~_PLAIN_FORMS[forms]
    fine = forms + np.uint32(1 << 30)
    coarse = odd + np.uint32(2)
    other = np.flatnonzero(~word)
    kind, size = batch.kinds[other], (batch.ends[other] - batch.starts[other]).astype(np.uint32)
    mark = (batch.firsts[other] << 4) + np.minimum(size, RUN)
    coarse[other] = np.where(kind == PUNCT, mark, np.where(kind == DIGIT, np.uint32(1), np.uint32(2)))
    fine[other] = np.where(kind == DIGIT, 4 + np.minimum(size, DIGITS), coarse[other])
    glued = np.zeros(len(word), np.bool_)
    glued[1:] = (batch.starts[1:] == batch.ends[:-1]) & (batch.rows[1:] == batch.rows[:-1])
    begins = np.flatnonzero(~glued)
    return _Seen(fine, coarse, odd, begins, np.append(begins[1:], len(word))[: len(begins)] - 1)


def _hashed(symbols: NDArray[np.uint32], first: Ints, last: Ints) -> Hashes:
    """Hash the symbols of token runs; what alternates is cut after its third part."""
    out = np.full(len(first), 7, np.uint64)
    for k in range(LONGEST):
        at = first + k
        on = np.flatnonzero(at <= last)
        if not len(on):
            break
        here = at[on]
        if k > 2:
            again = (symbols[here] == symbols[here - 2]) & (symbols[here - 1] == symbols[here - 3])
            on, here = on[~again], here[~again]
        out[on] = chain(out[on], symbols[here].astype(np.uint64))
    return out


def _both(batch: TextBatch, seen: _Seen, first: Ints, last: Ints) -> Occurrences:
    """Token runs in both forms; a coarse form says nothing where it is the same as the fine one."""
    hashes = [_hashed(seen.fine, first, last), mix(_hashed(seen.coarse, first, last))]
    twice = np.concatenate([first, first]), np.concatenate([last, last])
    slotted = np.arange(2 * len(first)) >= len(first)
    return Occurrences(
        batch.rows[twice[0]],
        np.concatenate(hashes),
        batch.starts[twice[0]],
        batch.ends[twice[1]],
        slotted=slotted,
    )


def _without_mark(batch: TextBatch, first: Ints, last: Ints) -> Ints:
    """Last token of each run, or the one before where that is a sentence mark."""
    mark = (batch.kinds[last] == PUNCT) & _SENTENCE[batch.firsts[last]]
    mark &= (batch.ends[last] - batch.starts[last] == 1) & (last > first)
    found: Ints = last - mark
    return found


def _spans(batch: TextBatch) -> tuple[Ints, Ints]:
    """First and last token of what stands between a pair of marks, these included."""
    punct = np.flatnonzero(batch.kinds == PUNCT)
    opens = punct[_CLOSERS[batch.firsts[punct]] > 0]
    closer = _CLOSERS[batch.firsts[opens]]
    size = batch.ends[opens] - batch.starts[opens]
    found = np.zeros(len(opens), np.int64)
    most = len(batch.starts) - 1
    for k in range(2, SPAN + 1):
        at = np.minimum(opens + k, most)
        fits = (found == 0) & (batch.kinds[at] == PUNCT) & (batch.firsts[at] == closer)
        fits &= (batch.rows[at] == batch.rows[opens]) & (batch.ends[at] - batch.starts[at] == size)
        fits &= opens + k <= most
        found[fits] = k
    kept = found > 0
    return opens[kept], (opens + found)[kept]


def _half(batch: TextBatch, first: Ints, last: Ints) -> NDArray[np.bool_]:
    """Which runs are one token beside half a pair of brackets or quotation marks."""
    mark = (batch.kinds == PUNCT) & _HALVES[batch.firsts]
    return np.asarray((last - first == 1) & (mark[first] | mark[last]), np.bool_)


def forms(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """Runs of several tokens or of an odd one, and what stands between a pair of marks."""
    seen = _seen(batch)
    several = seen.ends > seen.begins
    first, last = seen.begins[several], seen.ends[several]
    last = _without_mark(batch, first, last)
    told = seen.odd[first] & (last == first) | (last > first) & ~_half(batch, first, last)
    alone = seen.begins[~several]
    alone, spans = alone[seen.odd[alone]], _spans(batch)
    first = np.concatenate([first[told], alone, spans[0]])
    last = np.concatenate([last[told], alone, spans[1]])
    return _both(batch, seen, first, np.minimum(last, first + LONGEST - 1))


def _edges(batch: TextBatch) -> tuple[Ints, Ints]:
    """First and last token of each text that has one."""
    some = np.flatnonzero(np.diff(batch.token_offsets))
    return batch.token_offsets[some], batch.token_offsets[some + 1] - 1


def opening_forms(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """The first run of each text."""
    seen = _seen(batch)
    first, _ = _edges(batch)
    last = seen.ends[np.searchsorted(seen.begins, first)]
    last = _without_mark(batch, first, last)
    told = (last > first) | seen.odd[first] | (batch.kinds[first] == PUNCT)
    first, last = first[told], last[told]
    return _both(batch, seen, first, np.minimum(last, first + LONGEST - 1))


def closing_forms(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """The last run of each text, its marks included."""
    seen = _seen(batch)
    _, last = _edges(batch)
    first = seen.begins[np.searchsorted(seen.begins, last, "right") - 1]
    plain = (last - first == 1) & (batch.kinds[last] == PUNCT) & _SENTENCE[batch.firsts[last]]
    plain &= (batch.ends[last] - batch.starts[last] == 1) & (batch.kinds[first] == LETTER) & ~seen.odd[first]
    told = ((last > first) | seen.odd[last]) & ~plain
    first, last = first[told], last[told]
    return _both(batch, seen, np.maximum(first, last - LONGEST + 1), last)


def closing_marks(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """The marks at the end of each text, whatever stands before them."""
    seen = _seen(batch)
    _, last = _edges(batch)
    start = seen.begins[np.searchsorted(seen.begins, last, "right") - 1]
    first, on = last + 1, np.ones(len(last), np.bool_)
    for k in range(MARKS):
        at = np.maximum(last - k, start)
        on &= (last - k >= start) & (batch.kinds[at] == PUNCT)
        first = np.where(on, at, first)
    told = first <= last
    first, last = first[told], last[told]
    hashes = _hashed(seen.coarse, first, last)
    none = np.zeros(len(first), np.bool_)
    return Occurrences(batch.rows[first], hashes, batch.starts[first], batch.ends[last], slotted=none)


def framing_marks(batch: TextBatch, is_name: NDArray[np.bool_]) -> Occurrences:
    """The mark that each text opens with and the one that it ends with."""
    coarse = _seen(batch).coarse.astype(np.uint64)
    first, last = _edges(batch)
    told = (batch.kinds[first] == PUNCT) & (batch.kinds[last] == PUNCT) & (last > first)
    first, last = first[told], last[told]
    hashes = chain(coarse[first], coarse[last])
    none = np.zeros(len(first), np.bool_)
    return Occurrences(batch.rows[first], hashes, batch.starts[first], batch.ends[last], slotted=none)


def written(batch: TextBatch, first: int, last: int, coarse: bool) -> str:
    """Write the shape of tokens ``first`` to ``last`` (one past)."""
    parts = list(_parts(batch, first, last, coarse))
    kept = [
        part for k, part in enumerate(parts) if k < 3 or part != parts[k - 2] or parts[k - 1] != parts[k - 3]
    ]
    return "".join(kept)


def framed(batch: TextBatch, first: int, last: int, coarse: bool) -> str:
    """Write the first and the last mark of a text."""
    begin, end = (next(_parts(batch, i, i + 1, coarse=True)) for i in (first, last - 1))
    return f"{begin}…{end}"


def _parts(batch: TextBatch, first: int, last: int, coarse: bool) -> Iterator[str]:
    odd = _seen(batch).odd
    for token in range(first, min(last, first + LONGEST)):
        gap = " " if token > first and batch.starts[token] > batch.ends[token - 1] else ""
        text = batch.text(int(batch.starts[token]), int(batch.ends[token]))
        if batch.kinds[token] == PUNCT:
            yield gap + text[:RUN]
        elif batch.kinds[token] == DIGIT:
            yield gap + ("<number>" if coarse else "9" * min(len(text), DIGITS))
        elif coarse:
            yield gap + ("<code>" if odd[token] else "<word>")
        else:
            yield gap + (_word(text) if batch.kinds[token] == LETTER else "<word>")


def _word(text: str) -> str:
    """Write a word as the classes of its first two characters and of its last, if that is another."""
    said = "".join("9" if c.isdigit() else "_" if c == "_" else "X" if c.isupper() else "x" for c in text)
    return said[:2] if said[1:2].lower() == said[-1].lower() else said[:2] + said[-1].lower()


SHAPES = (
    Family(FORM, forms, "The {side} has text of the form {text}", cap=2500, write=written),
    Family(FORM, opening_forms, "The {side} opens with text of the form {text}", cap=1000, write=written),
    Family(FORM, closing_forms, "The {side} ends with text of the form {text}", cap=1000, write=written),
    Family(FORM, closing_marks, "The {side} ends with the marks {text}", cap=300, write=written),
    Family(FORM, framing_marks, "The {side} stands between the marks {text}", cap=300, write=framed),
)
"""Mined like the other families."""
