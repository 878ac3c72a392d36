"""The audit of a preference set, from activations to ranked, controlled hypotheses; touches no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from undertow.preference.concepts import Activations, PromptActivations
from undertow.preference.config import AuditConfig
from undertow.preference.contrasts import Tested, TestedConcepts, cells_test, concepts_test
from undertow.preference.controls import (
    Controlled,
    Effect,
    control_concepts,
    control_length,
    effect,
    group_at_equal_length,
    group_length_explained,
)
from undertow.preference.disparity import ConceptCluster, disparities
from undertow.preference.pipelines import (
    Pipeline,
    View,
    concept_clusters,
    feature_conditioned,
    prompt_conditioned,
)
from undertow.progress import SILENT, Progress
from undertow.records import Interval
from undertow.stats.paired import Opponents

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
Direction = Literal["towards", "away from"]

LENGTH = "length"
_EXAMPLES = 5
_STRATA = 50
"""Most strata that are told apart; the rest are one."""


@dataclass(frozen=True, slots=True)
class Material:
    """What an audit is made from; rows are the N pairs with two different, non-empty responses."""

    activations: Activations
    """Of the responses."""
    prompt_activations: PromptActivations | None
    """Of the prompts; ``None`` without."""
    topics: tuple[NDArray[np.int64], tuple[str, ...]] | None
    """Cluster of each pair's prompt embedding (N,) and its name; ``None`` without."""
    prompts: NDArray[np.int64]
    """(N,) number of each pair's prompt, from 0: what halves, errors and label swaps go by."""
    length: Floats
    """(N,) ℓ, see :func:`undertow.preference.controls.length_difference`."""
    writers: Opponents | None
    """Who wrote which side; ``None`` where it is not known."""
    strata: Sequence[str] | None = None
    """(N,) stratum of each pair."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A concept within one stratum."""

    name: str
    """Its value."""
    delta: float
    """Mean of u in it."""
    interval: Interval | None
    """Clustered by prompt; ``None`` for one prompt."""
    n: int
    """Pairs."""


@dataclass(frozen=True, slots=True)
class ConceptEffect:
    """What a preference set says of one concept over all pairs."""

    cluster: ConceptCluster
    """The concept."""
    delta: float
    """Mean of u: share of pairs where only the chosen side shows it, less those where only the other does."""
    interval: Interval | None
    """Clustered by prompt."""
    d: float | None
    """delta over the standard deviation of u."""
    q: float | None
    """Benjamini–Hochberg on the confirming half; ``None`` where the other half proposed nothing."""
    delta_min: float | None
    """Smaller |delta| of the halves; ``None`` where they differ in sign."""
    n: int
    """Pairs whose sides differ in it."""
    n_prompts: int
    """Prompts of these pairs."""
    confirmed: bool
    """q at most the level on the confirming half, and |t| over all pairs above the label-swap floor."""
    controlled: Controlled
    """Log-odds raw, with length, with length and writers."""
    strata: tuple[Stratum, ...]
    """Within each stratum; empty without strata."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """On prompts like these, training will push the model towards or away from this, against elsewhere."""

    pipeline: Pipeline
    """Which question it answers."""
    group: int
    """Row of the pipeline's groups."""
    prompt_group: str
    """Name of the group."""
    cluster: ConceptCluster
    """The concept."""
    column: int
    """Column of the pipeline's values."""
    direction: Direction
    """Sign of ``delta``."""
    delta: float
    """Mean of u inside less outside; local: in standard deviations of the difference."""
    interval: Interval | None
    """Clustered by prompt."""
    mean_in: float
    """Mean of u inside: what training there rewards, beside what it rewards elsewhere."""
    delta_min: float
    """min(|Δ^A|, |Δ^B|)."""
    d: float | None
    """Cohen's d."""
    z: float | None
    """Welch's z, pairs taken as independent (the paper's)."""
    q: float | None
    """Benjamini–Hochberg on the confirming half."""
    n: int
    """Pairs in the group."""
    n_prompts: int
    """Their prompts."""
    confirmed: bool
    """q, equal signs and above a floor."""
    strength: float | None
    """Smallest of |Δ| and |mean_in| of both halves in their errors; ``None`` where signs differ."""
    at_equal_length: Effect | None
    """Δ at ℓ = 0; ``None`` where it was not asked for."""
    length_explained: bool | None
    """Whether length explains Δ."""
    examples: tuple[int, ...]
    """Rows of pairs that show it, most clearly first, each of another prompt where there are such."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything an audit found."""

    concepts: tuple[ConceptEffect, ...]
    """Length first, then by |delta|."""
    hypotheses: tuple[Hypothesis, ...]
    """Confirmed ones first, then by Δ^min over its floor."""
    floors: dict[Pipeline, float]
    """Label-swap floor of each pipeline's Δ^min."""
    strength_floors: dict[Pipeline, float]
    """Label-swap floor of each pipeline's strength."""
    concept_floor: float
    """Label-swap floor of the concepts' |t|."""
    views: dict[Pipeline, View]
    """What was tested."""
    signed: csr_matrix
    """(N, M) u of ``concepts``, in their order."""


