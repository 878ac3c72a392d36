"""Which feature of the failing query goes with the behaviour in the training data (paper §4.1 step 4).

Ours beside the paper's hit count: every feature of the query is held against its base rate on the whole
corpus. The rank is the Wilson lower bound of P(behaviour | feature), as its rise over the base rate, at a
level that is simultaneous over the query's features, because the best of a hundred sub-phrases is picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.shapes import FORM
from undertow.attributes.surface import REACH
from undertow.stats.enrichment import hypergeometric, mantel_haenszel
from undertow.stats.intervals import wilson_lower
from undertow.stats.multiplicity import benjamini_hochberg
from undertow.turf.config import TraceConfig
from undertow.turf.counts import Bools, Counts, Floats, Rows, overlaps
from undertow.turf.habit import habits
from undertow.turf.redundancy import Candidates, collapse, forward_selection, generalise, rise, vagueness

COMPARED, WHOLE = 64, 16
"""Best-scored features that are compared pairwise, besides the groups of words; and those that go with the
behaviours best as a whole (phi): a passage that stands in many rows has more phrases than are compared."""
JOINED_KIND = "words"
"""Family of groups of words, see :mod:`undertow.turf.topic`."""
JOINED = 0.9
"""Factor on the score of a group of words: it was put together for the behaviour, other features were not."""
LEAST_LIFT = 1.5
"""Lift (of the lower bound) that makes a feature material where its rate stays low."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Test results of C cruxes × F features."""

    p_CF: Floats
    """One-sided hypergeometric P(X ≥ x)."""
    q_CF: Floats
    """Benjamini–Hochberg over all C × F evidence."""
    lower_CF: Floats
    """Simultaneous Wilson lower bound of P(behaviour | feature)."""
    rise_CF: Floats
    """Rise of the simultaneous Wilson lower bound over the base rate."""
    material_CF: Bools
    """q under the level, support and effect large enough."""


