"""Exact top-k by cosine over fp16 shards: no approximation, every vector is read.

One pass serves all queries: a row is read once and met by every query. Blocks of rows go to threads and are
read where they lie, mapped files too, near memory bandwidth (:mod:`undertow.index.dots`).

Fp32 products only choose candidates. These are scored again in float64, so that order and ties are the rows'
own and do not depend on threads, blocks or shards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 16_384
"""Rows that a thread takes at once."""
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

    def _read(self, queries: NDArray[np.float32], make: Callable[[], _Seen]) -> list[_Seen]:
        """Let threads take blocks off one list; return what all have seen, query by query."""
        from undertow.index.dots import dots

        blocks, lock = self._blocks(BLOCK_ROWS), Lock()

        def work(_: int) -> list[_Seen]:
            seen = [make() for _ in queries]
            room = np.empty((len(queries), BLOCK_ROWS), np.float32)
            while True:
                with lock:
                    first, rows = next(blocks, (0, None))
                if rows is None:
                    return seen
                scores = dots(rows, queries, room)
                for mine, each in zip(seen, scores, strict=True):
                    mine.take(first, each)

        with ThreadPoolExecutor(self._threads) as pool:
            threads = list(pool.map(work, range(self._threads)))
        return [reduce(_Seen.join, parts) for parts in zip(*threads, strict=True)]

    def _nearest(self, queries: NDArray[np.float32], k: int) -> Pairs:
        """Find (Q, k) fp32 scores and ids, unordered: the best of every thread's best."""
        best = [seen.kept() for seen in self._read(queries, lambda: _Seen(most=k))]
        return np.stack([scores for scores, _ in best]), np.stack([ids for _, ids in best])

    def _over(self, query: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
        """Ids of all rows with an fp32 score of the threshold and more."""
        (seen,) = self._read(query[None], lambda: _Seen(least=threshold))
        return seen.kept()[1]

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


class _Seen:
    """What one query keeps of the rows it has met: all from a score on, the ``most`` best at most."""

    def __init__(self, least: float = -np.inf, most: int | None = None) -> None:
        self._least, self._most = np.float32(least), most
        self._scores, self._ids = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        self._held = 0

    def take(self, first: int, scores_N: NDArray[np.float32]) -> None:
        """Keep what is worth it of the N rows from ``first`` on."""
        (over,) = np.nonzero(scores_N >= self._least)
        self._scores.append(scores_N[over])
        self._ids.append(over + first)
        self._held += len(over)
        if self._most and self._held > 2 * self._most:
            self._weed(self._most)

    def join(self, other: _Seen) -> _Seen:
        """Take what another thread has kept."""
        self._scores += other._scores
        self._ids += other._ids
        return self

    def kept(self) -> Pairs:
        """Return scores and ids, unordered."""
        scores, ids = np.concatenate(self._scores), np.concatenate(self._ids)
        if self._most and len(ids) > self._most:
            best = np.argpartition(scores, len(scores) - self._most)[len(scores) - self._most :]
            scores, ids = scores[best], ids[best]
        return scores, ids

    def _weed(self, most: int) -> None:
        """Drop all but the best; what comes must be as good as these."""
        scores, ids = self.kept()
        self._scores, self._ids, self._held = [scores], [ids], most
        self._least = scores.min()


def _rounding(query: NDArray[np.float32]) -> float:
    """Most that an fp32 product of unit rows can be off, in whatever order it is summed (d u |x| |y|)."""
    return (len(query) + 4) * 2.0**-24


def scan_device() -> str:
    """``cuda`` where torch and a GPU are present, else ``cpu``; torch is imported only where a GPU may be."""
    if not Path("/dev/nvidiactl").exists() or find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
