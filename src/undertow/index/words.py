"""The content words of an index's queries, as they lie on disk: what a trace joins into topics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from undertow.index.incidence import Incidence
from undertow.store.tables import read_table


@dataclass(frozen=True)
class IndexedWords:
    """W words of n queries."""

    words: tuple[str, ...]
    """In lower case, (W,)."""
    rows: Incidence
    """(n, W)."""

    @cached_property
    def number(self) -> dict[str, int]:
        """Column of each word."""
        return {word: i for i, word in enumerate(self.words)}

    @classmethod
    def load(cls, folder: Path) -> IndexedWords | None:
        """Open the words in ``folder``; ``None`` where the index has none.

        Raises:
            UsageError: they are damaged.
        """
        if not (folder / "words.parquet").exists():
            return None
        words = read_table(folder / "words.parquet", ["word"])["word"].to_pylist()
        return cls(tuple(words), Incidence.load(folder))
