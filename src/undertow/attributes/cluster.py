"""Spherical k-means with weights, on faiss. One rule for distance everywhere: cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_K, MAX_K = 64, 25_000
"""Bounds of the default number of clusters (the paper used 25,000)."""
ROUNDS, SEQUENTIAL = 16, 2_000_000
"""Rounds in which starting centroids are drawn; one by one where vectors × clusters are at most so many."""
PER_CLUSTER = 376
"""Attributes for one cluster: the paper's 9.4 M over 25,000 (references/004 §4.1)."""


def default_k(attributes: int, distinct: int) -> int:
    """Number of clusters for so many attributes: paper's ratio, clamped, never above the distinct ones."""
    return max(1, min(distinct, max(MIN_K, min(MAX_K, attributes // PER_CLUSTER))))


def spherical_kmeans(
    vectors: NDArray[np.float32],
    weights: NDArray[np.float64] | None,
    k: int,
    seed: int,
    iterations: int = 15,
    restarts: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cluster unit vectors by cosine.

    Args:
        vectors: (n, d) unit rows.
        weights: Multiplicity of each row, (n,); ``None``: one each.
        k: Clusters wanted; never more than n are made.
        seed: Fixes the starting centroids.
        iterations: Lloyd steps.
        restarts: Runs from starting centroids drawn by faiss, of which the best is kept. A single run with
            weights starts from :func:`spread_seeds`.

    Returns:
        Unit centroids (k', d) and the cluster of each row (n,), k' = min(k, n).
    """
    n, dim = vectors.shape
    size = min(k, n)
    if size <= 0:
        return np.zeros((0, dim), np.float32), np.zeros(0, np.int64)
    if size == n:
        return np.ascontiguousarray(vectors, np.float32), np.arange(n)
    import faiss

    points = np.ascontiguousarray(vectors, np.float32)
    means = faiss.Kmeans(
        dim,
        size,
        niter=iterations,
        nredo=restarts,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, -(-n // size)),
    )
    if weights is None or restarts > 1:
        means.train(points, weights=None if weights is None else np.ascontiguousarray(weights, np.float32))
    else:
        seeds = points[spread_seeds(points, weights, size, np.random.default_rng(seed))]
        means.train(points, weights=np.ascontiguousarray(weights, np.float32), init_centroids=seeds)
    centroids = np.asarray(means.centroids, np.float32)
    return centroids, assign(points, centroids)


def spread_seeds(
    vectors: NDArray[np.float32], weights: NDArray[np.float64], k: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw k distinct starting centroids, each by weight × distance from those drawn before.

    k-means++ (Arthur and Vassilvitskii 2007), in rounds where one by one would take too long (as k-means||,
    Bahmani et al. 2012). faiss draws uniformly from the distinct rows, so a thousand rare sentences that are
    much alike would take nearly all clusters from the frequent ones.

    Args:
        vectors: (n, d) unit rows.
        weights: (n,) positive.
        k: at most n.
        rng: draws.

    Returns:
        (k,) row numbers.
    """
    n = len(vectors)
    size = 1 if n * k <= SEQUENTIAL else -(-k // ROUNDS)
    seeds = np.zeros(0, np.int64)
    distance = np.ones(n)
    while len(seeds) < k:
        chance = weights * np.maximum(distance, 1e-9)
        chance[seeds] = 0.0
        new = rng.choice(n, min(size, k - len(seeds)), replace=False, p=chance / chance.sum())
        seeds = np.concatenate([seeds, new])
        for start in range(0, n, 65_536):
            part = slice(start, start + 65_536)
            nearest = (vectors[part] @ vectors[new].T).max(axis=1)
            distance[part] = np.minimum(distance[part], 1.0 - nearest)
    return seeds


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Nearest centroid of each unit vector by cosine, (n,); the lowest number wins a tie."""
    out = np.zeros(len(vectors), np.int64)
    for start in range(0, len(vectors), 65_536):
        out[start : start + 65_536] = (vectors[start : start + 65_536] @ centroids.T).argmax(axis=1)
    return out
