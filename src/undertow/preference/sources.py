"""Everything an audit needs of the texts: concepts of responses and prompts, topics of prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.preference.concepts import Activations, PromptActivations
from undertow.preference.config import PrefsConfig
from undertow.preference.local import local_concepts, prompt_concepts
from undertow.preference.topics import prompt_topics
from undertow.progress import SILENT, Progress

if TYPE_CHECKING:
    from undertow.data.preferences import PreferenceData
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


def gather(
    pairs: PreferenceData, config: PrefsConfig, progress: Progress = SILENT, run: RunDir | None = None
) -> Gathered:
    """Measure local concepts, and with ``config.embedding`` topics and the embedding SAE.

    Embeddings are kept as a stage of ``run``, so that an interrupted audit does not embed twice.
    """
    activations = local_concepts(pairs, progress)
    prompts = prompt_concepts(pairs, progress)
    topics = _topics(pairs, config, progress, run) if config.embedding else None
    return Gathered(activations, prompts, topics)


def distinct_prompts(pairs: PreferenceData) -> list[str]:
    """Text of each prompt group, in the order of their numbers."""
    first = np.unique(pairs.prompt_group, return_index=True)[1]
    return [str(text) for text in pairs.table["prompt"].take(first).to_pylist()]


def _topics(pairs: PreferenceData, config: PrefsConfig, progress: Progress, run: RunDir | None) -> Topics:
    texts = distinct_prompts(pairs)
    vectors = _kept(run, "prompt_vectors", pairs.hash, lambda: _embed(texts, config, progress))
    return prompt_topics(texts, vectors, pairs.prompt_group.astype(np.int64), config.audit)


def _embed(texts: list[str], config: PrefsConfig, progress: Progress) -> NDArray[np.float32]:
    from undertow.models.embed import open_embedder

    embedder = open_embedder(config.embedder)
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
