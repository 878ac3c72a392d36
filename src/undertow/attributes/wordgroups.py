"""Groups of words of a kind (instruments, metals, sports): what a query mentions, beyond single words.

The corpus's own content words are embedded once and clustered; a text holds the group when it has one of the
words. Needs an embedder; without one there are no groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.cluster import spherical_kmeans
from undertow.models.base import Embedder

MAX_WORDS = 4000
"""Content words grouped, the most frequent first."""
WORDS_PER_GROUP = (8, 20)
"""Mean sizes of the narrow and of the broad groups."""
LEAST_WORDS, LEAST_COSINE = 3, 0.45
"""A word stays in its group when it is this close to the centre; smaller groups are dropped."""
WORDS_IN_NAME = 4


@dataclass(frozen=True)
class WordGroup:
    """Words of a kind."""

    name: str
    """The words nearest the centre, joined by commas."""
    members: NDArray[np.int64]
    """Numbers of the words, nearest first."""


def group_words(
    words: Sequence[str], counts: NDArray[np.int64], embedder: Embedder, seed: int
) -> list[WordGroup]:
    """Cluster words by meaning.

    Args:
        words: W distinct content words.
        counts: Rows that hold each, (W,); weights of the clustering.
        embedder: Embeds single words.
        seed: Fixes the clustering.

    Returns:
        Groups of at least three words, in a fixed order; names differ.
    """
    sizes = [size for size in WORDS_PER_GROUP if len(words) >= 2 * size]
    if not sizes:
        return []
    vectors = embedder.embed(list(words))
    weights = np.log1p(counts.astype(np.float64))
    groups: dict[str, WordGroup] = {}
    for size in sizes:
        centroids, ids = spherical_kmeans(vectors, weights, len(words) // size, seed, restarts=5)
        cosine = np.einsum("ij,ij->i", vectors, centroids[ids])
        for group in range(len(centroids)):
            near = np.flatnonzero((ids == group) & (cosine >= LEAST_COSINE))
            near = near[np.lexsort((near, -cosine[near]))]
            name = ", ".join(words[int(i)] for i in near[:WORDS_IN_NAME])
            if len(near) >= LEAST_WORDS:
                groups.setdefault(name, WordGroup(name, near))
    return list(groups.values())
