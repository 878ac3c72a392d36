"""The two questions to a preference set: where is a concept rewarded, and what do such prompts reward?

Feature-conditioned (paper §3.2, App. B.1): pairs grouped by what both responses show. Prompt-conditioned
(paper §3.1, App. B.2): pairs grouped by their prompt. Both end in groups of pairs and signed values of
concepts, which :func:`undertow.preference.contrasts.cells_test` tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from undertow.preference.cofiring import cofiring_clusters, named_cluster
from undertow.preference.concepts import Activations, PromptActivations
from undertow.preference.config import AuditConfig
from undertow.preference.disparity import (
    ConceptCluster,
    Disparities,
    fires,
    membership,
    single_clusters,
)
from undertow.preference.groups import Groups, data_clusters, feature_clusters, indicator, stack, top_groups

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Pipeline = Literal["global", "local"]


@dataclass(frozen=True, slots=True)
class View:
    """What one pipeline tests."""

    pipeline: Pipeline
    """``global``: feature-conditioned; ``local``: prompt-conditioned."""
    groups: Groups
    """Groups of pairs (K)."""
    clusters: tuple[ConceptCluster, ...]
    """Concepts (M)."""
    values: csr_matrix
    """(N, M): u, odd under a swap of chosen and rejected."""


def concept_clusters(activations: Activations, config: AuditConfig) -> tuple[ConceptCluster, ...]:
    """Concepts as the global pipeline tests them: alone, and a model's features by co-firing."""
    return single_clusters(activations.concepts, config.single_features) + cofiring_clusters(
        activations, config
    )


def feature_conditioned(found: Disparities, prompts: int, config: AuditConfig) -> View:
    """Group pairs by activity s, to be tested on disparity u, so that selection does not make the effect.

    Args:
        found: s and u of every pair.
        prompts: how many distinct ones there are.
        config: limits.
    """
    labels = data_clusters(found.activity, prompts, config)
    k = int(labels.max(initial=-1)) + 1
    inside = indicator(labels, k)
    names = _active_names(found, inside)
    return View("global", Groups("responses", names, inside), found.clusters, found.signed)


def _active_names(found: Disparities, inside: csr_matrix, most: int = 3) -> tuple[str, ...]:
    """Name each group by the concepts that are most active in it against all pairs."""
    mean = np.asarray(found.activity.mean(0)).ravel()
    size = np.maximum(np.asarray(inside.sum(1)).ravel(), 1)[:, None]
    ratio = np.asarray((inside @ found.activity).todense()) / size
    spread = np.sqrt(np.asarray(found.activity.multiply(found.activity).mean(0)).ravel())
    score = (ratio - mean) / np.where(spread > 0, spread, 1)
    return tuple(
        "; ".join(
            found.clusters[m].text.rstrip(".") for m in np.argsort(-row, kind="stable")[:most] if row[m] > 0
        )
        or "no concept stands out"
        for row in score
    )


def prompt_conditioned(
    activations: Activations,
    prompts: PromptActivations | None,
    topics: tuple[NDArray[np.int64], tuple[str, ...]] | None,
    config: AuditConfig,
) -> View | None:
    """Group pairs by prompt: by topic, by prompt concept, by clusters A_k of a model's prompt features.

    Args:
        activations: of the responses.
        prompts: of the prompts; ``None`` where there are none.
        topics: cluster of each pair's prompt embedding (N,), and names; for text alone [R].
        config: limits.

    Returns:
        ``None`` where neither kind of group, or no response concept, is left.
    """
    found = standardised_differences(activations, config)
    parts = _topic_groups(topics) + _prompt_groups(prompts, config)
    if found is None or not parts:
        return None
    clusters, values = found
    return View("local", stack(parts), clusters, values)


def standardised_differences(
    activations: Activations, config: AuditConfig
) -> tuple[tuple[ConceptCluster, ...], csr_matrix] | None:
    """Return the clusters R_m and u (N, M): the mean over R_m of D/σ, D = chosen - rejected.

    A concept is kept that fires in ``least_firing`` pairs (1 % of few), with σ ≥ 1e-3 and mean|D| ≥ 1e-4.
    The paper centres D; Δ is the same without, and u stays odd under a swap, as the label-swap null needs.
    """
    from scipy import sparse

    n = activations.chosen.shape[0]
    difference = (activations.chosen - activations.rejected).tocsr().astype(np.float32)
    mean = np.asarray(difference.mean(0)).ravel()
    square = np.asarray(difference.multiply(difference).mean(0)).ravel()
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    firing = fires(activations.chosen, 0.0) + fires(activations.rejected, 0.0)
    least = min(config.least_firing, max(config.least_pairs, n // 100))
    kept = (firing.getnnz(0) >= least) & (sd >= 1e-3)
    kept &= np.asarray(abs(difference).mean(0)).ravel() >= 1e-4
    clusters = _response_clusters(activations, difference, kept, config)
    if not clusters:
        return None
    scale = sparse.diags(np.where(sd > 0, 1 / np.maximum(sd, 1e-12), 0).astype(np.float32))
    mixing = scale @ membership([c.members for c in clusters], len(activations.concepts), mean=True)
    return clusters, (difference @ mixing).tocsr()


def _response_clusters(
    activations: Activations, difference: csr_matrix, kept: NDArray[np.bool_], config: AuditConfig
) -> tuple[ConceptCluster, ...]:
    alone = single_clusters(activations.concepts, config.single_features)
    singles = tuple(c for c in alone if kept[c.members[0]])
    columns = _model_columns(activations.concepts, kept)
    if len(columns) < 2:
        return singles
    labels = feature_clusters(difference[:, columns], config.response_clusters, config.seed)
    return singles + tuple(
        named_cluster(f"responses-{label:04d}", activations.concepts, columns[labels == label].tolist())
        for label in np.unique(labels)
    )


def _model_columns(concepts: tuple[object, ...], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    family = [getattr(c, "family", "") == "model" for c in concepts]
    return np.flatnonzero(np.array(family, bool) & kept)


def _topic_groups(topics: tuple[NDArray[np.int64], tuple[str, ...]] | None) -> list[Groups]:
    if topics is None:
        return []
    labels, names = topics
    return [Groups("prompts", names, indicator(labels, len(names)))]


def _prompt_groups(prompts: PromptActivations | None, config: AuditConfig) -> list[Groups]:
    """S(k): the pairs whose prompt shows A_k most, at most 2 % of all."""
    if prompts is None or not len(prompts.concepts):
        return []
    n = prompts.values.shape[0]
    least = min(config.least_firing, max(config.least_pairs, n // 100))
    firing = prompts.values.getnnz(0)
    clusters = [c for c in single_clusters(prompts.concepts) if least <= firing[c.members[0]] <= n - least]
    columns = _model_columns(prompts.concepts, firing >= least)
    if len(columns) >= 2:
        labels = feature_clusters(prompts.values[:, columns], config.prompt_clusters, config.seed)
        clusters += [
            named_cluster(f"prompts-{label:04d}", prompts.concepts, columns[labels == label].tolist())
            for label in np.unique(labels)
        ]
    if not clusters:
        return []
    activity = prompts.values @ membership([c.members for c in clusters], len(prompts.concepts), mean=True)
    most = max(2 * config.least_pairs, n // 50)
    inside = top_groups(activity.tocsr(), most, np.random.default_rng(config.seed))
    return [Groups("prompts", tuple(c.text for c in clusters), inside)]
