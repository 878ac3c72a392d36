"""Which pairs belong together: by what both responses show, or by their prompt (paper App. B.1 and B.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from undertow.preference.config import AuditConfig

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]
Kind = Literal["responses", "prompts"]

_BLOCK = 8192
_PER_CENTROID = 256
"""Rows per centroid that k-means learns from, as in faiss,"""
_LEARNED, _SEEDED = 49_152, 20_480
"""and the most rows that it learns from and seeds from at all."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of pairs, one a row; they may overlap."""

    kind: Kind
    """What they are made from."""
    names: tuple[str, ...]
    """Of each group, for people."""
    inside: csr_matrix
    """float32 (K, N): 1 where the pair is in the group."""


def data_clusters(activity: csr_matrix, prompts: int, config: AuditConfig) -> NDArray[np.int64]:
    """Cluster pairs by the direction of their activity; -1 is the silent bucket (paper App. B.1, step 4).

    Columns are first put on one scale by their mean where they are active, since shares of sentences, of
    lines and activations of an SAE are not in one unit; spherical k-means then runs on s/‖s‖. K is scaled
    down for few pairs and for few distinct ``prompts``, since a group of a handful of prompts says little.
    """
    from scipy import sparse

    scaled = sparse.csr_matrix(activity, dtype=np.float32, copy=True)
    active = np.maximum(scaled.getnnz(0), 1)
    usual = np.asarray(scaled.sum(0), np.float64).ravel() / active
    scaled = (scaled @ sparse.diags((1 / np.where(usual > 0, usual, 1)).astype(np.float32))).tocsr()
    norm = np.sqrt(np.asarray(scaled.multiply(scaled).sum(1)).ravel())
    heard = np.flatnonzero((norm >= np.quantile(norm, config.silent)) & (norm > 0))
    labels = np.full(len(norm), -1, np.int64)
    if len(heard):
        unit = (sparse.diags((1 / norm[heard]).astype(np.float32)) @ scaled[heard]).tocsr()
        k = max(
            1,
            min(
                config.clusters, len(heard) // config.pairs_per_cluster, prompts // config.prompts_per_cluster
            ),
        )
        labels[heard] = sparse_spherical_kmeans(unit, k, np.random.default_rng(config.seed))
    return labels


def sparse_spherical_kmeans(
    unit: csr_matrix, k: int, rng: np.random.Generator, iterations: int = 12
) -> NDArray[np.int64]:
    """Cluster sparse unit rows (N, D) by cosine into at most ``k`` clusters, labels (N,).

    Seeds by k-means++; centroids are learned from at most 256 rows each; an empty one takes the row that
    fits worst.
    """
    n = unit.shape[0]
    if n <= k:
        return np.arange(n)
    part = unit[np.sort(rng.choice(n, min(n, k * _PER_CENTROID, max(_LEARNED, 2 * k)), replace=False))]
    some = _drawn(part, max(_SEEDED, 2 * k), rng)
    centroids = some[_seeds(some, k, rng)].toarray()
    before = -np.inf
    for _ in range(iterations):
        labels, fit = _nearest(part, centroids)
        if fit.sum() <= before * (1 + 1e-5):
            break
        before = float(fit.sum())
        centroids = _means(part, labels, fit, k)
    return _nearest(unit, centroids)[0]


def _drawn(unit: csr_matrix, most: int, rng: np.random.Generator) -> csr_matrix:
    n = unit.shape[0]
    return unit if n <= most else unit[np.sort(rng.choice(n, most, replace=False))]


