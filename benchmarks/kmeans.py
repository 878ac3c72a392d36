"""Spherical k-means against faiss: `python benchmarks/kmeans.py [--rows N] [--clusters K] [--iterations I]`.

Both sides get the same rows, iterations and threads, and are timed from rows to centroids and assignment.
Rows are a mixture: 200 subjects, 20,000 sentences of them, noise, and a spectrum that falls as 1 / √i. faiss
takes no weights here; ours are all one, or with `--weighted` those of a Zipf law on both sides.
"""

from __future__ import annotations

import argparse
import time

import faiss
import numpy as np

from undertow.attributes.cluster import spherical_kmeans

DIM, THREADS, SUBJECTS, SENTENCES, BLOCK = 384, 2, 200, 20_000, 50_000


def mixture(n: int, seed: int = 0) -> np.ndarray:
    """Unit rows that lie as embeddings of sentences do."""
    rng = np.random.default_rng(seed)
    scale = (np.arange(1, DIM + 1) ** -0.5).astype(np.float32)

    def noise(size: int, by: float) -> np.ndarray:
        return by * scale * rng.standard_normal((size, DIM), dtype=np.float32)

    subjects = noise(SUBJECTS, 1.0)
    sentences = subjects[rng.integers(0, SUBJECTS, SENTENCES)] + noise(SENTENCES, 0.8)
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32)
    rows = np.empty((n, DIM), np.float32)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        rows[start : start + size] = (sentences[rng.integers(0, SENTENCES, size)] + noise(size, 0.7)) @ turn
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_faiss(rows: np.ndarray, weights: np.ndarray, k: int, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Run faiss: centroids and assignment."""
    means = faiss.Kmeans(
        DIM, k, niter=iterations, spherical=True, seed=1, min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )  # fmt: skip
    means.train(rows, weights=weights.astype(np.float32))
    return means.centroids, means.index.search(rows, 1)[1][:, 0]


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=2500)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weighted", action="store_true")
    given = parser.parse_args()
    faiss.omp_set_num_threads(THREADS)
    rows = mixture(given.rows)
    rng = np.random.default_rng(1)
    weights = (
        np.minimum(rng.zipf(1.6, given.rows), 10_000).astype(float) if given.weighted else np.ones(given.rows)
    )
    k, iterations = given.clusters, given.iterations
    methods = {
        "faiss": lambda: by_faiss(rows, weights, k, iterations),
        "ours": lambda: spherical_kmeans(rows, weights, k, seed=1, iterations=iterations),
    }
    print(f"{given.rows:,} × {DIM}, K = {k:,}, {iterations} iterations, {THREADS} threads")
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    quality = {}
    for _ in range(given.repeats):
        for name, method in methods.items():
            started = time.perf_counter()
            centroids, owner = method()
            seconds[name].append(time.perf_counter() - started)
            cosines = np.einsum("nd,nd->n", rows, centroids[owner])
            quality[name] = float(np.average(cosines, weights=weights))
            print(f"  {name:6} {seconds[name][-1]:8.1f} s   mean cosine {quality[name]:.5f}", flush=True)
    ratio = np.median(seconds["ours"]) / np.median(seconds["faiss"])
    print(f"ours / faiss: {ratio:.2f} × the time, {quality['ours'] / quality['faiss'] - 1:+.3%} objective")


if __name__ == "__main__":
    main()
