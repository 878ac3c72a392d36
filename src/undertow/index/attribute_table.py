"""The table of a side's attributes; row i is column i of the incidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from undertow.index.incidence import Incidence

if TYPE_CHECKING:
    import pyarrow as pa


def attribute_table(texts: Sequence[str], kinds: Sequence[str], incidence: Incidence) -> pa.Table:
    """Tabulate attributes: id, text, kind, count (rows that have it)."""
    import pyarrow as pa

    return pa.table(
        {
            "id": pa.array(np.arange(incidence.m), pa.int64()),
            "text": pa.array(texts, pa.string()),
            "kind": pa.array(kinds, pa.string()),
            "count": pa.array(incidence.counts, pa.int64()),
        }
    )


def alone(table: pa.Table) -> pa.Table:
    """Add columns cluster and label that make each attribute its own cluster."""
    import pyarrow as pa

    kind = np.uint16 if table.num_rows <= np.iinfo(np.uint16).max + 1 else np.uint32
    table = table.append_column("cluster", pa.array(np.arange(table.num_rows).astype(kind)))
    return table.append_column("label", table["text"])
