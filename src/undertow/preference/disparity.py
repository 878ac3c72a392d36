"""What a pair shows of a concept: how much at all, and on which side (paper §3.2, App. B.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from undertow.preference.concepts import Activations, Concept, Family

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True)
class ConceptCluster:
    """T_m: concepts that are tested as one."""

    name: str
    """Unique; of a single concept its own name."""
    text: str
    """One sentence for a person."""
    family: Family
    """Of its members."""
    members: tuple[int, ...]
    """Columns of the activations."""


@dataclass(frozen=True, slots=True)
class Disparities:
    """All pairs by all concept clusters."""

    clusters: tuple[ConceptCluster, ...]
    """Columns."""
    activity: csr_matrix
    """s (N, M): Σ over members of chosen + rejected, label-free; what data are clustered on."""
    signed: csr_matrix
    """u (N, M) in [-1, 1]: mean over members of 1{chosen > τ} - 1{rejected > τ}; what is tested."""


def single_clusters(concepts: Sequence[Concept], most_features: int = 0) -> tuple[ConceptCluster, ...]:
    """Make each concept its own cluster; features of a model's SAE only where there are ``most_features``."""
    few = sum(c.family == "model" for c in concepts) <= most_features
    return tuple(
        ConceptCluster(c.name, c.text, c.family, (i,))
        for i, c in enumerate(concepts)
        if few or c.family != "model"
    )


def fires(values: csr_matrix, tau: float) -> csr_matrix:
    """Mark where a concept stands above ``tau``: float32 ones, same shape."""
    from scipy import sparse

    marks = sparse.csr_matrix(values, copy=True)
    marks.data = (marks.data > tau).astype(np.float32)
    marks.eliminate_zeros()
    return marks


def membership(members: Sequence[Sequence[int]], concepts: int, mean: bool) -> csr_matrix:
    """Build the (concepts, clusters) matrix that sums, or averages, concepts into clusters."""
    from scipy import sparse

    sizes = np.array([len(each) for each in members], np.int64)
    rows = np.array([i for each in members for i in each], np.int64)
    weight = np.repeat(1 / np.maximum(sizes, 1) if mean else np.ones(len(sizes)), sizes)
    column = np.repeat(np.arange(len(sizes)), sizes)
    shape = (concepts, len(sizes))
    return sparse.csr_matrix((weight.astype(np.float32), (rows, column)), shape=shape)


def disparities(activations: Activations, clusters: Sequence[ConceptCluster], tau: float) -> Disparities:
    """Compute s and u of every pair and cluster."""
    members = [cluster.members for cluster in clusters]
    total = membership(members, len(activations.concepts), mean=False)
    mean = membership(members, len(activations.concepts), mean=True)
    activity = (activations.chosen @ total) + (activations.rejected @ total)
    signed = fires(activations.chosen, tau) @ mean - fires(activations.rejected, tau) @ mean
    return Disparities(tuple(clusters), activity.tocsr(), _pruned(signed))


def _pruned(matrix: Any) -> csr_matrix:
    kept: csr_matrix = matrix.tocsr()
    kept.eliminate_zeros()
    return kept
