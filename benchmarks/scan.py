"""Exact scan against faiss and the memory: `python benchmarks/scan.py [--rows N] [--shards FOLDER]`.

Prints recall against float64 brute force, the time beside faiss's fp32 flat index with as many threads, and
the bytes a second beside plain reads of the same memory; with `--shards` the rows are fp16 files of so many
rows, written if they are missing and then mapped, and the memory held is printed. Unit vectors of 384
dimensions; medians, each method measured in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from undertow.index.scan import Scanner
from undertow.store.tables import read_shard, write_shard

DIM, K, THREADS, SHARD_ROWS = 384, 1000, 2, 100_000


def rows_of(number: int, size: int) -> np.ndarray:
    """One shard of unit rows."""
    rows = np.random.default_rng([0, number]).standard_normal((size, DIM), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shards_on_disk(folder: Path, rows: int) -> list[np.ndarray]:
    """Map the shards, writing those that are missing."""
    for number, start in enumerate(range(0, rows, SHARD_ROWS)):
        file = folder / f"{number:05d}.npy"
        if not file.exists():
            write_shard(rows_of(number, min(SHARD_ROWS, rows - start)), file)
    count = -(-rows // SHARD_ROWS)
    return [read_shard(folder / f"{number:05d}.npy") for number in range(count)]


def medians(repeats: int, **methods: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each method; they take turns, so that a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            started = time.perf_counter()
            method()
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def read_all(shards: list[np.ndarray], pool: ThreadPoolExecutor) -> None:
    """Read every byte once: sums of 8-byte words, shard by shard."""
    parts = [part for shard in shards for part in np.array_split(shard.reshape(-1).view(np.uint64), THREADS)]
    list(pool.map(np.sum, parts))


def copy_all(shards: list[np.ndarray], pool: ThreadPoolExecutor, room: np.ndarray) -> None:
    """Copy every byte once."""
    ends = np.cumsum([0, *(shard.size for shard in shards)])
    flat = room.reshape(-1)
    list(
        pool.map(lambda i: np.copyto(flat[ends[i] : ends[i + 1]], shards[i].reshape(-1)), range(len(shards)))
    )


def recall(shards: list[np.ndarray], queries: np.ndarray, found: np.ndarray) -> float:
    """Share of the float64 top k that was found, in the same order."""
    cosines = np.concatenate([shard.astype(np.float64) @ queries.T.astype(np.float64) for shard in shards])
    best = [np.lexsort((np.arange(len(cosines)), -column))[: found.shape[1]] for column in cosines.T]
    return float(np.mean([np.isin(want, got).mean() for want, got in zip(best, found, strict=True)]))


def against_faiss(rows: int, queries: np.ndarray, repeats: int) -> None:
    """In memory: recall, faiss's flat index, bandwidth."""
    import faiss

    shards = [
        rows_of(i, min(SHARD_ROWS, rows - s)).astype(np.float16)
        for i, s in enumerate(range(0, rows, SHARD_ROWS))
    ]
    scanner, pool = Scanner(shards, THREADS), ThreadPoolExecutor(THREADS)
    found = scanner.top_k(queries, K)[1]
    print(f"recall@{K} against float64, {len(queries)} queries: {recall(shards, queries, found):.6f}")
    flat = faiss.IndexFlatIP(DIM)
    for shard in shards:
        flat.add(shard.astype(np.float32))
    faiss.omp_set_num_threads(THREADS)
    room = np.empty((rows, DIM), np.float16)
    gigabytes = rows * DIM * 2 / 1e9
    taken = medians(
        repeats,
        read=lambda: read_all(shards, pool),
        copy=lambda: copy_all(shards, pool, room),
        scan_1=lambda: scanner.top_k(queries[:1], K),
        flat_1=lambda: flat.search(queries[:1], K),
        scan_3=lambda: scanner.top_k(queries[:3], K),
        flat_3=lambda: flat.search(queries[:3], K),
    )
    for name, seconds in taken.items():
        print(f"{name:8} {seconds * 1e3:8.1f} ms   {gigabytes / seconds:6.1f} GB/s of fp16")
    print(f"faiss flat fp32 / ours: {taken['flat_1'] / taken['scan_1']:.2f} × (one query), ", end="")
    print(f"{taken['flat_3'] / taken['scan_3']:.2f} × (three)")
    of_read, of_copy = taken["read"] / taken["scan_1"], taken["copy"] / taken["scan_1"]
    print(f"of the read bandwidth: {of_read:.0%}, of a copy's: {of_copy:.0%}")


def mapped(folder: Path, rows: int, queries: np.ndarray, repeats: int) -> None:
    """From files: time of three cruxes, and what the process holds."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = shards_on_disk(folder, rows)
    scanner, pool = Scanner(shards, THREADS), ThreadPoolExecutor(THREADS)
    started = time.perf_counter()
    scanner.top_k(queries, K)
    print(f"first pass (pages mapped): {time.perf_counter() - started:.2f} s")
    taken = medians(
        repeats,
        read=lambda: read_all(shards, pool),
        scan_1=lambda: scanner.top_k(queries[:1], K),
        scan_3=lambda: scanner.top_k(queries, K),
        fresh_3=lambda: Scanner(shards_on_disk(folder, rows), THREADS).top_k(queries, K),
    )
    for name, seconds in taken.items():
        print(f"{name:8} {seconds:8.2f} s")
    memory = psutil.Process().memory_info()
    anonymous, file = (memory.rss - memory.shared) / 1e9, memory.shared / 1e9
    print(f"resident: {anonymous:.2f} GB of its own, {file:.2f} GB of mapped files (page cache)")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shards", type=Path)
    given = parser.parse_args()
    queries = rows_of(1_000_000, 3)
    print(f"{given.rows:,} × {DIM} fp16, top {K}, {THREADS} threads, median of {given.repeats}")
    if given.shards:
        mapped(given.shards, given.rows, queries, given.repeats)
    else:
        against_faiss(given.rows, queries, given.repeats)


if __name__ == "__main__":
    main()
