"""One failing query (or several of one finding) held against the index: everything a trace computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.index.open import Index
from undertow.turf.config import TraceConfig
from undertow.turf.counts import Bools, Counts, FeatureRows, Floats, Ints, count
from undertow.turf.crux import ResolvedCrux, behaviour_columns, weights
from undertow.turf.retrieve import Retrieved, hits, retrieve
from undertow.turf.triggers import Evidence, Ranking, assess, rank


@dataclass(frozen=True, slots=True)
class Failing:
    """The features of the failing queries."""

    features_F: Ints
    """(F,) clusters that hold for more than the majority share of the queries and occur in the corpus."""
    shares_F: Floats
    """(F,) share of the queries each holds for."""
    texts: tuple[str, ...]
    """The queries' own attribute of each cluster."""
    kinds: tuple[str, ...]
    """Extractor family of that attribute."""
    rows: FeatureRows
    """The corpus rows of each."""


@dataclass(frozen=True, slots=True)
class Held:
    """The failing queries held against the corpus."""

    failing: Failing
    """What was tested."""
    cruxes: tuple[ResolvedCrux, ...]
    """Against which behaviours."""
    thresholds: tuple[float, ...]
    """For each crux the similarity from which an attribute counts as it."""
    behaviour_CN: Bools
    """Rows that show each crux."""
    counts: Counts
    """Contingency counts."""
    evidence: Evidence
    """Tests."""
    ranking: Ranking
    """Triggers."""
    retrieved: tuple[dict[int, Retrieved], ...]
    """For each crux the retrieved pairs by k."""
    hits: tuple[dict[int, Ints], ...]
    """For each crux the paper's hit counts by k, (F,) each."""


def failing_features(index: Index, prompts: Sequence[str], majority: float) -> Failing:
    """Extract the queries' attributes and assign them to clusters (paper eq. 5).

    A local attribute is its own cluster, so nothing is lost to the nearest centroid.
    """
    held = index.extractor.transform(list(prompts), "query").tocsr().astype(np.int64)
    clusters = index.clusters
    share_m = np.asarray(held.sum(axis=0)).ravel() / len(prompts)
    share = np.zeros(index.features.m)
    np.maximum.at(share, clusters, share_m)
    features = np.flatnonzero((share > majority) & (index.features.counts > 0))
    best = {int(clusters[i]): int(i) for i in np.argsort(share_m, kind="stable") if share_m[i]}
    own = [best[int(feature)] for feature in features]
    texts, kinds = index.texts("query"), index.kinds("query")
    return Failing(
        features_F=features,
        shares_F=share[features],
        texts=tuple(texts[i] for i in own),
        kinds=tuple(kinds[i] for i in own),
        rows=FeatureRows.gather(index.features, features, index.source_codes, len(index.source_names)),
    )


def hold(index: Index, prompts: Sequence[str], cruxes: Sequence[ResolvedCrux], config: TraceConfig) -> Held:
    """Retrieve, count, test and rank: the online part of the paper's §4.1 with base rates."""
    failing = failing_features(index, prompts, config.majority)
    near = neighbours(index, cruxes, max(config.k, *config.k_others))
    columns = [
        behaviour_columns(index, crux.attribute, ids, cosines, config.threshold)
        for crux, (ids, cosines) in zip(cruxes, near, strict=True)
    ]
    behaviour = np.stack([index.incidence("response").any_of(which) for which, _ in columns])
    counts, evidence, ranking = judge(index, failing, behaviour, weights(cruxes), config)
    rng = np.random.default_rng(config.seed)
    ks = sorted({config.k, *config.k_others})
    retrieved = tuple(
        {k: retrieve(index.incidence("response"), ids, cosines, k, rng) for k in ks} for ids, cosines in near
    )
    return Held(
        failing=failing,
        cruxes=tuple(cruxes),
        thresholds=tuple(threshold for _, threshold in columns),
        behaviour_CN=behaviour,
        counts=counts,
        evidence=evidence,
        ranking=ranking,
        retrieved=retrieved,
        hits=tuple({k: hits(failing.rows, found) for k, found in by_k.items()} for by_k in retrieved),
    )


def judge(
    index: Index, failing: Failing, behaviour_CN: Bools, weights_C: Floats, config: TraceConfig
) -> tuple[Counts, Evidence, Ranking]:
    """Count, test and rank the failing queries' features for given behaviour labels."""
    counts = count(failing.rows, behaviour_CN)
    evidence = assess(counts, config)
    ranking = rank(
        index.features,
        counts,
        evidence,
        behaviour_CN,
        weights_C,
        failing.shares_F,
        failing.texts,
        failing.kinds,
        config,
    )
    return counts, evidence, ranking


def neighbours(
    index: Index, cruxes: Sequence[ResolvedCrux], k: int
) -> list[tuple[Ints, np.ndarray[tuple[int], np.dtype[np.float32]]]]:
    """Find each crux's most similar response attributes: enough for k pairs and the whole tie at the k-th."""
    scanner = index.scanner("response")
    vectors = np.asarray(index.vectors("response")[[crux.attribute for crux in cruxes]], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    room = k + 1000
    while True:
        cosines, ids = scanner.top_k(vectors, room)
        if room >= scanner.rows or (cosines[:, k - 1] > cosines[:, -1] + 1e-5).all():
            return [(ids[c], cosines[c]) for c in range(len(cruxes))]
        room *= 2
