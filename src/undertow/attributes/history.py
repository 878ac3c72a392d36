"""What stands before the last user turn: the system prompt, earlier turns of the user, earlier answers.

Each is described as queries and responses are, with a vocabulary of its own: "An earlier user turn contains
the word 'x'" holds where one of them does. A system prompt that many rows share is quoted whole, because its
phrases all stand in the same rows. Of attributes with the same rows one stays, and a part has at most
:data:`MOST`, the most frequent first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.fit import Entry, clean
from undertow.attributes.local import LocalExtractor, learn_side
from undertow.attributes.mine import least_rows
from undertow.attributes.text import as_strings
from undertow.errors import UsageError
from undertow.records import Side

FORMAT = 1
"""Version of what is said of a history, and of the saved files."""
PARTS: dict[str, tuple[Side, str]] = {
    "system": ("query", "The system prompt"),
    "user": ("query", "An earlier user turn"),
    "assistant": ("response", "An earlier answer"),
}
"""Role of a turn: as which side its text is described, and how the sentences begin."""
SUBJECT: dict[Side, str] = {"query": "The query", "response": "The response"}
MOST = 2500
"""Attributes of a part."""
MOST_SYSTEMS = 500
"""System prompts quoted whole."""
QUOTED = 120
"""Characters of one that are shown."""
NEWEST = 8
"""Turns of a part that are read, the newest."""
LONGEST = 8000
"""Characters of a turn that are read."""
LEARNED = 60_000
"""Turns that the vocabulary of a part is learned from."""
COUNTS = (
    ("The conversation has a system prompt", "system", 1),
    ("The conversation has an earlier user turn", "user", 1),
    ("The conversation has two or more earlier user turns", "user", 2),
    ("The conversation has four or more earlier user turns", "user", 4),
)
"""Sentence, role, and least turns of it."""


@dataclass(frozen=True)
class Turns:
    """The turns of one role over n histories."""

    texts: list[str]
    """Distinct, (d,)."""
    held: sparse.csr_matrix
    """Which history has which, (n, d)."""
    counts: NDArray[np.int64]
    """Turns of that role in each history, those left out too, (n,)."""


def read_turns(histories: Iterable[str]) -> dict[str, Turns]:
    """Part n histories (JSON lists of role and content) by role.

    Raises:
        UsageError: one is no such list.
    """
    said: dict[str, list[list[str]]] = {role: [] for role in PARTS}
    for history in histories:
        turns = _turns(history)
        for role, of_role in said.items():
            of_role.append([text for who, text in turns if who == role])
    return {role: _distinct(of_role) for role, of_role in said.items()}


def _turns(history: str) -> list[tuple[str, str]]:
    try:
        read = json.loads(history or "[]")
        turns = [(str(turn["role"]), turn["content"]) for turn in read]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"history {history[:60]!r}: no JSON list of role and content") from None
    return [("system" if role == "developer" else role, text) for role, text in turns if _text(text)]


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _distinct(said: Sequence[list[str]]) -> Turns:
    kept = [[text[:LONGEST] for text in texts[-NEWEST:]] for texts in said]
    number = {text: i for i, text in enumerate(dict.fromkeys(chain.from_iterable(kept)))}
    rows = np.repeat(np.arange(len(kept)), [len(texts) for texts in kept])
    columns = np.array([number[text] for texts in kept for text in texts], np.int64)
    cells = (np.ones(len(rows), np.bool_), (rows, columns))
    held = sparse.csr_matrix(cells, shape=(len(kept), len(number)))
    return Turns(list(number), held, np.array([len(texts) for texts in said], np.int64))


@dataclass(frozen=True)
class Part:
    """The vocabulary of one role."""

    extractor: LocalExtractor
    """Of one side."""
    columns: NDArray[np.int64]
    """Those of its columns that are kept, (k,)."""


@dataclass(frozen=True)
class HistoryExtractor:
    """Describes what stands before a query."""

    systems: list[str]
    """System prompts that are quoted whole."""
    parts: dict[str, Part]
    """By role, those that occur."""

    @classmethod
    def fit(cls, table: pa.Table, seed: int = 0) -> HistoryExtractor:
        """Learn what the histories of a corpus say.

        Args:
            table: columns history and response, and source where known.
            seed: fixes the turns that are learned from.
        """
        turns = read_turns(table["history"].to_pylist())
        least = least_rows(len(table))
        rows = np.asarray(turns["system"].held.sum(axis=0)).ravel()
        common = [int(i) for i in np.argsort(-rows, kind="stable")[:MOST_SYSTEMS] if rows[i] >= least]
        systems = [turns["system"].texts[i] for i in common]
        told = _systems(turns["system"], systems)
        parts = {}
        for role, of_role in turns.items():
            if of_role.texts:
                parts[role] = _learn(of_role, table, role, seed, least, told if role == "system" else None)
        return cls(systems, parts)

    @cached_property
    def vocabulary(self) -> list[Entry]:
        """All attributes; entry j is column j of :meth:`transform`."""
        entries = [Entry(sentence, "history") for sentence, _, _ in COUNTS]
        entries += [Entry(f"The system prompt is '{_quote(text)}'", "history") for text in self.systems]
        for role, part in self.parts.items():
            side, subject = PARTS[role]
            known = part.extractor.vocabulary(side)
            for column in part.columns:
                text = known[column].text.replace(SUBJECT[side], subject, 1)
                entries.append(Entry(text, known[column].kind))
        return entries

    def transform(self, histories: Sequence[str]) -> sparse.csr_matrix:
        """Say which attributes hold: boolean (n, m), columns in the order of :attr:`vocabulary`."""
        turns = read_turns(histories)
        counted = np.stack([turns[role].counts >= least for _, role, least in COUNTS], axis=1)
        blocks = [sparse.csr_matrix(counted), _systems(turns["system"], self.systems)]
        for role, part in self.parts.items():
            blocks.append(_any_turn(turns[role], part.extractor, PARTS[role][0])[:, part.columns])
        return sparse.csr_matrix(sparse.hstack(blocks, format="csr", dtype=np.bool_))

    def save(self, folder: Path) -> None:
        """Write the vocabulary into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for role, part in self.parts.items():
            part.extractor.save(folder / role)
            np.save(folder / role / "columns.npy", part.columns, allow_pickle=False)
        said = {"format": FORMAT, "systems": self.systems, "parts": list(self.parts)}
        (folder / "history.json").write_text(json.dumps(said, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> HistoryExtractor:
        """Read what :meth:`save` wrote.

        Raises:
            UsageError: the files are missing or of another format.
        """
        try:
            said = json.loads((folder / "history.json").read_text("utf-8"))
            parts = {
                role: Part(
                    LocalExtractor.load(folder / role),
                    np.load(folder / role / "columns.npy", allow_pickle=False),
                )
                for role in said["parts"]
            }
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{folder}: not readable ({error}); build the index again") from error
        if said["format"] != FORMAT:
            raise UsageError(f"{folder}: format {said['format']} is not {FORMAT}; build the index again")
        return cls(said["systems"], parts)


def _learn(
    turns: Turns, table: pa.Table, role: str, seed: int, least: int, told: sparse.csr_matrix | None
) -> Part:
    """Learn the vocabulary of a role; ``told`` is what its rows are already described by, (n, t)."""
    side, _ = PARTS[role]
    row, text = turns.held.nonzero()
    some = np.sort(np.random.default_rng(seed).permutation(len(row))[:LEARNED])
    taken = table.take(pa.array(row[some]))
    said = as_strings(turns.texts).take(pa.array(text[some]))
    extractor = learn_side(said, taken, side, seed)
    found = _any_turn(turns, extractor, side)
    kept = _apart(found, least, turns.counts, told)
    kinds = [entry.kind for entry in extractor.vocabulary(side)]
    counts = np.diff(sparse.csc_matrix(found).indptr)
    mined = np.array([kinds[i] in ("phrase", "topic") for i in kept], np.bool_)
    rank = np.lexsort((kept, -counts[kept], mined))
    return Part(extractor, np.sort(kept[rank][:MOST]))


def _any_turn(turns: Turns, extractor: LocalExtractor, side: Side) -> sparse.csr_matrix:
    """Say which attributes hold for a turn of each history, (n, m)."""
    of_text = sparse.csr_matrix(np.zeros((0, len(extractor.vocabulary(side))), np.int32))
    if turns.texts:
        of_text = extractor.transform(turns.texts, side).astype(np.int32)
    held = turns.held.astype(np.int32) @ of_text
    return sparse.csr_matrix(held, dtype=np.bool_)


def _apart(
    held: sparse.csr_matrix, least: int, counts: NDArray[np.int64], told: sparse.csr_matrix | None
) -> NDArray[np.int64]:
    """Find the columns in enough rows that no earlier column, nor what is ``told``, has the rows of."""
    known = sparse.csr_matrix(np.stack([counts >= n for n in (1, 2, 4)], axis=1))
    first = sparse.csc_matrix(sparse.hstack([known, told] if told is not None else [known], dtype=np.bool_))
    rng = np.random.default_rng(0)
    marks = rng.integers(1, 2**62, (held.shape[0], 2), dtype=np.int64).astype(np.uint64)
    seen = {tuple(key) for key in _keys(first, marks).tolist()}
    columns = sparse.csc_matrix(held)
    kept = []
    for column, key in enumerate(map(tuple, _keys(columns, marks).tolist())):
        if columns.indptr[column + 1] - columns.indptr[column] >= least and key not in seen:
            seen.add(key)
            kept.append(column)
    return np.array(kept, np.int64)


def _keys(columns: sparse.csc_matrix, marks: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Sum the marks of each column's rows: equal for equal rows, and for others by a chance of 2⁻¹²⁴."""
    running = np.zeros((columns.nnz + 1, marks.shape[1]), np.uint64)
    np.cumsum(marks[columns.indices], axis=0, out=running[1:])
    sums: NDArray[np.uint64] = running[columns.indptr[1:]] - running[columns.indptr[:-1]]
    return sums


def _systems(turns: Turns, systems: Sequence[str]) -> sparse.csr_matrix:
    """Say which histories have which of the quoted system prompts, (n, s)."""
    number = {text: i for i, text in enumerate(systems)}
    known = [(i, number[text]) for i, text in enumerate(turns.texts) if text in number]
    at = np.array(known, np.int64).reshape(-1, 2)
    cells = (np.ones(len(at), np.int32), (at[:, 0], at[:, 1]))
    of_text = sparse.csr_matrix(cells, shape=(len(turns.texts), len(systems)))
    return sparse.csr_matrix(turns.held.astype(np.int32) @ of_text, dtype=np.bool_)


def _quote(text: str) -> str:
    shown = clean(text)
    return shown if len(shown) <= QUOTED else f"{shown[:QUOTED].rstrip()}…"
