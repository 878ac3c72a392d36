"""Which language and script a text is written in, from function words and Unicode blocks.

A language without a list of function words is still seen as "not English": few of the text's words belong to
the vocabulary that the corpus uses in its English rows.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.hashtable import HashTable
from undertow.attributes.lexicons import SCRIPTS, STOP_WORDS
from undertow.attributes.text import IDEOGRAPH, LETTER, TextBatch, analyse, as_strings

LANGUAGES = tuple(STOP_WORDS)
SCRIPT_NAMES = tuple(name for name, _ in SCRIPTS)

HEAD_WORDS = 150
"""Words of a text that are looked at."""
LEAST_WORDS = 3
"""Texts of fewer words get no language."""
LEAST_SHARE = 0.12
"""Share of function words that names a language; English prose has about 0.45."""
FOREIGN_SHARE = 0.5
"""A text whose share of known words is lower is in another language than the corpus's English."""
PASSAGE_WORDS = 4
"""Clauses of fewer words are no passage."""
PASSAGE_SHARE = 0.25
"""Share of function words that names the language of one clause."""


def token_hashes(text: str) -> NDArray[np.uint64]:
    """Hashes of the words of a short text."""
    batch = analyse(as_strings([text]))
    hashes: NDArray[np.uint64] = batch.hashes[(batch.kinds == LETTER) | (batch.kinds == IDEOGRAPH)]
    return hashes


@lru_cache(maxsize=1)
def stop_table() -> HashTable:
    """Function words: hash → number of the language in :data:`LANGUAGES`."""
    return HashTable.from_sets(np.unique(token_hashes(words)) for words in STOP_WORDS.values())


@lru_cache(maxsize=1)
def _script_table() -> NDArray[np.uint8]:
    table = np.zeros(0x40000 >> 4, np.uint8)
    for number, (_, blocks) in enumerate(SCRIPTS, start=1):
        for low, high in blocks:
            table[low >> 4 : (high >> 4) + 1] = number
    return table


def head_words(batch: TextBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token numbers of the first words of each row, and how many there are in each row, (n,)."""
    word = (batch.kinds == LETTER) | (batch.kinds == IDEOGRAPH)
    before = np.zeros(len(word) + 1, np.int64)
    np.cumsum(word, out=before[1:])
    rank = before[:-1] - before[batch.token_offsets[:-1]][batch.rows]
    at = np.flatnonzero(word & (rank < HEAD_WORDS))
    return at, np.bincount(batch.rows[at], minlength=len(batch))


def scripts(batch: TextBatch, at: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Main script of each row: 0 is Latin (or none), i the i-th of :data:`SCRIPT_NAMES`, (n,)."""
    block = np.minimum(batch.codes[batch.starts[at]] >> 4, (0x40000 >> 4) - 1)
    script = _script_table()[block]
    width = len(SCRIPT_NAMES) + 1
    found = script > 0
    counts = np.bincount(batch.rows[at[found]] * width + script[found], minlength=len(batch) * width)
    table = counts.reshape(len(batch), width)
    best = table.argmax(axis=1) if width else np.zeros(len(batch), np.int64)
    share = table.max(axis=1, initial=0) / np.maximum(sizes, 1)
    kana = SCRIPT_NAMES.index("Kana (Japanese)") + 1
    best = np.where(table[:, kana] > 0, kana, best)
    return np.where(share > 0.3, best, 0)


def languages(batch: TextBatch, at: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Language of each row by function words, −1 where none is clear, (n,).

    Single letters alone, which code and chat are full of, name no language.
    """
    position, language = stop_table().find(batch.hashes[at])
    word = at[position]
    table = _table(batch.rows[word], language, len(batch))
    best, several = table.argmax(axis=1), batch.ends[word] - batch.starts[word] > 1
    spelt = _table(batch.rows[word[several]], language[several], len(batch))[np.arange(len(batch)), best] > 0
    clear = (table.max(axis=1) >= np.maximum(2, LEAST_SHARE * sizes)) & (sizes >= LEAST_WORDS)
    return np.where(clear & spelt, best, -1)


def _table(rows: NDArray[np.integer], language: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """Count function words by row and language, (n, languages)."""
    width = len(LANGUAGES)
    return np.bincount(rows * width + language, minlength=n * width).reshape(n, width)


def known_share(
    batch: TextBatch, at: NDArray[np.int64], sizes: NDArray[np.int64], known: HashTable
) -> NDArray[np.float64]:
    """Share of a row's words that belong to the corpus's English vocabulary, (n,)."""
    hit = known.contains(batch.hashes[at])
    return np.bincount(batch.rows[at], hit, len(batch)) / np.maximum(sizes, 1)


def clauses(batch: TextBatch, at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clause of each of the words ``at``, and the row of each clause; marks, commas and lines divide them."""
    divides = batch.edges[:-1].copy()
    divides[1:] |= batch.firsts[:-1] == ord(",")
    number = np.cumsum(divides)[at]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    return np.cumsum(np.diff(number, prepend=-1) > 0) - 1, batch.rows[at[starts]].astype(np.int64)


def passages(batch: TextBatch, at: NDArray[np.int64], known: HashTable) -> NDArray[np.bool_]:
    """Whether each row has a clause in each language, (n, languages).

    So a foreign question after an English preface is still seen. Only function words count that English rows
    do not use and that are no single letter, which code and chat are full of.
    """
    width = len(LANGUAGES)
    found = np.zeros((len(batch), width), np.bool_)
    if not len(at):
        return found
    clause, row = clauses(batch, at)
    sizes = np.bincount(clause, minlength=len(row))
    position, language = stop_table().find(batch.hashes[at])
    word = at[position]
    own = (language == 0) | ~known.contains(batch.hashes[word])
    own &= batch.ends[word] - batch.starts[word] > 1
    table = _table(clause[position[own]], language[own], len(row))
    best = table.argmax(axis=1)
    clear = (table.max(axis=1) >= np.maximum(2, PASSAGE_SHARE * sizes)) & (sizes >= PASSAGE_WORDS)
    found[row[clear], best[clear]] = True
    return found


def language_columns(batch: TextBatch, known: HashTable) -> list[tuple[str, NDArray[np.bool_]]]:
    """(rest of the sentence, rows it holds for) for every language and script."""
    at, sizes = head_words(batch)
    script = scripts(batch, at, sizes)
    latin = script == 0
    language = np.where(latin, languages(batch, at, sizes), -1)
    foreign = np.zeros(len(batch), np.bool_)
    if len(known.keys):
        strange = known_share(batch, at, sizes, known) < FOREIGN_SHARE
        foreign = strange & latin & (language <= 0) & (sizes >= LEAST_WORDS)
    english = (language == 0) & ~foreign
    columns = [("is in English", english)]
    columns += [(f"is in {name}", language == i) for i, name in enumerate(LANGUAGES) if i]
    passage = passages(batch, at, known)
    columns += [
        (f"contains a passage in {name}", passage[:, i] | (language == i))
        for i, name in enumerate(LANGUAGES)
        if i
    ]
    columns += [(f"is written in {name} script", script == i) for i, name in enumerate(SCRIPT_NAMES, 1)]
    columns.append(("is in an unknown or invented language", foreign))
    columns.append(("is not in English", (language > 0) | ~latin | foreign))
    return columns
