"""Everything an audit needs of the texts: concepts of responses and prompts, topics of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undertow.models.embed import open_embedder
from undertow.preference.concepts import Activations, PromptActivations
from undertow.preference.config import PrefsConfig
from undertow.preference.local import distinct_responses, local_concepts, prompt_concepts
from undertow.preference.policy_sources import gather_policy
from undertow.preference.topics import prompt_topics
from undertow.preference.vectors import MOST_TEXTS
from undertow.progress import SILENT, Progress
from undertow.store.run import config_hash

if TYPE_CHECKING:
    from undertow.data.preferences import PreferenceData
    from undertow.models.base import Embedder
    from undertow.preference.embedding import EmbeddingConcepts
    from undertow.store.run import RunDir

Topics = tuple[NDArray[np.int64], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was measured of the texts."""

    activations: Activations
    """Of the responses, all families side by side."""
    prompt_activations: PromptActivations | None
    """Of the prompts."""
    topics: Topics | None
    """Cluster of each pair's prompt embedding (N,), and names; ``None`` without embeddings."""
    embedding: dict[str, object] | None
    """What came of the embedding autoencoder, for the summary; ``None`` without."""
    policy: dict[str, object] | None = None
    """What came of the policy's autoencoder and probes; ``None`` without."""


def gather(
    pairs: PreferenceData,
    config: PrefsConfig,
    progress: Progress = SILENT,
    run: RunDir | None = None,
    embedder: Embedder | None = None,
) -> Gathered:
    """Measure local concepts, with ``config.embedding`` topics and the embedding SAE, and a policy's part.

    Embeddings are kept as a stage of ``run``, so that an interrupted audit does not embed twice. Without an
    ``embedder`` that of ``config`` is opened.
    """
    local = local_concepts(pairs, progress)
    asked = prompt_concepts(pairs, progress)
    read = gather_policy(pairs, local, config, run, progress)
    prompts = prompts_side_by_side([asked, read.prompts] if read.prompts else [asked])
    parts = [local, *read.activations]
    if not config.embedding:
        return Gathered(side_by_side(parts), prompts, None, None, read.told or None)
    embedder = embedder or open_embedder(config.embedder)
    topics = _topics(pairs, config, embedder, progress, run)
    found = _embedded(pairs, local, config, embedder, progress, run)
    activations = side_by_side([local, found.activations, *read.activations])
    return Gathered(activations, prompts, topics, _told(found), read.told or None)


def side_by_side(parts: Sequence[Activations]) -> Activations:
    """Put families of concepts of the same pairs into one table."""
    concepts = tuple(concept for part in parts for concept in part.concepts)
    chosen = sparse.hstack([part.chosen for part in parts], format="csr", dtype=np.float32)
    rejected = sparse.hstack([part.rejected for part in parts], format="csr", dtype=np.float32)
    return Activations(concepts, chosen, rejected)


def prompts_side_by_side(parts: Sequence[PromptActivations]) -> PromptActivations:
    """Put families of concepts of the same prompts into one table."""
    concepts = tuple(concept for part in parts for concept in part.concepts)
    values = sparse.hstack([part.values for part in parts], format="csr", dtype=np.float32)
    return PromptActivations(concepts, values)


def _embedded(
    pairs: PreferenceData, local: Activations, config: PrefsConfig, embedder: Embedder, progress: Progress,
    run: RunDir | None,
) -> EmbeddingConcepts:  # fmt: skip
    """Train the embedding SAE on vectors that an interrupted run has kept."""
    from undertow.preference.embedding import embedding_concepts
    from undertow.preference.vectors import ResponseVectors, response_vectors

    def vectors() -> NDArray[np.float32]:
        found = response_vectors(pairs, embedder, progress)
        return np.stack([found.chosen, found.rejected])

    both = _kept(run, "response_vectors", config_hash([pairs.hash, config.embedder]), vectors)
    few = len(distinct_responses(pairs)[0]) <= MOST_TEXTS
    whole = ResponseVectors(both[0], both[1], "texts" if few else "words")
    progress.say("training the embedding autoencoder")
    return embedding_concepts(whole, local, pairs.prompt_group, seed=config.audit.seed)


def _told(found: EmbeddingConcepts) -> dict[str, object]:
    """What came of the autoencoder, for the summary."""
    return {
        "explained": found.explained,
        "made_of": found.made_of,
        "features": len(found.features),
        "kept": sum(feature.kept for feature in found.features),
        "dropped": [f.text for f in found.features if not f.kept],
        "fidelity": {f"{f.index}": f.fidelity for f in found.features if f.kept},
    }


def distinct_prompts(pairs: PreferenceData) -> list[str]:
    """Text of each prompt group, in the order of their numbers."""
    first = np.unique(pairs.prompt_group, return_index=True)[1]
    return [str(text) for text in pairs.table["prompt"].take(first).to_pylist()]


def _topics(
    pairs: PreferenceData, config: PrefsConfig, embedder: Embedder, progress: Progress, run: RunDir | None
) -> Topics:
    texts = distinct_prompts(pairs)
    key = config_hash([pairs.hash, config.embedder])
    vectors = _kept(run, "prompt_vectors", key, lambda: _embed(texts, embedder, progress))
    return prompt_topics(texts, vectors, pairs.prompt_group.astype(np.int64), config.audit)


def _embed(texts: list[str], embedder: Embedder, progress: Progress) -> NDArray[np.float32]:
    out = np.zeros((len(texts), embedder.dim), np.float32)
    with progress.task("embed prompts", len(texts)) as task:
        for start in range(0, len(texts), _BATCH):
            part = texts[start : start + _BATCH]
            out[start : start + len(part)] = embedder.embed(part)
            task.advance(len(part))
    return out


_BATCH = 4096


def _kept(
    run: RunDir | None, name: str, key: str, make: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Make vectors once for a run."""
    if run is None:
        return make()

    def write(folder: Path) -> None:
        np.save(folder / "vectors.npy", make())

    run.stage(name, key, write)
    return np.asarray(np.load(run.stage_path(name) / "vectors.npy"), np.float32)
