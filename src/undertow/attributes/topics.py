"""Topics of the prompts: latent semantic analysis, spherical k-means, a name from the leading terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.cluster import assign, spherical_kmeans
from undertow.attributes.hashtable import HashTable, sorted_unique
from undertow.attributes.streams import Words

RANK = 48
"""Dimensions of the semantic space."""
ROWS_PER_TOPIC, MAX_TOPICS = 150, 64
TERMS_IN_NAME = 3
FIT_ROWS = 20_000
"""Rows that the semantic space is learned from."""


@dataclass(frozen=True)
class Topics:
    """A fitted topic model."""

    terms: NDArray[np.uint64]
    """Hash of each term, (T,)."""
    idf: NDArray[np.float32]
    """Inverse document frequency, (T,)."""
    components: NDArray[np.float32]
    """Term loadings, (T, r)."""
    centroids: NDArray[np.float32]
    """Unit topic centres, (k, r)."""
    names: list[str]
    """Leading terms of each topic, joined by commas, (k,)."""

    @cached_property
    def _table(self) -> HashTable:
        return HashTable.build(self.terms, np.arange(len(self.terms), dtype=np.int32))

    def assign(self, stream: Words, n: int) -> NDArray[np.int64]:
        """Topic of each of n texts; −1 where a text has no known term, (n,)."""
        if not len(self.names):
            return np.full(n, -1, np.int64)
        at, term = self._table.find(stream.hashes)
        pairs = sorted_unique(stream.rows[at].astype(np.int64) * len(self.terms) + term)
        row, column = np.divmod(pairs, len(self.terms))
        tfidf = sparse.csr_matrix((self.idf[column], (row, column)), shape=(n, len(self.terms)))
        projected, full = _unit(tfidf @ self.components)
        return np.where(full, assign(projected, self.centroids), -1)


EMPTY = Topics(
    np.zeros(0, np.uint64),
    np.zeros(0, np.float32),
    np.zeros((0, 1), np.float32),
    np.zeros((0, 1), np.float32),
    [],
)
"""No topics: the corpus is too small."""


def _unit(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    norms = np.linalg.norm(vectors, axis=1)
    full = norms > 1e-8
    return (vectors / np.where(full, norms, 1)[:, None]).astype(np.float32), full


def _range_finder(matrix: sparse.csr_matrix, rank: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Leading right singular vectors by randomised subspace iteration (Halko et al. 2011, alg. 4.4).

    Bases are made orthonormal through their small Gram matrix in double precision: as good here as a QR
    factorisation and many times faster.
    """
    basis = rng.standard_normal((matrix.shape[1], rank + 8)).astype(np.float32)
    transposed = matrix.T.tocsr()
    for _ in range(3):
        basis = _orthonormal(transposed @ (matrix @ basis))
    small = (matrix @ basis).astype(np.float64)
    _, _, rotation = np.linalg.svd(small.T @ small)
    return np.ascontiguousarray(basis @ rotation.T[:, :rank], np.float32)


def _orthonormal(basis: NDArray[np.float32]) -> NDArray[np.float32]:
    values, vectors = np.linalg.eigh((basis.T @ basis).astype(np.float64))
    scale = 1 / np.sqrt(np.maximum(values, 1e-6 * values[-1]))
    return np.ascontiguousarray(basis @ (vectors * scale), np.float32)


def fit_topics(
    incidence: sparse.csr_matrix,
    hashes: NDArray[np.uint64],
    seed: int,
    name: Callable[[int], str],
) -> Topics:
    """Fit topics on a term × row incidence.

    Args:
        incidence: (T, n) of terms; very common ones should be left out.
        hashes: Hash of each term, (T,).
        seed: Fixes the subspace and the clustering.
        name: Shows a term, given its number, as people write it.
    """
    n = incidence.shape[1]
    k = min(MAX_TOPICS, n // ROWS_PER_TOPIC)
    rank = min(RANK, len(hashes) - 9, n - 9)
    if k < 2 or rank < 2:
        return EMPTY
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(n)[:FIT_ROWS])
    idf = np.log(n / np.maximum(np.asarray(incidence.sum(axis=1)).ravel(), 1)).astype(np.float32)
    tfidf = (sparse.diags_array(idf) @ incidence).T.tocsr()[rows].astype(np.float32)
    lengths = np.sqrt(np.asarray(tfidf.multiply(tfidf).sum(axis=1)).ravel())
    tfidf = (sparse.diags_array(1 / np.maximum(lengths, 1e-8)) @ tfidf).tocsr().astype(np.float32)
    components = _range_finder(tfidf, rank, rng)
    points, full = _unit(tfidf @ components)
    centroids, ids = spherical_kmeans(points[full], None, k, seed)
    names = _names(tfidf[np.flatnonzero(full)], ids, len(centroids), name)
    return Topics(hashes, idf, components, centroids, names)


def _names(tfidf: sparse.csr_matrix, ids: NDArray[np.int64], k: int, name: Callable[[int], str]) -> list[str]:
    """Terms whose weight in the topic stands out most from their weight overall; no two names alike."""
    sizes = np.maximum(np.bincount(ids, minlength=k), 1)
    member = sparse.csr_matrix(
        (np.ones(len(ids), np.float32), (ids, np.arange(len(ids)))), shape=(k, len(ids))
    )
    means = (member @ tfidf).toarray() / sizes[:, None]
    order = np.argsort(-(means - np.asarray(tfidf.mean(axis=0)).ravel()), axis=1, kind="stable")
    names: list[str] = []
    for topic in range(k):
        size = TERMS_IN_NAME
        label = ", ".join(name(int(term)) for term in order[topic, :size])
        while label in names and size < order.shape[1]:
            size += 1
            label = ", ".join(name(int(term)) for term in order[topic, :size])
        names.append(label)
    return names
