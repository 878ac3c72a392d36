"""Responses as unit vectors: each text by the embedder where they are few, else means of word vectors.

Embedding tens of thousands of long responses costs an hour on two cores. Above :data:`MOST_TEXTS` every
frequent word is embedded once, and a response is the mean of its words' vectors, rare words weighing more
(smooth inverse frequency, the common direction taken out: Arora et al. 2017). No response is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.fit import batches_of, groups, parallel
from undertow.attributes.mine import encode, join_words
from undertow.attributes.streams import Words
from undertow.preference.local import distinct_responses, located_words, spelled
from undertow.progress import SILENT, Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.data.preferences import PreferenceData
    from undertow.models.base import Embedder

MOST_TEXTS = 1500
"""Distinct responses up to which each is embedded as a whole."""
MOST_WORDS = 6_000
"""Words that are embedded, the ones in most responses."""
LEAST_TEXTS = 3
"""Responses that a word must stand in."""
SMOOTHING = 1e-3
"""a of the weight a/(a + p) of a word of frequency p (Arora et al. 2017, §3)."""
BATCH = 1024


@dataclass(frozen=True)
class ResponseVectors:
    """Vectors of both sides of n pairs."""

    chosen: NDArray[np.float32]
    """Unit rows, or 0 for a text without known words, (n, d)."""
    rejected: NDArray[np.float32]
    """The same, (n, d)."""
    made_of: Literal["texts", "words"]
    """Whether each text was embedded, or the words of all."""

    @property
    def differences(self) -> NDArray[np.float32]:
        """e_Δ = e⁺ - e⁻, (n, d)."""
        return self.chosen - self.rejected


def response_vectors(
    data: PreferenceData, embedder: Embedder, progress: Progress = SILENT, most_texts: int = MOST_TEXTS
) -> ResponseVectors:
    """Embed the responses, equal ones once; see the module for what is done with many."""
    texts, (chosen, rejected) = distinct_responses(data)
    few = len(texts) <= most_texts
    vectors = _embed(texts.to_pylist(), embedder, progress) if few else _by_words(texts, embedder, progress)
    return ResponseVectors(vectors[chosen], vectors[rejected], "texts" if few else "words")


def _embed(texts: list[str], embedder: Embedder, progress: Progress) -> NDArray[np.float32]:
    out = np.zeros((len(texts), embedder.dim), np.float32)
    with progress.task("embed responses", len(texts)) as task:
        for start in range(0, len(texts), BATCH):
            part = texts[start : start + BATCH]
            out[start : start + len(part)] = embedder.embed(part)
            task.advance(len(part))
    return out


def _by_words(texts: pa.Array, embedder: Embedder, progress: Progress) -> NDArray[np.float32]:
    def read(unit: tuple[int, pa.Array]) -> Words:
        return join_words([located_words(batch, unit[0] + first) for first, batch in batches_of(unit[1])])

    stream = join_words(list(parallel(read, groups(texts))))
    ids, distinct = encode(stream.hashes)
    counts = sparse.csr_matrix(
        (np.ones(len(ids), np.float32), (stream.rows, ids)), shape=(len(texts), max(1, len(distinct)))
    )
    counts.sum_duplicates()
    held = np.diff(counts.tocsc().indptr)
    often = np.argsort(-held, kind="stable")[:MOST_WORDS]
    often = np.sort(often[held[often] >= min(LEAST_TEXTS, len(texts))])
    place = np.zeros(max(1, len(distinct)), np.int64)
    place[ids[::-1]] = np.arange(len(ids))[::-1]
    said = spelled(texts, stream, place[often], np.ones(len(often), np.int8))
    words = _embed(said, embedder, progress)
    return _means(sparse.csr_matrix(counts[:, often]), words)


def _means(counts: sparse.csr_matrix, words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted mean word vector of each text without the common direction, as unit rows, (m, d)."""
    frequency = np.asarray(counts.sum(axis=0)).ravel() / max(1.0, float(counts.sum()))
    weights = SMOOTHING / (SMOOTHING + frequency)
    means = np.asarray(counts @ (words * weights[:, None]), np.float32)
    means /= np.maximum(np.asarray(counts @ weights), 1e-12)[:, None]
    common = np.linalg.eigh(means.T @ means)[1][:, -1]
    means -= np.outer(means @ common, common)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.where(norms > 1e-6, means / np.maximum(norms, 1e-6), 0)
    return unit.astype(np.float32)