def audit(material: Material, config: AuditConfig, progress: Progress = SILENT) -> Audit:
    """Run both pipelines and every control.

    Returns:
        Concepts and hypotheses, each with n, prompts, interval, q, and what length and writers explain.
    """
    progress.say("grouping concepts")
    clusters = concept_clusters(material.activations, config)
    found = disparities(material.activations, clusters, config.tau)
    concepts, floor = _concepts(material, clusters, found.signed, config, progress)
    progress.say("grouping pairs by what both responses show")
    views: dict[Pipeline, View] = {
        "global": feature_conditioned(found, int(material.prompts.max()) + 1, config)
    }
    progress.say("grouping pairs by prompt")
    local = prompt_conditioned(material.activations, material.prompt_activations, material.topics, config)
    if local is not None:
        views["local"] = local
    hypotheses: list[tuple[float, Hypothesis]] = []
    floors: dict[Pipeline, float] = {}
    strength_floors: dict[Pipeline, float] = {}
    for number, (pipeline, view) in enumerate(views.items()):
        seed = config.seed + number + 1
        tested = cells_test(view.groups.inside, view.values, material.prompts, config, seed, progress)
        if tested.floor is not None and tested.strength_floor is not None:
            floors[pipeline], strength_floors[pipeline] = tested.floor, tested.strength_floor
            hypotheses += _hypotheses(material, view, tested, config)
    ranked = sorted(hypotheses, key=lambda each: (not each[1].confirmed, -each[0]))
    confirmed = sum(h.confirmed for _, h in ranked)
    kept = tuple(h for _, h in ranked[: max(confirmed, config.top)])
    order = [0, *(1 + np.argsort([-abs(c.delta) for c in concepts[1:]], kind="stable"))]
    signed = _with_length(material.length, found.signed)[:, order]
    return Audit(tuple(concepts[i] for i in order), kept, floors, strength_floors, floor, views, signed)


def _with_length(length: Floats, signed: csr_matrix) -> csr_matrix:
    from scipy import sparse

    return sparse.hstack([sparse.csr_matrix(np.sign(length)[:, None]), signed]).tocsr()


def _concepts(
    material: Material, clusters: Sequence[ConceptCluster], signed: csr_matrix, config: AuditConfig,
    progress: Progress,
) -> tuple[list[ConceptEffect], float]:  # fmt: skip
    """Length first, then every concept: over all pairs, under each control and in each stratum."""
    table = _with_length(material.length, signed)
    tested = concepts_test(table, material.prompts, config, config.seed)
    held = [
        control_length(material.length, material.prompts, material.writers),
        *control_concepts(
            signed, material.length, material.prompts, material.writers, _looked_at(clusters), progress
        ),
    ]
    strata = _strata(table, material)
    named = (ConceptCluster(LENGTH, "The response is the longer one.", "local", ()), *clusters)
    return [
        _concept(cluster, tested, m, held[m], tuple(each[m] for each in strata))
        for m, cluster in enumerate(named)
    ], tested.floor


def _looked_at(clusters: Sequence[ConceptCluster]) -> NDArray[np.bool_]:
    """Mark concepts with a name of their own, as against mined wordings (``word: …``)."""
    return np.array([": " not in cluster.name for cluster in clusters], np.bool_)


