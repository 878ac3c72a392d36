"""What stands before the queries of an index, as it lies on disk and a trace reads it.

The local extractor describes it in every index, one whose attributes a model wrote too: the model sees the
turns before a query and need not say what stands in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.errors import UsageError
from undertow.index.incidence import Incidence
from undertow.store.tables import read_table

if TYPE_CHECKING:
    from undertow.attributes.history import HistoryExtractor

FOLDER = "history"
"""Where it lies in an index."""


@dataclass(frozen=True)
class IndexedHistory:
    """What an index says of the turns before its queries."""

    folder: Path
    """``history`` of the index."""
    texts: list[str]
    """Sentence of each attribute, (h,)."""
    kinds: list[str]
    """Family of each, (h,)."""
    rows: Incidence
    """Which attribute holds for which example, (n, h)."""

    @cached_property
    def extractor(self) -> HistoryExtractor:
        """Describe new histories."""
        from undertow.attributes.history import HistoryExtractor

        return HistoryExtractor.load(self.folder / "extractor")

    @classmethod
    def load(cls, folder: Path, n: int) -> IndexedHistory | None:
        """Open the histories in ``folder``; ``None`` where the index has none.

        Raises:
            UsageError: they are damaged.
        """
        if not folder.exists():
            return None
        table = read_table(folder / "attributes.parquet", ["text", "kind"])
        rows = Incidence.load(folder / "incidence")
        if (rows.n, rows.m) != (n, len(table)):
            raise UsageError(f"{folder}: not of this index's rows; build the index again with --fresh")
        return cls(folder, table["text"].to_pylist(), table["kind"].to_pylist(), rows)
