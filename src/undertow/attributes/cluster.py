"""Spherical k-means with weights, on faiss. One rule for distance everywhere: cosine.

Many clusters are found by faiss's pruned assignment (SuperKMeans: partial products, then ADSampling, Gao and
Long 2023) inside our own Lloyd loop, because faiss's takes neither weights nor starting centroids.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MIN_K, MAX_K = 64, 25_000
"""Bounds of the default number of clusters (the paper used 25,000)."""
ROUNDS, SEQUENTIAL = 16, 2_000_000
"""Rounds in which starting centroids are drawn; one by one where vectors × clusters are at most so many."""
BLOCK, CELLS = 65_536, 64_000_000
"""Rows taken at once, and most similarities of a block: 256 MB."""
PRUNED_FROM = 1024
"""Clusters from which :func:`lloyd` is used; fewer are found by faiss's own loop."""
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
            weights, or into many clusters, starts from :func:`spread`.

    Returns:
        Unit centroids (k', d) and the cluster of each row (n,), k' = min(k, n).
    """
    n, dim = vectors.shape
    size = min(k, n)
    if size <= 0:
        return np.zeros((0, dim), np.float32), np.zeros(0, np.int64)
    if size == n:
        return np.ascontiguousarray(vectors, np.float32), np.arange(n)
    points = np.ascontiguousarray(vectors, np.float32)
    if restarts == 1 and size >= PRUNED_FROM:
        counts = np.ones(n) if weights is None else np.asarray(weights, np.float64)
        seeds, owner = spread(points, counts, size, np.random.default_rng(seed))
        centroids = lloyd(points, counts, points[seeds], owner, iterations, seed)
    else:
        centroids = _faiss_loop(points, weights, size, seed, iterations, restarts)
    return centroids, assign(points, centroids)


def _faiss_loop(
    points: NDArray[np.float32],
    weights: NDArray[np.float64] | None,
    k: int,
    seed: int,
    iterations: int,
    restarts: int,
) -> NDArray[np.float32]:
    import faiss

    n, dim = points.shape
    means = faiss.Kmeans(
        dim,
        k,
        niter=iterations,
        nredo=restarts,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, -(-n // k)),
    )
    if weights is None or restarts > 1:
        means.train(points, weights=None if weights is None else np.ascontiguousarray(weights, np.float32))
    else:
        seeds = points[spread_seeds(points, weights, k, np.random.default_rng(seed))]
        means.train(points, weights=np.ascontiguousarray(weights, np.float32), init_centroids=seeds)
    return np.asarray(means.centroids, np.float32)


def lloyd(
    points: NDArray[np.float32],
    weights: NDArray[np.float64],
    centroids: NDArray[np.float32],
    owner: NDArray[np.int64],
    iterations: int,
    seed: int,
) -> NDArray[np.float32]:
    """Move unit centroids to the weighted means of their points, ``iterations`` times.

    Assignments after the first skip a centroid when a part of the dimensions of a randomly turned space shows
    that it is farther than the present one. That is a matter of chance, so a few may be wrong; the last
    assignment of :func:`spherical_kmeans` is exact. A centroid without points takes the point that fits its
    own worst.

    Args:
        points: (n, d) unit rows.
        weights: (n,) positive.
        centroids: (K, d) unit rows to start from.
        owner: (n,) nearest of them to each point.
        iterations: at least 1.
        seed: turns the space.

    Returns:
        (K, d) unit rows.
    """
    dim = points.shape[1]
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0].astype(np.float32)
    turned, centroids = points @ turn, np.ascontiguousarray(centroids @ turn)
    pruned = _PrunedAssignment(turned)
    for step in range(iterations):
        if step:
            owner = pruned.assign(centroids, owner)
        centroids = _means(turned, weights, owner, centroids)
    return np.ascontiguousarray(centroids @ turn.T)


class _PrunedAssignment:
    """The assignment step of faiss's SuperKMeans; how many dimensions it looks at first follows its rule."""

    def __init__(self, points: NDArray[np.float32]) -> None:
        import faiss

        self._faiss: Any = faiss  # its type stubs lack the calls made here
        dim = points.shape[1]
        self._points = points
        self._rules = self._faiss.SuperKMeansParameters()
        chances = self._faiss.precompute_ad_thresholds(dim, self._rules.ad_epsilon_factor / dim)
        self._thresholds = self._faiss.vector_to_array(chances)
        self._front = min(dim - 1, max(self._rules.d_prime_min, int(dim * self._rules.d_prime_fraction)))

    def assign(self, centroids: NDArray[np.float32], owner: NDArray[np.int64]) -> NDArray[np.int64]:
        """Nearest centroid of each point, given the nearest before the centroids moved."""
        found = owner.astype(np.int32)
        nearness = _nearness(self._points, centroids, owner)
        distance = np.maximum(2 - 2 * nearness, 0).astype(np.float32)
        pairs, skipped = self._faiss.super_kmeans_assign_iteration(
            self._points, centroids, distance, found, self._front, self._thresholds, self._rules
        )
        self._adapt(skipped / pairs)
        return found.astype(np.int64)

    def _adapt(self, share: float) -> None:
        rules = self._rules
        step = (share < rules.pruning_target_low) - (share > rules.pruning_target_high)
        front = round(self._front * (1 + step * rules.d_prime_adjust))
        self._front = min(self._points.shape[1] - 1, max(rules.d_prime_min, front))


def _nearness(
    points: NDArray[np.float32], centroids: NDArray[np.float32], owner: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Cosine of each point to its centroid, (n,)."""
    out = np.empty(len(points), np.float32)
    for start in range(0, len(points), BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = np.einsum("nd,nd->n", points[part], centroids[owner[part]])
    return out


def _means(
    points: NDArray[np.float32],
    weights: NDArray[np.float64],
    owner: NDArray[np.int64],
    centroids: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Weighted mean directions; a centroid that lost all points restarts at the worst placed point."""
    n, k = len(points), len(centroids)
    member = sparse.csr_array((weights.astype(np.float32), owner, np.arange(n + 1)), shape=(n, k))
    sums = member.T.tocsr() @ points
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    empty = np.flatnonzero(length[:, 0] == 0)
    means: NDArray[np.float32] = (sums / np.where(length == 0, 1, length)).astype(np.float32)
    if len(empty):
        loss = weights * (1 - _nearness(points, centroids, owner))
        means[empty] = points[np.argsort(-loss, kind="stable")[: len(empty)]]
    return means


def spread_seeds(
    vectors: NDArray[np.float32], weights: NDArray[np.float64], k: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the row numbers of k starting centroids by :func:`spread`, (k,)."""
    return spread(vectors, weights, k, rng)[0]


def spread(
    vectors: NDArray[np.float32], weights: NDArray[np.float64], k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
        (k,) row numbers, and for each row which of these is nearest, (n,).
    """
    n = len(vectors)
    size = 1 if n * k <= SEQUENTIAL else -(-k // ROUNDS)
    seeds = np.zeros(0, np.int64)
    nearest = np.full(n, -np.inf, np.float32)
    owner = np.zeros(n, np.int64)
    while len(seeds) < k:
        chance = weights * np.clip(1.0 - nearest, 1e-9, 1.0, dtype=np.float64)
        chance[seeds] = 0.0
        new = rng.choice(n, min(size, k - len(seeds)), replace=False, p=chance / chance.sum())
        for start in range(0, n, BLOCK):
            part = slice(start, start + BLOCK)
            cosines = vectors[part] @ vectors[new].T
            best = cosines.argmax(axis=1)
            height = np.take_along_axis(cosines, best[:, None], 1)[:, 0]
            nearer = height > nearest[part]
            owner[part] = np.where(nearer, best + len(seeds), owner[part])
            nearest[part] = np.maximum(nearest[part], height)
        seeds = np.concatenate([seeds, new])
    return seeds, owner


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Nearest centroid of each unit vector by cosine, (n,); the lowest number wins a tie."""
    out = np.zeros(len(vectors), np.int64)
    block = max(256, min(BLOCK, CELLS // max(1, len(centroids))))
    for start in range(0, len(vectors), block):
        out[start : start + block] = (vectors[start : start + block] @ centroids.T).argmax(axis=1)
    return out
