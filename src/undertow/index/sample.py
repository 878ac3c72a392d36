"""The rows that vocabulary is learned from, read without the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from undertow.attributes.local import MINE_ROWS
from undertow.attributes.mine import sample_rows

if TYPE_CHECKING:
    import pyarrow as pa


def sampled(path: Path, seed: int) -> pa.Table:
    """Read at most some ``MINE_ROWS`` examples, each source in proportion.

    Columns source, prompt, response, and history where the data has it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=True) as file:
        there = file.schema_arrow.names
        columns = [name for name in ("source", "prompt", "response", "history") if name in there]
        source = file.read(columns=["source"])["source"].combine_chunks().dictionary_encode()
        groups = np.asarray(source.indices).astype(np.int64)
        rows = sample_rows(len(groups), MINE_ROWS, groups, np.random.default_rng(seed))
        parts, first = [], 0
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, columns=columns)
            low, high = np.searchsorted(rows, [first, first + len(part)])
            parts.append(part.take(pa.array(rows[low:high] - first)))
            first += len(part)
    return pa.concat_tables(parts)
