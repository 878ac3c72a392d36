"""Groups of prompts by their text alone: clusters of embeddings, named by the words that stand out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.cluster import spherical_kmeans
from undertow.preference.config import AuditConfig

_WORDS = 4
_WORD = r"(?u)\b[^\W\d_]{3,}\b"


def prompt_topics(
    texts: Sequence[str], vectors: NDArray[np.float32], prompts: NDArray[np.int64], config: AuditConfig
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Cluster distinct prompts by embedding [R].

    Args:
        texts: distinct prompts (G,).
        vectors: (G, d) unit rows.
        prompts: (N,) which of them each pair has.
        config: how many.

    Returns:
        Cluster of each pair (N,), and the clusters' names.
    """
    k = max(1, min(config.clusters, len(texts) // config.prompts_per_group))
    _, labels = spherical_kmeans(vectors, np.ones(len(texts)), k, config.seed)
    return labels[prompts], distinctive_words(texts, labels, int(labels.max()) + 1)


def distinctive_words(texts: Sequence[str], labels: NDArray[np.int64], k: int) -> tuple[str, ...]:
    """Name each of ``k`` groups of texts by the words that stand in more of its texts than chance would have.

    Score: (a - e)/√e of the number of texts with the word. Labels below 0 are in no group.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, stop_words="english", token_pattern=_WORD, max_features=20_000)
    try:
        table = counter.fit_transform(texts)
    except ValueError:  # no text holds a word
        return tuple(f"group {i + 1}" for i in range(k))
    inside = labels >= 0
    shape = (k, len(texts))
    member = sparse.csr_matrix((np.ones(inside.sum()), (labels[inside], np.flatnonzero(inside))), shape=shape)
    seen = np.asarray((member @ table).todense(), np.float64)
    expected = np.outer(np.asarray(member.sum(1)).ravel(), np.asarray(table.mean(0)).ravel())
    score = np.where(seen >= 2, (seen - expected) / np.sqrt(expected + 0.5), 0)
    words = counter.get_feature_names_out()
    return tuple(_name(row, words, number) for number, row in enumerate(score))


def _name(score: NDArray[np.float64], words: Sequence[str], number: int) -> str:
    best = [str(words[i]) for i in np.argsort(-score, kind="stable")[:_WORDS] if score[i] > 0]
    return ", ".join(best) or f"group {number + 1}"
