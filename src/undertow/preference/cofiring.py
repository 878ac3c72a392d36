"""Which features of a model's SAE belong together: co-firing, mutual information, Leiden (paper App. B.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.preference.concepts import Activations, Concept
from undertow.preference.config import AuditConfig
from undertow.preference.disparity import ConceptCluster, fires

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""First feature, second feature, weight."""

ROWS = 20_000
"""Pairs that mutual information is estimated on; the standard error of a count's share is then below .004."""
EDGES_PER_FEATURE = 32
"""Most edges a feature has on average: 1 % of the pairs of 65 k features would be 320 each, which tells
communities no better and takes Leiden ten times as long."""
_BLOCK = 256


def nmi_edges(firing: csr_matrix, share: float, least: int = 10) -> Edges:
    """Return the pairs of columns with the highest normalised mutual information.

    I / √(H_g H_h) of binary columns; only pairs that fire together more often than chance, and columns that
    fire in ``least`` rows and miss in as many.

    Args:
        firing: binary (N, M).
        share: of all pairs of columns to keep.
        least: rows.
    """
    n, m = firing.shape
    counts = np.asarray(firing.sum(0)).ravel()
    kept = np.flatnonzero((counts >= least) & (counts <= n - least))
    table = firing[:, kept].astype(np.float32)
    limit = min(int(np.ceil(share * m * (m - 1) / 2)), EDGES_PER_FEATURE * m)
    best: Edges = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    transposed, by_column = table.T.tocsr(), table.tocsc()
    share_of = counts[kept] / n
    reach = 0.0
    for start in range(0, len(kept), _BLOCK):
        together = (transposed[start : start + _BLOCK] @ by_column[:, start:].tocsr()).toarray()
        at = _able(together, share_of[start:], n, reach)
        first, second = at[0] + start, at[1] + start
        weight = normalised_mutual_information(together[at], counts[kept][first], counts[kept][second], n)
        best = _joined(best, (first, second, weight))
        if len(best[2]) > limit + limit // 4:
            reach = float(np.partition(best[2], -limit)[-limit])
            high = best[2] >= reach
            best = best[0][high], best[1][high], best[2][high]
    best = _top(best, limit)
    return kept[best[0]], kept[best[1]], best[2]


def _joined(first: Edges, second: Edges) -> Edges:
    a, b, c = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    return a, b, c


def _able(
    both: NDArray[np.float32], share: NDArray[np.float64], n: int, least: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Cells of a block above the diagonal that fire together more than by chance and can reach ``least``.

    Mutual information is never above φ² = (p_gh - p_g p_h)² / (p_g q_g p_h q_h) (a divergence is at most its
    χ²), so that p_gh must reach p_g p_h + √(least · scale_g · scale_h): no logarithm, and few are left.
    """
    rows = len(both)
    scale = np.sqrt(share * (1 - share) * np.sqrt(_entropy(share) * least))
    by_chance, more = share.astype(np.float32), (scale * (1 - 1e-4)).astype(np.float32)
    needed = np.outer(by_chance[:rows] * n, by_chance) + np.outer(more[:rows] * n, more)
    above = both > needed
    above[:, :rows] &= np.triu(np.ones((rows, rows), np.bool_), 1)
    first, second = np.nonzero(above)
    return first, second


def normalised_mutual_information(
    both: NDArray[Any], first: NDArray[Any], second: NDArray[Any], n: int
) -> NDArray[np.float64]:
    """I(g, h) / √(H(g) H(h)) of binary variables from counts: both fire, each fires, of n."""
    g, h, gh = np.asarray(first) / n, np.asarray(second) / n, np.asarray(both) / n
    information = sum(
        _term(joint, one * other)
        for joint, one, other in (
            (gh, g, h), (g - gh, g, 1 - h), (h - gh, 1 - g, h), (1 - g - h + gh, 1 - g, 1 - h),
        )
    )  # fmt: skip
    entropy = np.sqrt(_entropy(g) * _entropy(h))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(entropy > 0, information / entropy, 0.0)


def _term(joint: NDArray[Any], product: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(joint > 0, joint * np.log(joint / product), 0.0)


def _entropy(p: NDArray[Any]) -> NDArray[np.float64]:
    return -_term(p, np.ones_like(p)) - _term(1 - p, np.ones_like(p))


def _top(edges: Sequence[NDArray[Any]], limit: int) -> Edges:
    first, second, weight = edges
    if len(weight) > limit:
        # ties at the limit go by feature number, so that the same data give the same edges
        order = np.lexsort((second, first, -weight))[:limit]
        first, second, weight = first[order], second[order], weight[order]
    return first, second, weight


def communities(edges: Edges, features: int, seed: int) -> list[list[int]]:
    """Split features by Leiden on modularity (Traag et al. 2019), largest community first.

    Raises:
        UsageError: leidenalg is not installed.
    """
    try:
        import igraph
        import leidenalg
    except ModuleNotFoundError:
        raise UsageError("features of a model's SAE need leidenalg; install undertow[local]") from None

    first, second, weight = edges
    graph = igraph.Graph(n=features, edges=np.column_stack([first, second]), directed=False)
    partition = leidenalg.find_partition(
        graph, leidenalg.ModularityVertexPartition, weights=weight, seed=seed, n_iterations=2
    )
    found = [sorted(int(i) for i in members) for members in partition]
    return sorted(found, key=lambda members: (-len(members), members[0]))


def cofiring_clusters(activations: Activations, config: AuditConfig) -> tuple[ConceptCluster, ...]:
    """Cluster the features of a model's SAE that fire on the same pairs; none without such features."""
    columns = np.array([i for i, c in enumerate(activations.concepts) if c.family == "model"], np.int64)
    if not len(columns):
        return ()
    rng = np.random.default_rng(config.seed)
    n = activations.chosen.shape[0]
    rows = np.sort(rng.choice(n, ROWS, replace=False)) if n > ROWS else np.arange(n)
    chosen, rejected = (side[rows][:, columns] for side in (activations.chosen, activations.rejected))
    edges = nmi_edges(fires(fires(chosen, config.tau) + fires(rejected, config.tau), 0.5), config.edge_share)
    found = communities(edges, len(columns), config.seed)
    least = max(config.least_community, config.least_features)
    return tuple(
        named_cluster(f"cluster-{number:04d}", activations.concepts, [int(columns[i]) for i in members])
        for number, members in enumerate(found)
        if len(members) >= least
    )


def named_cluster(name: str, concepts: Sequence[Concept], members: Sequence[int]) -> ConceptCluster:
    """Name a cluster by its first members' texts."""
    shown = "; ".join(concepts[i].text for i in members[:3])
    more = f"; and {len(members) - 3} more" if len(members) > 3 else ""
    return ConceptCluster(name, shown + more, concepts[members[0]].family, tuple(members))