def _seeds(unit: csr_matrix, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    n = unit.shape[0]
    chosen = [int(rng.integers(n))]
    distance = np.ones(n)
    for _ in range(k - 1):
        near = np.asarray((unit @ unit[chosen[-1]].T).todense()).ravel()
        distance = np.minimum(distance, np.maximum(1 - near, 0))
        total = float(distance.sum())
        chosen.append(int(rng.choice(n, p=distance / total)) if total > 0 else int(rng.integers(n)))
    return np.array(chosen)


def _nearest(unit: csr_matrix, centroids: Floats) -> tuple[NDArray[np.int64], Floats]:
    labels, fit = np.empty(unit.shape[0], np.int64), np.empty(unit.shape[0], np.float32)
    columns = np.ascontiguousarray(centroids.T, np.float32)
    for start in range(0, unit.shape[0], _BLOCK):
        cosine = unit[start : start + _BLOCK] @ columns
        best = cosine.argmax(1)
        labels[start : start + _BLOCK] = best
        fit[start : start + _BLOCK] = cosine[np.arange(len(best)), best]
    return labels, fit


def _means(unit: csr_matrix, labels: NDArray[np.int64], fit: Floats, k: int) -> Floats:
    means: Floats = (indicator(labels, k) @ unit).toarray()
    norm = np.linalg.norm(means, axis=1)
    empty = np.flatnonzero(norm < 1e-8)
    if len(empty):
        means[empty] = unit[np.argsort(fit, kind="stable")[: len(empty)]].toarray()
        norm = np.linalg.norm(means, axis=1)
    return np.asarray(means / np.maximum(norm, 1e-8)[:, None], np.float32)


def indicator(labels: NDArray[np.int64], k: int) -> csr_matrix:
    """Return (k, N): 1 where a row has the label; negative labels are in no group."""
    from scipy import sparse

    at = np.flatnonzero(labels >= 0)
    return sparse.csr_matrix((np.ones(len(at), np.float32), (labels[at], at)), shape=(k, len(labels)))


def top_groups(activity: csr_matrix, most: int, rng: np.random.Generator) -> csr_matrix:
    """S(k) (K, N): for each column the ``most`` rows with the highest positive activity (App. B.2).

    Ties at the limit are broken at random.
    """
    from scipy import sparse

    columns = sparse.csc_matrix(activity)
    order = rng.random(activity.shape[0])
    at: list[NDArray[Any]] = []
    for k in range(columns.shape[1]):
        span = slice(columns.indptr[k], columns.indptr[k + 1])
        rows, value = columns.indices[span], columns.data[span]
        rows, value = rows[value > 0], value[value > 0]
        at.append(rows[np.lexsort((order[rows], -value))[:most]])
    sizes = [len(rows) for rows in at]
    group = np.repeat(np.arange(len(at)), sizes)
    rows = np.concatenate(at) if at else np.zeros(0, np.int64)
    shape = (len(at), activity.shape[0])
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (group, rows)), shape=shape)


def feature_clusters(values: csr_matrix, k: int, seed: int, rank: int = 128) -> NDArray[np.int64]:
    """Cluster the columns of ``values``: z-scored, SVD, MiniBatchKMeans (App. B.2); labels (M,)."""
    from sklearn.cluster import MiniBatchKMeans

    rng = np.random.default_rng(seed)
    n = values.shape[0]
    rows = np.sort(rng.choice(n, _SVD_ROWS, replace=False)) if n > _SVD_ROWS else np.arange(n)
    embedded = feature_embeddings(values[rows], rank, rng)
    k = min(k, embedded.shape[0])
    means = MiniBatchKMeans(k, random_state=seed, n_init=3, batch_size=4096)
    return np.asarray(means.fit_predict(embedded), np.int64)


_SVD_ROWS = 65_536
"""Pairs that feature embeddings are learned from."""


def feature_embeddings(values: csr_matrix, rank: int, rng: np.random.Generator, rounds: int = 2) -> Floats:
    """V·S of the z-scored columns, (M, rank), never centring in memory.

    Randomised subspace iteration (Halko et al. 2011, alg. 4.4) on the operator Z = X/σ - 1·(μ/σ)ᵀ.
    """
    from scipy import sparse

    n, m = values.shape
    mean = np.asarray(values.mean(0), np.float32).ravel()
    square = np.asarray(values.multiply(values).mean(0), np.float32).ravel()
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    scale = np.where(sd > 1e-8, 1 / np.maximum(sd, 1e-8), 0).astype(np.float32)
    scaled = (values @ sparse.diags(scale)).tocsr().astype(np.float32)
    shift = mean * scale
    transposed = scaled.T.tocsr()
    size = min(rank + 8, m, n)
    basis = rng.standard_normal((m, size)).astype(np.float32)
    for _ in range(rounds):
        left, _ = np.linalg.qr(scaled @ basis - shift @ basis)
        basis, _ = np.linalg.qr(transposed @ left - np.outer(shift, left.sum(0)))
    left, _ = np.linalg.qr(scaled @ basis - shift @ basis)
    projected = (transposed @ left - np.outer(shift, left.sum(0))).T
    _, singular, right = np.linalg.svd(projected, full_matrices=False)
    kept = min(rank, len(singular))
    return np.asarray(right[:kept].T * singular[:kept], np.float32)


def stack(parts: Sequence[Groups]) -> Groups:
    """Put groups of one kind under each other."""
    from scipy import sparse

    inside: Any = sparse.vstack([part.inside for part in parts]).tocsr()
    return Groups(parts[0].kind, tuple(name for part in parts for name in part.names), inside)
