"""The content words of a corpus's queries, and which rows hold each.

Mined attributes hold the words that are over-represented somewhere. A topic may have none: sixty words of a
kind, each in a few rows. So a trace needs all words, and which of them are near those of the failing query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.fit import batches_of, clean, groups, parallel
from undertow.attributes.hashtable import HashTable
from undertow.attributes.language import stop_table
from undertow.attributes.mine import encode
from undertow.attributes.text import LETTER, TextBatch, as_strings
from undertow.store.tables import read_table, write_table

FORMAT = 2
"""Version of what is a word, and of the saved file."""
MOST_WORDS = 100_000
"""Words kept, the most frequent first."""
LEAST_ROWS, SMALL = 2, 20_000
"""Rows a word stands in at least, where there are more words than that."""
LEAST_LETTERS = 3


@dataclass(frozen=True)
class Lexicon:
    """W content words, the most frequent first."""

    words: list[str]
    """In lower case, (W,)."""
    hashes: NDArray[np.uint64]
    """By which they are found in texts, (W,)."""

    def rows(self, texts: Sequence[str] | pa.ChunkedArray | pa.Array) -> sparse.csr_matrix:
        """Say which words n texts hold: boolean (n, W)."""
        column = as_strings(texts)
        parts = parallel(lambda unit: self._cells(*unit), groups(column))
        row, word = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        cells = (np.ones(len(row), np.bool_), (row, word))
        return sparse.csr_matrix(cells, shape=(len(column), len(self.words)))

    def _cells(self, first: int, strings: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and words of every occurrence in some texts."""
        rows, words = [], []
        for start, batch in batches_of(strings):
            at, word = self._table.find(batch.hashes)
            rows.append(batch.rows[at].astype(np.int64) + (first + start))
            words.append(word.astype(np.int64))
        return np.concatenate(rows), np.concatenate(words)

    @cached_property
    def _table(self) -> HashTable:
        return HashTable.build(self.hashes, np.arange(len(self.hashes), dtype=np.int32))

    def save(self, file: Path) -> None:
        """Write the words as a Parquet file."""
        columns = {"word": pa.array(self.words, pa.string()), "hash": pa.array(self.hashes, pa.uint64())}
        write_table(pa.table(columns), file)

    @classmethod
    def load(cls, file: Path) -> Lexicon:
        """Read what :meth:`save` wrote."""
        table = read_table(file)
        return cls(table["word"].to_pylist(), table["hash"].to_numpy())


def content_words(text: str) -> list[str]:
    """Return the distinct content words of a text in order, in lower case, as a lexicon has them."""
    (_, batch), *_ = batches_of(as_strings([text]))
    at = _content(batch)
    shown = [clean(batch.text(int(batch.starts[i]), int(batch.ends[i]))) for i in at]
    return list(dict.fromkeys(shown))


def _content(batch: TextBatch) -> NDArray[np.int64]:
    """Numbers of the tokens that are words, long enough, and no function words."""
    long_enough = batch.ends - batch.starts >= LEAST_LETTERS
    at = np.flatnonzero((batch.kinds == LETTER) & long_enough)
    return at[~stop_table().contains(batch.hashes[at])]


def learn_words(texts: Sequence[str] | pa.ChunkedArray | pa.Array) -> Lexicon:
    """Choose the content words of n texts, as they are first written."""
    column = as_strings(texts)
    parts = list(parallel(lambda unit: _occurrences(*unit), groups(column)))
    hashes, rows, starts, ends = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    ids, distinct = encode(hashes)
    counts = np.bincount(ids, minlength=len(distinct))
    often = np.flatnonzero(counts >= (LEAST_ROWS if len(distinct) > SMALL else 1))
    chosen = often[np.lexsort((distinct[often], -counts[often]))][:MOST_WORDS]
    first = np.zeros(len(distinct), np.int64)
    first[ids[::-1]] = np.arange(len(ids))[::-1]
    at = first[chosen]
    written = zip(column.take(pa.array(rows[at])).to_pylist(), starts[at], ends[at], strict=True)
    return Lexicon([clean(text[start:end]) for text, start, end in written], distinct[chosen])


def _occurrences(first: int, strings: pa.Array) -> tuple[NDArray[np.generic], ...]:
    """Hash, row and span of one occurrence of every word of every text."""
    parts = [_of_batch(first + start, batch) for start, batch in batches_of(strings)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _of_batch(first: int, batch: TextBatch) -> tuple[NDArray[np.generic], ...]:
    at = _content(batch)
    order = np.lexsort((at, batch.hashes[at], batch.rows[at]))
    row, key = batch.rows[at][order], batch.hashes[at][order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (row[1:] != row[:-1]) | (key[1:] != key[:-1])
    at = at[order[new]]
    base = batch.offsets[batch.rows[at]]
    spans = (batch.starts[at] - base).astype(np.int32), (batch.ends[at] - base).astype(np.int32)
    return batch.hashes[at], batch.rows[at] + np.int32(first), *spans
