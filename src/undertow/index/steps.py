"""The steps of a build that work shard by shard, wherever they run.

Each reads files of finished stages and writes files; its fields are all that shapes them. None keeps anything
from one shard to the next but what it has read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undertow.index.incidence import Incidence
from undertow.index.open import SIDES
from undertow.records import Side
from undertow.store.tables import write_shard

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.attributes.content import Lexicon
    from undertow.attributes.local import LocalExtractor
    from undertow.models.base import Embedder

TEXT = {"query": "prompt", "response": "response"}
"""Column that holds the text of each side."""


@dataclass(frozen=True)
class Extract:
    """Say which attributes of a fitted local extractor, and which words, hold for the rows of a shard."""

    rows: int
    """Rows of a shard: also the row groups of ``examples.parquet``."""
    name: str = "extract"
    """Of the stage."""

    def make(self, run: Path, number: int, folder: Path) -> dict[str, Any]:
        """Write the rows of each side's incidence, and of the queries' words."""
        learned = run / "stages" / "vocabulary"
        extractor, lexicon = _learned(learned, (learned / "done.json").stat().st_mtime_ns)
        table = read_rows(run / "stages" / "load" / "examples.parquet", number, list(TEXT.values()))
        said: dict[str, Any] = {"rows": table.num_rows}
        for side in SIDES:
            held = Incidence.from_matrix(extractor.transform(table[TEXT[side]], side))
            held.save_rows(folder / side)
            said[f"{side}_pairs"] = held.nnz
        Incidence.from_matrix(lexicon.rows(table["prompt"])).save_rows(folder / "words")
        return said


@dataclass(frozen=True)
class Histories:
    """Say which attributes hold for what stands before the queries of a shard's rows."""

    rows: int
    """Rows of a shard: also the row groups of ``examples.parquet``."""
    name: str = "history"
    """Of the stage."""

    def make(self, run: Path, number: int, folder: Path) -> dict[str, Any]:
        """Write the rows of the histories' incidence."""
        from undertow.attributes.history import HistoryExtractor

        extractor = HistoryExtractor.load(run / "stages" / "history-vocabulary" / "extractor")
        table = read_rows(run / "stages" / "load" / "examples.parquet", number, ["history"])
        held = Incidence.from_matrix(extractor.transform(table["history"].to_pylist()))
        held.save_rows(folder)
        return {"rows": table.num_rows, "pairs": held.nnz}


@dataclass(frozen=True)
class Embed:
    """Embed the distinct attributes of a side, a shard of them."""

    side: Side
    """Whose attributes."""
    rows: int
    """Attributes of a shard: also the row groups of the side's attributes."""
    embedder: str
    """Embedder spec."""

    @property
    def name(self) -> str:
        """Name of the stage."""
        return f"embed-{self.side}"

    def make(self, run: Path, number: int, folder: Path) -> dict[str, Any]:
        """Write the vectors as one fp16 shard."""
        file = run / "stages" / "extract" / f"{self.side}_attributes.parquet"
        texts = read_rows(file, number, ["text"])["text"].to_pylist()
        embedder = _embedder(self.embedder)
        vectors = embedder.embed(texts) if texts else np.empty((0, embedder.dim), np.float32)
        write_shard(vectors, folder / f"{number:05d}.npy")
        return {"rows": len(texts), "embedder": embedder.name, "dim": embedder.dim}


def read_rows(path: Path, group: int, columns: list[str]) -> pa.Table:
    """Read one row group of a Parquet file; a file without rows has an empty first one."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=True) as file:
        if not file.num_row_groups and not group:
            return file.read(columns=columns)
        return file.read_row_group(group, columns=columns)


def forget() -> None:
    """Drop the models that were read for the last shard."""
    _learned.cache_clear()
    _embedder.cache_clear()


@lru_cache(maxsize=1)
def _learned(folder: Path, written: int) -> tuple[LocalExtractor, Lexicon]:
    from undertow.attributes.content import Lexicon
    from undertow.attributes.local import LocalExtractor

    return LocalExtractor.load(folder / "extractor"), Lexicon.load(folder / "words.parquet")


@lru_cache(maxsize=1)
def _embedder(spec: str) -> Embedder:
    from undertow.models.embed import open_embedder

    return open_embedder(spec)
