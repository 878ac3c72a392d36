"""The extractor without a language model: surface properties, mined phrases and templates, topics.

It is fitted on a corpus and then says of any text which attributes hold, every one of them. Departure from
the paper (references §4.1 takes ten attributes a text from an LLM): exact, complete and some thousand
examples a second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.fit import (
    WORKERS,
    Entry,
    Lexis,
    Reading,
    SideModel,
    batches_of,
    build_side,
    families_of,
    groups,
    learn_lexis,
    mine_side,
    parallel,
    read_column,
    response_types,
)
from undertow.attributes.hashtable import HashTable, sorted_unique
from undertow.attributes.mine import least_rows, sample_rows, split_rows
from undertow.attributes.streams import Words, find_grams, names, words
from undertow.attributes.surface import surface, surface_names
from undertow.attributes.text import TextBatch, as_strings
from undertow.attributes.topics import Topics
from undertow.errors import UsageError
from undertow.models.base import Embedder
from undertow.progress import SILENT, Progress
from undertow.records import Side

FORMAT = 5
"""Version of the saved files."""
MINE_ROWS = 120_000
"""Rows that vocabulary is mined from; larger corpora are sampled by source."""
LEXIS_ROWS = 20_000
"""Rows that spelling and language are learned from."""
SIDES: tuple[Side, ...] = ("query", "response")
Cells = tuple[NDArray[np.integer], NDArray[np.integer]]
"""Rows and columns that hold."""


@dataclass(frozen=True)
class LocalExtractor:
    """A fitted vocabulary of both sides."""

    lexis: Lexis
    """Spelling and language of the corpus's words."""
    sides: dict[Side, SideModel]
    """Vocabulary of each side; of one alone where :func:`learn_side` made it."""
    seed: int
    """Seed it was fitted with."""

    @property
    def name(self) -> str:
        """Key of the extractor in manifests."""
        return f"local-{FORMAT}"

    @classmethod
    def fit(
        cls,
        table: pa.Table,
        seed: int = 0,
        progress: Progress = SILENT,
        embedder: Embedder | None = None,
    ) -> LocalExtractor:
        """Learn the vocabulary of a corpus.

        Args:
            table: Columns prompt and response, and source where known.
            seed: Fixes the rows sampled from large corpora and the topics.
            progress: Told about each step.
            embedder: Groups the corpus's words by meaning; ``None``: no such groups.
        """
        return _learn(table, seed, progress, embedder, whole=False)[0]

    @classmethod
    def fit_transform(
        cls,
        table: pa.Table,
        seed: int = 0,
        progress: Progress = SILENT,
        embedder: Embedder | None = None,
    ) -> tuple[LocalExtractor, dict[Side, sparse.csr_matrix]]:
        """Learn the vocabulary and say which of it holds, as :meth:`fit` and :meth:`transform` one by one.

        Up to :data:`MINE_ROWS` rows are read once instead of twice.
        """
        extractor, readings = _learn(table, seed, progress, embedder, whole=True)
        if readings:
            return extractor, {side: _held(extractor.sides[side], readings[side]) for side in SIDES}
        columns = zip(SIDES, (table["prompt"], table["response"]), strict=True)
        return extractor, {side: extractor.transform(texts, side) for side, texts in columns}

    def vocabulary(self, side: Side) -> list[Entry]:
        """All attributes of a side; entry j is column j of :meth:`transform`."""
        return self.sides[side].entries

    def transform(self, texts: Sequence[str] | pa.ChunkedArray | pa.Array, side: Side) -> sparse.csr_matrix:
        """Say which attributes hold: boolean (n, m), columns in the order of :meth:`vocabulary`."""
        column = as_strings(texts)
        model = self.sides[side]

        def work(unit: tuple[int, pa.Array]) -> sparse.csr_matrix:
            return _incidence(model, self.lexis, unit[1])

        parts = list(parallel(work, groups(column)))
        return sparse.csr_matrix(sparse.vstack(parts, format="csr", dtype=np.bool_))

    def save(self, folder: Path) -> None:
        """Write ``extractor.json`` and ``extractor.npz`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[Any]] = {
            "lowercase": self.lexis.lowercase.keys,
            "english": self.lexis.english.keys,
        }
        meta: dict[str, object] = {"format": FORMAT, "seed": self.seed}
        for side, model in self.sides.items():
            for number, table in enumerate([*model.tables, model.phrases]):
                arrays[f"{side}.{number}.keys"] = np.repeat(table.keys, np.diff(table.bounds))
                arrays[f"{side}.{number}.values"] = table.values
            for part in ("terms", "idf", "components", "centroids"):
                arrays[f"{side}.topics.{part}"] = getattr(model.topics, part)
            meta[side] = {
                "entries": [[entry.text, entry.kind] for entry in model.entries],
                "topics": model.topics.names,
            }
        np.savez(folder / "extractor.npz", **arrays)  # type: ignore[arg-type]
        (folder / "extractor.json").write_text(json.dumps(meta, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> LocalExtractor:
        """Read what :meth:`save` wrote.

        Raises:
            UsageError: The files are missing or of another format.
        """
        try:
            meta = json.loads((folder / "extractor.json").read_text("utf-8"))
            with np.load(folder / "extractor.npz", allow_pickle=False) as stored:
                arrays = dict(stored)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{folder}: no readable extractor there ({error}); build the index again"
            ) from error
        if meta.get("format") != FORMAT:
            raise UsageError(
                f"{folder}: extractor format {meta.get('format')} is not {FORMAT}; build the index again"
            )
        lexis = Lexis(HashTable.from_sets([arrays["lowercase"]]), HashTable.from_sets([arrays["english"]]))
        return cls(
            lexis,
            {side: _load_side(side, meta[side], arrays) for side in SIDES if side in meta},
            meta["seed"],
        )


def _learn(
    table: pa.Table, seed: int, progress: Progress, embedder: Embedder | None, whole: bool
) -> tuple[LocalExtractor, dict[Side, Reading]]:
    """Fit; with ``whole`` also return what was read of each side, if that was every row and property."""
    rng = np.random.default_rng(seed)
    sources = _source_numbers(table)
    rows = sample_rows(len(table), MINE_ROWS, sources, rng)
    whole = whole and len(rows) == len(table)
    few = np.sort(rng.permutation(rows)[:LEXIS_ROWS])
    columns = {
        side: as_strings(table[name]) for side, name in zip(SIDES, ("prompt", "response"), strict=True)
    }
    least = least_rows(len(rows))
    with progress.task("learn the vocabulary", 5) as task:
        lexis = learn_lexis([columns[side].take(pa.array(few)) for side in SIDES])
        task.advance(note="words")
        texts = {side: columns[side].take(pa.array(rows)) for side in SIDES}
        readings = {
            side: read_column(texts[side], side, lexis, whole or side == "response") for side in SIDES
        }
        task.advance(2, note="templates")
        mined = {side: mine_side(readings[side], side, least) for side in SIDES}
        types = response_types(readings["response"], len(rows), mined["response"], least)

        def build(side: Side) -> SideModel:
            return build_side(
                side,
                texts[side],
                readings[side],
                mined[side],
                lexis,
                sources[rows],
                types,
                [Entry(text, kind) for kind, text in surface_names(side)],
                least,
                seed,
                embedder,
            )

        with ThreadPoolExecutor(len(SIDES)) as pool:
            sides = dict(zip(SIDES, pool.map(build, SIDES), strict=True))
        task.advance(2, note="phrases")
    return LocalExtractor(lexis, sides, seed), readings if whole else {}


def learn_side(texts: pa.Array, table: pa.Table, side: Side, seed: int) -> LocalExtractor:
    """Learn the vocabulary of texts of one side alone.

    Args:
        texts: n texts.
        table: response, and source where known, of the row that each text belongs to, (n,): a phrase is kept
            for standing more often in one source, or before one kind of response.
        side: as what the texts are described.
        seed: fixes the topics.
    """
    least = least_rows(len(texts))
    lexis = learn_lexis([texts.slice(0, LEXIS_ROWS)])
    reading = read_column(texts, side, lexis, with_surface=False)
    answers = read_column(as_strings(table["response"]), "response", lexis, with_surface=True)
    types = response_types(answers, len(texts), mine_side(answers, "response", least), least)
    mined, sources = mine_side(reading, side, least), _source_numbers(table)
    entries = [Entry(text, kind) for kind, text in surface_names(side)]
    model = build_side(side, texts, reading, mined, lexis, sources, types, entries, least, seed, None)
    return LocalExtractor(lexis, {side: model}, seed)


def _load_side(side: Side, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> SideModel:
    tables = [
        HashTable.build(arrays[f"{side}.{number}.keys"], arrays[f"{side}.{number}.values"])
        for number in range(len(families_of(side)) + 1)
    ]
    parts = {part: arrays[f"{side}.topics.{part}"] for part in ("terms", "idf", "components", "centroids")}
    entries = [Entry(text, kind) for text, kind in meta["entries"]]
    return SideModel(side, entries, tables[:-1], tables[-1], Topics(**parts, names=meta["topics"]))


def _source_numbers(table: pa.Table) -> NDArray[np.int64]:
    if "source" not in table.column_names or not len(table):
        return np.zeros(len(table), np.int64)
    encoded = table["source"].combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.fill_null(0)).astype(np.int64)


def _incidence(model: SideModel, lexis: Lexis, strings: pa.Array) -> sparse.csr_matrix:
    """Attributes of some texts, (n, m)."""
    parts = batches_of(strings)
    held = surface(strings, [batch for _, batch in parts], model.side, lexis.english)[1]
    found = [_shifted(_mined(model, lexis, batch), first) for first, batch in parts]
    return _matrix([_cells(held), *found], len(strings), len(model.entries))


def _held(model: SideModel, reading: Reading) -> sparse.csr_matrix:
    """Attributes of texts that were read already, surface included, (n, m)."""
    assert reading.surface is not None  # noqa: S101 - narrowed by the caller
    n, m = len(reading.surface), len(model.entries)
    found: list[Cells] = [_cells(reading.surface)]
    for occurrences, table in zip(reading.found, model.tables, strict=True):
        at, column = table.find(occurrences.hashes)
        found.append((occurrences.rows[at], column))
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = pool.map(
            lambda part: _shifted(_worded(model, *part[1:]), part[0]), split_rows(reading.words, n)
        )
        return _matrix([*found, *parts], n, m)


def _cells(held: NDArray[np.bool_]) -> Cells:
    row, column = np.nonzero(held)
    return row, column


def _shifted(cells: Cells, first: int) -> Cells:
    return cells[0].astype(np.int64) + first, cells[1]


def _matrix(found: Sequence[Cells], n: int, m: int) -> sparse.csr_matrix:
    """Boolean (n, m) from (rows, columns), in any order and with repeats."""
    distinct = sorted_unique(np.concatenate([row.astype(np.int64) * m + column for row, column in found]))
    row, column = np.divmod(distinct, m)
    pointer = np.searchsorted(row, np.arange(n + 1))
    ones = np.ones(len(column), np.bool_)
    return sparse.csr_matrix((ones, column.astype(np.int32), pointer), shape=(n, m))


def _mined(model: SideModel, lexis: Lexis, batch: TextBatch) -> Cells:
    """(rows, columns) of the mined attributes of one batch, repeats included."""
    is_name = names(batch, lexis.lowercase)
    parts = [_worded(model, words(batch), len(batch))]
    for family, table in zip(families_of(model.side), model.tables, strict=True):
        found = family.find(batch, is_name)
        at, column = table.find(found.hashes)
        parts.append((found.rows[at], column))
    rows, columns = zip(*parts, strict=True)
    return np.concatenate(rows).astype(np.int64), np.concatenate(columns).astype(np.int64)


def _worded(model: SideModel, stream: Words, n: int) -> Cells:
    """(rows, columns) of the phrases and topics of n texts."""
    row, column = find_grams(stream, model.phrases)
    topic = model.topics.assign(stream, n)
    first = len(model.entries) - len(model.topics.names)
    some = np.flatnonzero(topic >= 0)
    return np.concatenate([row, some]), np.concatenate([column, topic[some] + first])