def _concept(
    cluster: ConceptCluster, tested: TestedConcepts, m: int, held: Controlled, strata: tuple[Stratum, ...]
) -> ConceptEffect:
    return ConceptEffect(
        cluster=cluster,
        delta=float(tested.delta[m]),
        interval=_share_interval(float(tested.delta[m]), float(tested.se[m]), tested.clusters),
        d=_known(tested.d[m]),
        q=_known(tested.q[m]),
        delta_min=_known(tested.delta_min[m]),
        n=int(tested.n[m]),
        n_prompts=int(tested.n_prompts[m]),
        confirmed=bool(tested.confirmed[m]),
        controlled=held,
        strata=strata,
    )


def _share_interval(delta: float, se: float, clusters: float) -> Interval | None:
    """Interval of a mean of u, which lies within ±1."""
    found = effect(delta, se, clusters).interval
    return found and Interval(max(found.low, -1.0), min(found.high, 1.0), found.level)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _strata(table: csr_matrix, material: Material) -> list[list[Stratum]]:
    from undertow.stats.contrast import clustered_mean, effective_clusters

    if material.strata is None:
        return []
    names = np.array([str(each) for each in material.strata])
    values, counts = np.unique(names, return_counts=True)
    found = []
    for name in values[np.argsort(-counts, kind="stable")][:_STRATA]:
        rows = np.flatnonzero(names == name)
        mean, se = clustered_mean(table[rows], material.prompts[rows])
        clusters = effective_clusters(material.prompts[rows])
        found.append(
            [
                Stratum(str(name), float(a), _share_interval(float(a), float(b), clusters), len(rows))
                for a, b in zip(mean, se, strict=True)
            ]
        )
    return found


def _hypotheses(
    material: Material, view: View, tested: Tested, config: AuditConfig
) -> list[tuple[float, Hypothesis]]:
    """Proposed cells with equal signs, ranked by Δ^min over the floor; all confirmed ones are among them."""
    floor = tested.floor or 0.0
    score = np.where(np.isnan(tested.q), np.nan, tested.delta_min / max(floor, 1e-12))
    groups, columns = np.nonzero(np.isfinite(score))
    order = np.lexsort((-score[groups, columns], ~tested.confirmed[groups, columns]))
    least = max(config.top, int(tested.confirmed.sum()))
    by_column = view.values.tocsc()
    picked = [(int(groups[i]), int(columns[i])) for i in order[:least]]
    return [(float(score[k, m]), _hypothesis(material, view, tested, by_column, k, m)) for k, m in picked]


def _hypothesis(material: Material, view: View, tested: Tested, by_column: Any, k: int, m: int) -> Hypothesis:
    whole = tested.whole
    u = by_column[:, [m]].toarray().ravel().astype(np.float64)
    rows = view.groups.inside[[k]].indices
    inside = np.zeros(len(u), np.bool_)
    inside[rows] = True
    raw, held = group_at_equal_length(inside, u, material.length, material.prompts)
    delta = float(whole.delta[k, m])
    return Hypothesis(
        pipeline=view.pipeline,
        group=k,
        prompt_group=view.groups.names[k],
        cluster=view.clusters[m],
        column=m,
        direction="towards" if delta > 0 else "away from",
        delta=delta,
        interval=effect(delta, float(whole.se[k, m]), float(whole.clusters[k])).interval,
        mean_in=float(whole.mean_in[k, m]),
        delta_min=float(tested.delta_min[k, m]),
        d=_known(whole.d[k, m]),
        z=_known(whole.z[k, m]),
        q=_known(tested.q[k, m]),
        n=int(whole.n[k]),
        n_prompts=int(whole.clusters[k]),
        confirmed=bool(tested.confirmed[k, m]),
        strength=_known(tested.strength[k, m]),
        at_equal_length=held,
        length_explained=group_length_explained(raw, held),
        examples=_examples(u * np.sign(delta), rows, material.prompts),
    )


def _examples(towards: Floats, rows: NDArray[np.int32], prompts: NDArray[np.int64]) -> tuple[int, ...]:
    shows = rows[towards[rows] > 0]
    ranked = shows[np.argsort(-towards[shows], kind="stable")]
    _, first = np.unique(prompts[ranked], return_index=True)
    return tuple(int(i) for i in ranked[np.sort(first)][:_EXAMPLES])
