"""Exact top-k by cosine over fp16 shards: no approximation, every vector is read.

One pass serves all queries: each block of the shards is scored against every query before the next block.
Blocks go to threads, because faiss itself parallelises over queries only. faiss reads fp16 codes at close to
memory bandwidth, where its fp32 flat index needs twice the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 131_072
ABOVE_ROWS = 16_384
"""Rows that :meth:`Scanner.above` turns into fp32 at once: what stays in the cache."""


class Scanner:
    """Scores queries against the rows of fp16 shards. Holds one copy of the codes, made at first use."""

    def __init__(self, shards: Sequence[NDArray[np.float16]], threads: int | None = None) -> None:
        """Take (n_i, d) unit-row shards, in order; row ids count through them."""
        self._shards = [shard for shard in shards if len(shard)]
        self._threads = threads or min(os.cpu_count() or 1, 16)
        self._blocks: list[tuple[int, Any]] | None = None

    @property
    def rows(self) -> int:
        """Vectors over all shards."""
        return sum(len(shard) for shard in self._shards)

    def _open(self) -> list[tuple[int, Any]]:
        if self._blocks is None:
            blocks, offset = [], 0
            for shard in self._shards:
                for start in range(0, len(shard), BLOCK_ROWS):
                    blocks.append((offset + start, _codes(shard[start : start + BLOCK_ROWS])))
                offset += len(shard)
            self._blocks = blocks
        return self._blocks

    def top_k(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the k most similar rows of each query.

        Args:
            queries: (Q, d) unit rows.
            k: how many; the number of rows if that is smaller.

        Returns:
            (Q, k) cosines, descending, and (Q, k) row ids. Equal cosines come by ascending row id; whoever
            cuts through a tie must break it, see :func:`undertow.turf.retrieve.retrieve`.
        """
        import faiss

        k = min(k, self.rows)
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        queries = np.ascontiguousarray(queries, dtype=np.float32)

        def search(block: tuple[int, Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            faiss.omp_set_num_threads(1)
            offset, index = block
            scores, ids = index.search(queries, min(k, index.ntotal))
            return scores, ids + offset

        blocks = self._open()
        with ThreadPoolExecutor(min(self._threads, len(blocks))) as pool:
            found = list(pool.map(search, blocks))
        scores = np.concatenate([part for part, _ in found], axis=1)
        ids = np.concatenate([part for _, part in found], axis=1)
        order = np.lexsort((ids, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)

    def above(
        self, query: NDArray[np.float32], threshold: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find every row at least as similar to one query as ``threshold``.

        Args:
            query: (d,) unit row.
            threshold: cosine.

        Returns:
            ids and their cosines, most similar first, the lower id first among equals.
        """
        query = np.ascontiguousarray(query, np.float32)
        found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        offset = 0
        for shard in self._shards:
            for start in range(0, len(shard), ABOVE_ROWS):
                scores = shard[start : start + ABOVE_ROWS].astype(np.float32) @ query
                rows = np.flatnonzero(scores >= threshold)
                found.append((rows + offset + start, scores[rows]))
            offset += len(shard)
        ids = np.concatenate([part for part, _ in found] or [np.zeros(0, np.int64)])
        cosines = np.concatenate([part for _, part in found] or [np.zeros(0, np.float32)])
        order = np.lexsort((ids, -cosines))
        return ids[order], cosines[order]


def _codes(rows: NDArray[np.float16]) -> Any:
    """Wrap fp16 rows as a faiss index: its codes are the rows' own bytes, so nothing is re-encoded."""
    import faiss

    rows = np.ascontiguousarray(rows)
    index = faiss.IndexScalarQuantizer(
        rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.is_trained = True
    faiss.copy_array_to_vector(rows.view(np.uint8).ravel(), index.codes)
    index.ntotal = len(rows)
    return index
