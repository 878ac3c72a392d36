"""Query attributes that say the same in other words, as one cluster (paper §4.1): spherical k-means.

Only for a model's wordings. A local attribute is exact and its own cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.cluster import spherical_kmeans

if TYPE_CHECKING:
    import pyarrow as pa

TOP = 5
"""Attributes listed of a cluster."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Clusters of m attributes; none is empty."""

    owner: NDArray[np.uint16]
    """(m,) cluster of each attribute."""
    centroids: NDArray[np.float32]
    """(K, d) unit rows."""
    labels: list[str]
    """(K,) the attribute nearest to each centroid, which frequent wordings draw towards them."""
    top: list[list[str]]
    """(K,) most frequent attributes of each, nearest first among equals."""


def cluster(
    vectors: NDArray[np.float32], weights: NDArray[np.int64], texts: list[str], k: int, seed: int
) -> Clusters:
    """Cluster m attributes into at most ``k`` by cosine.

    Args:
        vectors: (m, d) unit rows.
        weights: (m,) rows that have each.
        texts: (m,) sentences, for the names.
        k: clusters wanted, at most 65,536; those that end empty are dropped.
        seed: of the first centroids.
    """
    centroids, owner = spherical_kmeans(vectors, weights.astype(np.float64), k, seed)
    nearness = np.einsum("md,md->m", vectors, centroids[owner])
    return named(centroids, owner, nearness, weights, texts)


def named(
    centroids: NDArray[np.float32],
    owner: NDArray[np.integer],
    nearness: NDArray[np.float32],
    weights: NDArray[np.int64],
    texts: Sequence[str],
) -> Clusters:
    """Drop empty clusters and name the others; ``nearness`` is each attribute's cosine to its centroid."""
    kept, owner = np.unique(owner, return_inverse=True)
    centroids = centroids[kept]
    by_nearness = _grouped(owner, np.lexsort((np.arange(len(owner)), -weights, -nearness, owner)))
    by_weight = _grouped(owner, np.lexsort((np.arange(len(owner)), -nearness, -weights, owner)))
    return Clusters(
        owner=owner.astype(np.uint16),
        centroids=np.ascontiguousarray(centroids, np.float32),
        labels=[texts[members[0]] for members in by_nearness],
        top=[[texts[i] for i in members[:TOP]] for members in by_weight],
    )


def _grouped(owner: NDArray[np.integer], order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split an order by cluster, first cluster first."""
    return np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []


def cluster_table(clusters: Clusters, weights: NDArray[np.int64]) -> pa.Table:
    """Tabulate clusters: cluster, label, attributes (distinct), occurrences, top."""
    import pyarrow as pa

    k = len(clusters.labels)
    return pa.table(
        {
            "cluster": pa.array(np.arange(k).astype(np.uint16)),
            "label": pa.array(clusters.labels, pa.string()),
            "attributes": pa.array(np.bincount(clusters.owner, minlength=k), pa.int64()),
            "occurrences": pa.array(np.bincount(clusters.owner, weights, k).astype(np.int64), pa.int64()),
            "top": pa.array(clusters.top, pa.list_(pa.string())),
        }
    )
