"""Exact top-k by cosine over fp16 shards: no approximation, every vector is read.

One pass serves all queries: a block of rows is scored against every query while it lies in the cache.
Blocks go to threads, because faiss itself parallelises over queries only, and are read where they lie, mapped
files too: faiss multiplies fp16 codes near memory bandwidth, where its fp32 index needs twice the bytes.

Fp32 products only choose candidates. These are scored again in float64, so that order and ties are the rows'
own and do not depend on threads, blocks or shards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 8192
"""Rows that every query is scored against before the next: they stay in the cache of a core."""
LONE_ROWS = 32_768
"""Rows of a block where one query reads them: nothing is read twice, so fewer and larger blocks."""
CUDA_ROWS = 1_048_576
"""Rows scored at once on a GPU."""
SPARE = 64
"""Candidates over the k wanted, so that rounding at the k-th cosine seldom needs a second pass."""

Pairs = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores and row ids."""


class Scanner:
    """Scores queries against the rows of fp16 shards; the rows are read in place, never copied."""

    def __init__(
        self, shards: Sequence[NDArray[np.float16]], threads: int | None = None, device: str = "cpu"
    ) -> None:
        """Take (n_i, d) unit-row shards, in order; row ids count through them.

        Args:
            shards: fp16 arrays, mapped files or in memory.
            threads: on a CPU; by default one a core, at most 16.
            device: ``cpu``, or a torch device on which ``top_k`` chooses candidates.
        """
        self._shards = [np.ascontiguousarray(shard) for shard in shards if len(shard)]
        self._starts = np.cumsum([0, *map(len, self._shards)])
        self._threads = threads or min(os.cpu_count() or 1, 16)
        self._device = device

    @property
    def rows(self) -> int:
        """Vectors over all shards."""
        return int(self._starts[-1])

    def top_k(self, queries: NDArray[np.float32], k: int) -> Pairs:
        """Find the k most similar rows of each query.

        Args:
            queries: (Q, d) unit rows.
            k: how many; the number of rows if that is smaller.

        Returns:
            (Q, k) cosines, descending, and (Q, k) row ids. Equal cosines come by ascending row id; whoever
            cuts through a tie must break it, see :func:`undertow.turf.retrieve.retrieve`.
        """
        k = min(k, self.rows)
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        room = min(self.rows, k + SPARE + k // 16)
        scores, ids = (self._nearest if self._device == "cpu" else self._nearest_by_torch)(queries, room)
        best = [self._settle(query, k, found) for query, *found in zip(queries, scores, ids, strict=True)]
        return np.stack([cosines for cosines, _ in best]), np.stack([rows for _, rows in best])

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
        ids = self._over(query, threshold - _rounding(query))
        exact = self._exact(query, ids)
        kept = exact >= threshold
        ids, exact = ids[kept], exact[kept]
        order = np.lexsort((ids, -exact))
        return ids[order], exact[order].astype(np.float32)

    def _settle(self, query: NDArray[np.float32], k: int, found: Sequence[Any]) -> Pairs:
        """Order candidates by their exact cosine; look again where rounding could have hidden one."""
        scores, ids = found
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        least = float(kth) - 2 * _rounding(query)
        if len(ids) < self.rows and scores.min() >= least:
            ids = self._over(query, least)
        exact = self._exact(query, ids)
        order = np.lexsort((ids, -exact))[:k]
        return exact[order].astype(np.float32), ids[order]

    def _exact(self, query: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Float64 cosines of some rows; equal rows have equal ones."""
        shard_of = np.searchsorted(self._starts, ids, side="right") - 1
        out = np.empty(len(ids))
        for number in np.unique(shard_of):
            (at,) = np.nonzero(shard_of == number)
            for part in np.array_split(at, 1 + len(at) // BLOCK_ROWS):
                rows = self._shards[number][ids[part] - self._starts[number]].astype(np.float64)
                out[part] = (rows * query.astype(np.float64)).sum(axis=1)
        return out

    def _blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """(first row id, rows) of each block, in order."""
        for first, shard in zip(self._starts[:-1], self._shards, strict=True):
            for start in range(0, len(shard), size):
                yield int(first) + start, shard[start : start + size]

    def _on_threads(self, make: Any, queries: int) -> list[Any]:
        """Let threads take blocks off one list, each with its own state; return the states."""
        blocks, lock = self._blocks(LONE_ROWS if queries == 1 else BLOCK_ROWS), Lock()

        def work(_: int) -> Any:
            state = make()
            while True:
                with lock:
                    block = next(blocks, None)
                if block is None:
                    state.close()
                    return state
                state.read(*block)

        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(work, range(self._threads)))

    def _nearest(self, queries: NDArray[np.float32], k: int) -> Pairs:
        """Find (Q, k) fp32 scores and ids, unordered: the best of every thread's best."""
        states = self._on_threads(lambda: _Heaps(queries, k), len(queries))
        scores = np.concatenate([state.scores for state in states], axis=1)
        ids = np.concatenate([state.ids for state in states], axis=1)
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        return np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)

    def _over(self, query: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
        """Ids of all rows with an fp32 score over the threshold."""
        if not self._shards:
            return np.zeros(0, np.int64)
        states = self._on_threads(lambda: _Over(query, threshold), 1)
        return np.concatenate([state.ids() for state in states])

    def _nearest_by_torch(self, queries: NDArray[np.float32], k: int) -> Pairs:
        """:meth:`_nearest` on a torch device, which holds one part of the rows at a time, in fp32."""
        import torch

        asked = torch.from_numpy(queries).to(self._device)
        scores = torch.full((len(queries), 0), 0.0, device=self._device)
        ids = torch.full((len(queries), 0), 0, dtype=torch.int64, device=self._device)
        for first, shard in zip(self._starts[:-1], self._shards, strict=True):
            for start in range(0, len(shard), CUDA_ROWS):
                rows = torch.from_numpy(np.array(shard[start : start + CUDA_ROWS])).to(self._device)
                new = asked @ rows.float().T
                best, at = new.topk(min(k, new.shape[1]), dim=1)
                scores, ids = torch.cat([scores, best], 1), torch.cat([ids, at + int(first) + start], 1)
                scores, kept = scores.topk(min(k, scores.shape[1]), dim=1)
                ids = ids.gather(1, kept)
        return scores.cpu().numpy(), ids.cpu().numpy()


class _Reader:
    """One query's faiss scanner over fp16 codes that lie anywhere in memory."""

    def __init__(self, query: NDArray[np.float32]) -> None:
        faiss = _faiss()
        kind = faiss.ScalarQuantizer.QT_fp16
        self._codec = faiss.ScalarQuantizer(len(query), kind)
        self._query = np.ascontiguousarray(query)  # faiss keeps the address
        self.of: Any = self._codec.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, None, False, None)
        self.of.set_query(faiss.swig_ptr(self._query))

    def close(self) -> None:
        """Free the scanner: faiss hands it over without an owner."""
        _faiss().InvertedListScanner.__swig_destroy__(self.of)


class _Heaps:
    """The k best rows a thread has seen, of each query."""

    def __init__(self, queries: NDArray[np.float32], k: int) -> None:
        self._readers = [_Reader(query) for query in queries]
        self.scores = np.full((len(queries), k), -np.inf, np.float32)
        self.ids = np.full((len(queries), k), -1, np.int64)

    def close(self) -> None:
        """Free what faiss holds."""
        for reader in self._readers:
            reader.close()

    def read(self, first: int, rows: NDArray[np.float16]) -> None:
        """Score a block."""
        faiss = _faiss()
        codes, ids = _address(rows), np.arange(first, first + len(rows))
        for reader, scores, best in zip(self._readers, self.scores, self.ids, strict=True):
            reader.of.scan_codes(
                len(rows),
                codes,
                faiss.swig_ptr(ids),
                faiss.swig_ptr(scores),
                faiss.swig_ptr(best),
                len(best),
            )


class _Over:
    """The rows over a threshold that a thread has seen."""

    def __init__(self, query: NDArray[np.float32], threshold: float) -> None:
        faiss = _faiss()
        self._reader = _Reader(query)
        self._threshold = threshold
        self._result = faiss.RangeSearchResult(1)
        self._partial = faiss.RangeSearchPartialResult(self._result)
        self._found = self._partial.new_result(0)

    def read(self, first: int, rows: NDArray[np.float16]) -> None:
        """Score a block."""
        faiss = _faiss()
        ids = np.arange(first, first + len(rows))
        where = faiss.swig_ptr(ids)  # an address: the array must outlive the call
        self._reader.of.scan_codes_range(len(rows), _address(rows), where, self._threshold, self._found)

    def close(self) -> None:
        """Free what faiss holds but the result."""
        self._reader.close()

    def ids(self) -> NDArray[np.int64]:
        """Row ids found."""
        faiss = _faiss()
        self._partial.finalize()
        size = int(faiss.rev_swig_ptr(self._result.lims, 2)[1])
        found: NDArray[np.int64] = faiss.rev_swig_ptr(self._result.labels, size).copy()
        return found


def _address(rows: NDArray[np.float16]) -> Any:
    return _faiss().cast_integer_to_uint8_ptr(rows.ctypes.data)


def _faiss() -> Any:
    """Import faiss at first use; its type stubs lack the calls made here."""
    import faiss

    return faiss


def _rounding(query: NDArray[np.float32]) -> float:
    """Most that an fp32 product of unit rows can be off, in whatever order it is summed (d u |x| |y|)."""
    return len(query) * 2.0**-24 * 1.01


def scan_device() -> str:
    """``cuda`` where torch and a GPU are present, else ``cpu``; torch is imported only where a GPU may be."""
    if not Path("/dev/nvidiactl").exists() or find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