def assess(counts: Counts, config: TraceConfig) -> Evidence:
    """Test every feature against every crux on the whole corpus."""
    both, feature = counts.both_CF, counts.feature_F[None, :]
    behaviour, base = counts.behaviour_C[:, None], counts.base_C[:, None]
    p = hypergeometric(both, behaviour, np.broadcast_to(feature, both.shape), counts.rows)
    q = benjamini_hochberg(p.ravel()).reshape(p.shape)
    wide = np.broadcast_to(feature, both.shape)
    lower = wilson_lower(both, wide, 1 - 0.05 / max(both.shape[1], 1))
    plain = wilson_lower(both, wide)
    rises = np.stack([rise(lower[c], float(base[c, 0])) for c in range(len(both))])
    effect = np.stack([rise(plain[c], float(base[c, 0])) for c in range(len(both))]) >= config.effect
    material = (q < config.level) & (both >= config.support) & (effect | (plain >= LEAST_LIFT * base))
    return Evidence(p, q, lower, rises, material)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The triggers of a query, best first, as positions among its features."""

    order: tuple[int, ...]
    """Independent triggers."""
    crux: tuple[int, ...]
    """For each the crux it is reported with."""
    same: tuple[tuple[int, ...], ...]
    """For each the features of (nearly) the same rows, itself among them."""
    leading: int
    """The crux that nesting and redundancy were judged by."""


def rank(
    incidence: Rows,
    counts: Counts,
    evidence: Evidence,
    behaviour_CN: Bools,
    weights_C: Floats,
    shares_F: Floats,
    texts: Sequence[str],
    kinds: Sequence[str],
    config: TraceConfig,
) -> Ranking:
    """Order the material features and thin them out to the independent ones.

    Args:
        incidence: query features of every row.
        counts: of the query's features.
        evidence: of the same.
        behaviour_CN: which rows show each crux.
        weights_C: how much each crux counts, summing to 1.
        shares_F: share of the failing queries each feature holds for.
        texts: of the features.
        kinds: of the features.
        config: level and number of triggers.
    """
    strength_CF = weights_C[:, None] * evidence.rise_CF
    joined_F = np.where([kind == JOINED_KIND for kind in kinds], JOINED, 1.0)
    score_F = shares_F * strength_CF.sum(axis=0) * joined_F
    material = np.flatnonzero(evidence.material_CF.any(axis=0) & (shares_F > config.majority))
    if not len(material):
        return Ranking((), (), (), 0)
    top = material[np.lexsort((material, -counts.feature_F[material], -score_F[material]))][:COMPARED]
    top = np.concatenate([top, np.setdiff1d(material[joined_F[material] < 1], top)])
    whole = material[np.lexsort((material, -weights_C @ _phi(counts)[:, material]))][:WHOLE]
    top = np.concatenate([top, np.setdiff1d(whole, top)])
    leading = int((strength_CF * evidence.material_CF)[:, top].max(axis=1).argmax())
    behaviour = behaviour_CN[leading]
    lower_F = evidence.lower_CF[leading]
    wide, score_F = habits(counts, lower_F, leading, top, material, score_F, texts, kinds)
    top = np.concatenate([top, np.setdiff1d(list(wide.values()), top).astype(np.int64)])
    shared, shared_hits = overlaps(incidence, counts.features[top], behaviour)
    candidates = Candidates(
        score_K=score_F[top],
        rows_K=counts.feature_F[top],
        hits_K=counts.both_CF[leading, top],
        shared_KK=shared,
        shared_hits_KK=shared_hits,
        base=float(counts.base_C[leading]),
        vague_K=np.array([1 if kinds[i] in (FORM, REACH) else vagueness(texts[i], kinds[i]) for i in top]),
        joined_K=joined_F[top] < 1,
    )
    groups = collapse(candidates, [texts[i] for i in top], [kinds[i] for i in top])
    place = {int(feature): position for position, feature in enumerate(top)}
    named = {member: name for name, members in groups.items() for member in members}
    habit = {named[place[narrow]]: named[place[wider]] for narrow, wider in wide.items()}
    ordered = _alone(generalise(candidates, list(groups), habit, config.level), [kinds[i] for i in top])
    kept = forward_selection(
        incidence, counts.features[top[ordered]], behaviour, config.triggers, config.level
    )
    chosen = [ordered[i] for i in kept]
    return Ranking(
        order=tuple(int(top[i]) for i in chosen),
        crux=tuple(_reported_crux(evidence, int(top[i]), leading) for i in chosen),
        same=tuple(tuple(int(top[j]) for j in groups[i]) for i in chosen),
        leading=leading,
    )


def _phi(counts: Counts) -> Floats:
    """Correlation of every feature with every crux, (C, F)."""
    x, m, n = (
        counts.both_CF,
        counts.feature_F.astype(np.float64),
        counts.behaviour_C[:, None].astype(np.float64),
    )
    spread = np.sqrt(np.maximum(m * (counts.rows - m) * n * (counts.rows - n), 1.0))
    value: Floats = (x * float(counts.rows) - m * n) / spread
    return value


def _alone(ordered: list[int], kinds: Sequence[str]) -> list[int]:
    """Leave out a group of words that does not lead.

    A feature of the index says it then, and the group adds what else happens to go with the behaviour, above
    all the rows where it is asked for.
    """
    return [i for place, i in enumerate(ordered) if place == 0 or kinds[i] != JOINED_KIND]


def _reported_crux(evidence: Evidence, feature: int, leading: int) -> int:
    """Report a feature with the leading crux where it is material, else with the first where it is."""
    if evidence.material_CF[leading, feature]:
        return leading
    return int(np.flatnonzero(evidence.material_CF[:, feature])[0])


def within_source_odds(counts: Counts, crux: int, feature: int) -> float | None:
    """Mantel–Haenszel odds ratio over sources; ``None`` where no source can compare.

    About 1 means that the data set carries the behaviour, not the feature.
    """
    value = mantel_haenszel(
        counts.both_CFS[crux, feature],
        counts.behaviour_CS[crux],
        counts.feature_FS[feature],
        counts.rows_S,
        correction=0.5,
    )
    odds: NDArray[np.float64] = np.atleast_1d(np.asarray(value, dtype=np.float64))
    return float(odds[0]) if np.isfinite(odds[0]) else None
