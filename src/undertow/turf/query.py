"""One failing query (or several of one finding) held against the index: everything a trace computes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from undertow.attributes.cluster import assign
from undertow.index.open import Index
from undertow.records import Message
from undertow.turf.config import TraceConfig
from undertow.turf.counts import Bools, Counts, FeatureRows, Floats, Ints, Rows, count
from undertow.turf.crux import ResolvedCrux, behaviour_columns, crux_vectors, weights
from undertow.turf.retrieve import Retrieved, hits, neighbours, retrieve
from undertow.turf.topic import Group, Widened, own_words, word_groups
from undertow.turf.triggers import JOINED_KIND, Evidence, Ranking, assess, rank

Query = str | tuple[Message, ...]
"""A failing query: its text, or the conversation that it ends."""
PHRASE_KIND = "phrase"
"""Extractor family of a single word."""
MOST_READ = 50
"""Failing queries whose words are read."""


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
    columns: Rows
    """Where the numbers of ``features_F`` are looked up: the index's features, and groups of words."""
    prompts: tuple[str, ...] = ()
    """The failing queries where their words may be read: not where a model writes the attributes."""
    groups: tuple[Group, ...] = ()
    """Groups of words, the last features."""

    def group_of(self, feature: int) -> Group | None:
        """Return the group of words that a feature is; ``None`` for an attribute of the index."""
        group = feature - (len(self.texts) - len(self.groups))
        return self.groups[group] if group >= 0 else None


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


def text_of(query: Query) -> str:
    """Return the last turn."""
    return query if isinstance(query, str) else query[-1].content


def history_of(query: Query) -> tuple[Message, ...]:
    """Return the turns before the last."""
    return () if isinstance(query, str) else query[:-1]


def failing_features(index: Index, queries: Sequence[Query], majority: float) -> Failing:
    """Extract the queries' attributes by the index's local extractor; each is its own cluster."""
    prompts = [text_of(query) for query in queries]
    held = index.extractor.transform(prompts, "query").tocsr().astype(np.int64)
    clusters = index.clusters
    share_m = np.asarray(held.sum(axis=0)).ravel() / len(prompts)
    share = np.zeros(index.query_features.m)
    np.maximum.at(share, clusters, share_m)
    best = {int(clusters[i]): int(i) for i in np.argsort(share_m, kind="stable") if share_m[i]}
    texts, kinds = index.texts("query"), index.kinds("query")
    own = {cluster: (texts[i], kinds[i]) for cluster, i in best.items()}
    return replace(_failing(index, queries, share, own, majority), prompts=tuple(prompts))


def described_features(
    index: Index, queries: Sequence[Query], described: Sequence[Sequence[str]], majority: float
) -> Failing:
    """Assign the sentences of a model to the nearest clusters of the index by cosine (paper eq. 5).

    Args:
        index: one whose attributes a model wrote.
        queries: those that are described.
        described: sentences of each.
        majority: share of the queries that a feature must hold for, more than.
    """
    texts = [text for sentences in described for text in sentences]
    query = np.repeat(np.arange(len(described)), [len(sentences) for sentences in described])
    vectors = index.embedder.embed(texts)
    cluster = assign(vectors, index.centroids)
    cosine = np.einsum("md,md->m", vectors, index.centroids[cluster])
    pairs = np.unique(np.stack([cluster, query]), axis=1)  # two sentences of a query in one cluster are one
    share = np.bincount(pairs[0], minlength=index.query_features.m) / len(described)
    own = {int(cluster[i]): (texts[i], "llm") for i in np.argsort(cosine, kind="stable")}
    return _failing(index, queries, share, own, majority)


def _failing(
    index: Index,
    queries: Sequence[Query],
    share: Floats,
    own: Mapping[int, tuple[str, str]],
    majority: float,
) -> Failing:
    """Keep the features that most of the queries have and the corpus knows, in the queries' own words."""
    told = dict(own)
    if index.history:
        before = _history_shares(index, queries)
        first = len(share)
        named = zip(index.history.texts, index.history.kinds, strict=True)
        told |= {first + i: each for i, each in enumerate(named) if before[i]}
        share = np.concatenate([share, before])
    features = np.flatnonzero((share > majority) & (index.features.counts > 0))
    return Failing(
        features_F=features,
        shares_F=share[features],
        texts=tuple(told[int(feature)][0] for feature in features),
        kinds=tuple(told[int(feature)][1] for feature in features),
        rows=FeatureRows.gather(index.features, features, index.source_codes, len(index.source_names)),
        columns=index.features,
    )


def _history_shares(index: Index, queries: Sequence[Query]) -> Floats:
    """Share of the queries that each attribute of the index's histories holds for, (h,)."""
    if index.history is None or not any(map(history_of, queries)):
        return np.zeros(len(index.history.texts) if index.history else 0)
    told = [
        json.dumps([{"role": turn.role, "content": turn.content} for turn in history_of(query)])
        for query in queries
    ]
    held = index.history.extractor.transform(told).astype(np.int64)
    return np.asarray(held.sum(axis=0), np.float64).ravel() / len(queries)


def with_groups(
    index: Index, failing: Failing, behaviour_CN: Bools, weights_C: Floats, config: TraceConfig
) -> Failing:
    """Add the queries' own words, and groups of words with the behaviours, see :mod:`undertow.turf.topic`."""
    prompts = failing.prompts[:MOST_READ]
    if not prompts:
        return failing
    own = own_words(index, prompts, config.majority, config.support)
    groups = [each for each in own if each.text not in failing.texts]
    groups += word_groups(index, prompts, behaviour_CN, weights_C, config.majority, config.level)
    if not groups:
        return failing
    columns = Widened(index.features, tuple(group.rows for group in groups))
    numbers = index.features.m + np.arange(len(groups))
    features = np.concatenate([failing.features_F, numbers])
    return Failing(
        features_F=features,
        shares_F=np.concatenate([failing.shares_F, [group.share for group in groups]]),
        texts=(*failing.texts, *(group.text for group in groups)),
        kinds=(*failing.kinds, *(PHRASE_KIND if group.is_one else JOINED_KIND for group in groups)),
        rows=FeatureRows.gather(columns, features, index.source_codes, len(index.source_names)),
        columns=columns,
        prompts=failing.prompts,
        groups=tuple(groups),
    )


def hold(index: Index, failing: Failing, cruxes: Sequence[ResolvedCrux], config: TraceConfig) -> Held:
    """Retrieve, count, test and rank: the online part of the paper's §4.1 with base rates."""
    vectors = crux_vectors(index, cruxes)
    near = neighbours(index, vectors, max(config.k, *config.k_others))
    columns = [
        behaviour_columns(index, crux.attribute, vector, found, config.threshold)
        for crux, vector, found in zip(cruxes, vectors, near, strict=True)
    ]
    behaviour = np.stack([index.incidence("response").any_of(which) for which, _ in columns])
    failing = with_groups(index, failing, behaviour, weights(cruxes), config)
    counts, evidence, ranking = judge(failing, behaviour, weights(cruxes), config)
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
    failing: Failing, behaviour_CN: Bools, weights_C: Floats, config: TraceConfig
) -> tuple[Counts, Evidence, Ranking]:
    """Count, test and rank the failing queries' features for given behaviour labels."""
    counts = count(failing.rows, behaviour_CN)
    evidence = assess(counts, config)
    ranking = rank(
        failing.columns,
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
