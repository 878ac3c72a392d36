"""Communities of features and clusters of pairs: planted ones come back, and are the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from undertow.preference.cofiring import cofiring_clusters, nmi_edges, normalised_mutual_information
from undertow.preference.concepts import Activations, Concept
from undertow.preference.config import AuditConfig
from undertow.preference.groups import (
    data_clusters,
    feature_clusters,
    feature_embeddings,
    sparse_spherical_kmeans,
    top_groups,
)


def firing(seed: int, blocks: int = 6, size: int = 12, n: int = 1500) -> np.ndarray:
    rng = np.random.default_rng(seed)
    latent = rng.random((n, blocks)) < 0.15
    on = np.repeat(latent, size, 1) & (rng.random((n, blocks * size)) < 0.8)
    return (on | (rng.random(on.shape) < 0.02)).astype(np.float32)


def test_edges_are_the_pairs_of_highest_mutual_information():
    table = firing(0, 2, 5)
    first, second, weight = nmi_edges(sparse.csr_matrix(table), 0.4)
    assert len(weight) == 18
    for g, h, value in zip(first, second, weight, strict=True):
        expected = normalized_mutual_info_score(table[:, g], table[:, h], average_method="geometric")
        assert value == pytest.approx(expected, abs=1e-6)
    every = [normalized_mutual_info_score(table[:, g], table[:, h], average_method="geometric")
             for g in range(10) for h in range(g)]  # fmt: skip
    assert weight.min() >= np.sort(every)[-20] - 1e-6


def test_what_cannot_be_an_edge_is_left_out_without_losing_one():
    """600 columns, three blocks: the bound by φ² leaves the same edges as weighing every pair does."""
    table = firing(3, 50, 12, 800)
    first, second, weight = nmi_edges(sparse.csr_matrix(table), 0.01)
    count, both = table.sum(axis=0), table.T @ table
    g, h = np.triu_indices(600, 1)
    every = normalised_mutual_information(both[g, h], count[g], count[h], 800)
    every[both[g, h] <= count[g] * count[h] / 800] = 0
    assert len(weight) == np.ceil(0.01 * 600 * 599 / 2)
    assert weight == pytest.approx(np.sort(every)[::-1][: len(weight)], abs=1e-9)
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == len(weight)


def test_features_that_fire_together_are_one_cluster():
    table = sparse.csr_matrix(firing(1))
    concepts = tuple(Concept(f"f{i}", f"feature {i}", "model") for i in range(72))
    both = Activations(concepts, table, sparse.csr_matrix(table.shape, dtype=np.float32))
    config = AuditConfig(edge_share=0.12)
    found = cofiring_clusters(both, config)
    assert [c.members for c in sorted(found, key=lambda c: c.members)] == [
        tuple(range(12 * b, 12 * b + 12)) for b in range(6)
    ]
    assert cofiring_clusters(both, config) == found
    few = Activations(concepts[:5], table[:, :5], table[:, :5])
    assert cofiring_clusters(few, config) == (), "five features are too few"


def test_pairs_of_one_direction_are_one_cluster_and_silent_ones_none():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 800)
    activity = np.eye(4).repeat(5, 1)[kind] * rng.random((800, 1)) * 3 + rng.random((800, 20)) * 0.05
    activity[:30] = 0
    config = AuditConfig(clusters=4, pairs_per_cluster=1)
    labels = data_clusters(sparse.csr_matrix(activity), 800, config)
    assert (labels[:30] == -1).all()
    heard = labels >= 0
    assert heard.mean() == pytest.approx(0.95, abs=0.02)
    assert adjusted_rand_score(kind[heard], labels[heard]) > 0.95
    assert (labels == data_clusters(sparse.csr_matrix(activity), 800, config)).all()


def test_sparse_kmeans_survives_fewer_directions_than_clusters():
    unit = sparse.csr_matrix(np.eye(3, dtype=np.float32)[np.arange(90) % 3])
    labels = sparse_spherical_kmeans(unit, 8, np.random.default_rng(0))
    assert all(len(np.unique(labels[k::3])) == 1 for k in range(3))


def test_feature_embeddings_are_the_svd_of_the_centred_columns():
    table = firing(2, 4, 6, 400)
    scaled = (table - table.mean(0)) / table.std(0)
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    found = feature_embeddings(sparse.csr_matrix(table), 4, np.random.default_rng(0), rounds=6)
    exact = (right[:4].T * singular[:4]) @ (right[:4].T * singular[:4]).T
    near = 0.02 * float(np.abs(exact).max())
    assert found @ found.T == pytest.approx(exact, rel=0.02, abs=near)
    labels = feature_clusters(sparse.csr_matrix(table), 4, 0)
    assert adjusted_rand_score(np.repeat(np.arange(4), 6), labels) == 1.0


def test_a_group_is_the_most_active_pairs_and_never_an_inactive_one():
    activity = sparse.csr_matrix(np.array([[3.0, 0], [1, 0], [2, 0], [0, 5]]))
    inside = top_groups(activity, 2, np.random.default_rng(0)).toarray()
    assert inside.tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]
