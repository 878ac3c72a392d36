"""Which of the significant features say the same thing, and which of them is the trigger.

The query's features are nested and overlapping: a planted phrase comes with its sub-phrases, its topic and
its source's habits. Three rules, all on the rows, none on the words:

* *Collapse*: features of (nearly) the same rows are one feature; the most informative text names it.
* *Generalise*: a narrow feature yields to a wider one that holds it, unless its rate is really higher than
  that of the wider one's other rows. So a sub-phrase seen in 12 rows, all of them hits by luck, does not beat
  the trigger seen in 200, and an honest narrow trigger is not swallowed by "asks a question".
  Nor does it beat a feature that does about as well on many times as many rows, nested or not.
* *Forward selection*: down the ranking, a feature is kept if it still raises the odds of the behaviour among
  rows that agree on all features kept before (Cochran–Mantel–Haenszel over those patterns).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.stats.enrichment import hypergeometric
from undertow.stats.intervals import wilson_lower
from undertow.turf.counts import Rows

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SAME_ROWS = 0.9
"""Jaccard overlap from which two features are one."""
AS_GOOD = 0.97
"""Share of the best score in its group from which a feature may name the group."""
INSIDE = 0.9
"""Share of a feature's rows inside a wider feature from which the wider one is its generalisation."""
QUOTED = 2
"""Vagueness of a phrase. What says more is not explained by words that were put together for the behaviour:
they add the rows where it is asked for."""
ABOUT, FAR = 0.85, 3
"""A feature with this share of the best score and so many times its behaviour rows is the better account."""
EQUAL_RATE = 0.9
"""Rates whose rises over the base rate differ by less than this ratio are materially equal."""
HALF, WIDTH = 0.5, 0.25
"""Least such ratio of a wider feature's other rows, and how much more behaviour rows make up for."""
LEAST_ODDS = 1.5
"""Conditional odds ratio a further independent trigger needs."""

_LESS_INFORMATIVE = {
    "opening": 1,
    "closing": 1,
    "line": 1,
    "form": 3,
    "label": 1,
    "tag": 1,
    "phrase": 2,
    "words": 3,
    "topic": 3,
}
"""Kinds whose texts say less than a description of the same rows: quoted templates, phrases, term lists."""


def vagueness(text: str, kind: str) -> int:
    """Rank how little a sentence says: 0 a description, more for quoted templates, phrases, term lists."""
    quotes = "'" in text or ":" in text or kind == "form"
    return _LESS_INFORMATIVE.get(kind, 0) if quotes else 0


def rise(rate: Floats | float, base: float) -> Floats:
    """Rise over the base rate as a share of what is left to rise, (rate − base) / (1 − base); ≥ 0."""
    value: Floats = np.clip((np.asarray(rate, dtype=np.float64) - base) / max(1.0 - base, 1e-12), 0.0, None)
    return value


@dataclass(frozen=True, slots=True)
class Candidates:
    """K significant features, best score first, with their pairwise overlaps."""

    score_K: Floats
    """Rank score, descending."""
    rows_K: Ints
    """Rows with the feature."""
    hits_K: Ints
    """Rows with the feature and the behaviour."""
    shared_KK: Ints
    """Rows two features share."""
    shared_hits_KK: Ints
    """Those of them with the behaviour."""
    base: float
    """Base rate of the behaviour."""
    vague_K: Ints
    """How little each feature's sentence says, see :func:`vagueness`."""
    joined_K: Bools
    """Groups of words: one whose behaviour rows are in a feature is inside it, whatever else it has."""


def collapse(candidates: Candidates, texts: Sequence[str], kinds: Sequence[str]) -> dict[int, list[int]]:
    """Group features of the same rows; the key of a group is its most informative member.

    Descriptions come before quoted phrases, phrases before topics, then the longer text.
    """
    rows, shared = candidates.rows_K, candidates.shared_KK
    jaccard = shared / np.maximum(rows[:, None] + rows[None, :] - shared, 1)
    left = set(range(len(rows)))
    groups: dict[int, list[int]] = {}
    for leader in range(len(rows)):
        if leader not in left:
            continue
        members = [i for i in sorted(left) if i == leader or jaccard[leader, i] >= SAME_ROWS]
        left -= set(members)
        good = [i for i in members if candidates.score_K[i] >= AS_GOOD * candidates.score_K[leader]]
        name = min(good, key=lambda i: (vagueness(texts[i], kinds[i]), -len(texts[i]), i))
        groups[name] = members
    return groups


def generalise(
    candidates: Candidates, keep: Sequence[int], habit: Mapping[int, int], level: float
) -> list[int]:
    """Order the features ``keep``: best score first, each preceded by the wider feature that explains it.

    ``habit`` names for a feature the one that stands for its sources' habit, see
    :func:`undertow.turf.habit.habits`.
    """
    left = sorted(keep, key=lambda i: (-candidates.score_K[i], -candidates.hits_K[i], i))
    ordered: list[int] = []
    while left:
        best = left[0]
        while habit.get(best) not in left:
            wider = _far_wider(candidates, best, left)
            wider = _wider(candidates, best, left, level) if wider is None else wider
            if wider is None:
                break
            best = wider
        else:
            best = habit[best]
        ordered.append(best)
        left.remove(best)
    return ordered


def _far_wider(candidates: Candidates, best: int, among: Sequence[int]) -> int | None:
    """Find the widest feature, told at least as well, that does about as well on many times as many rows."""
    score, hits = candidates.score_K, candidates.hits_K
    vague = np.minimum(candidates.vague_K, 2)  # a phrase says no more than the words or topic around it
    good = [i for i in among if score[i] >= ABOUT * score[best] and hits[i] >= FAR * max(hits[best], 1)]
    good = [i for i in good if vague[i] <= vague[best]]
    return max(good, key=lambda i: (hits[i], score[i])) if good else None


def _wider(candidates: Candidates, narrow: int, among: Sequence[int], level: float) -> int | None:
    """Find the widest feature around ``narrow`` whose other rows do (about) as well, if there is one."""
    others = np.array([i for i in among if candidates.hits_K[i] > candidates.hits_K[narrow]], dtype=np.int64)
    if not len(others):
        return None
    shared, shared_hits = candidates.shared_KK[narrow, others], candidates.shared_hits_KK[narrow, others]
    rows, hits = candidates.rows_K[others], candidates.hits_K[others]
    rest, rest_hits = rows - shared, hits - shared_hits
    inside = shared >= INSIDE * candidates.rows_K[narrow]
    inside |= candidates.joined_K[narrow] & (shared_hits >= INSIDE * candidates.hits_K[narrow])
    inside &= ~candidates.joined_K[others] | (candidates.vague_K[narrow] >= QUOTED)
    p_narrow_is_better = hypergeometric(shared_hits, hits, shared, rows)
    rate = float(candidates.hits_K[narrow] / candidates.rows_K[narrow])
    rose = max(float(rise(rate, candidates.base)), 1e-12)
    ratio = rise(wilson_lower(rest_hits, rest), candidates.base) / rose
    told = np.minimum(candidates.vague_K, 2)  # as above
    more = np.where(told[others] <= told[narrow], hits / max(int(candidates.hits_K[narrow]), 1), 1.0) ** WIDTH
    equal = (ratio >= HALF) & (ratio * more >= EQUAL_RATE)
    explains = inside & (rest > 0) & ((p_narrow_is_better >= level / len(candidates.rows_K)) | equal)
    if not explains.any():
        return None
    return int(max(others[explains], key=lambda i: (candidates.hits_K[i], candidates.score_K[i])))


def forward_selection(
    incidence: Rows, features: Ints, behaviour: Bools, most: int, level: float
) -> list[int]:
    """Keep, in the given order, the features that add to those kept before.

    A feature is kept when its common odds ratio over the patterns of kept features is at least
    ``LEAST_ODDS`` and its Cochran–Mantel–Haenszel test passes ``level`` divided by the number of features.

    Returns:
        positions in ``features``, at most ``most``.
    """
    pattern = np.zeros(incidence.n, dtype=np.int64)
    kept: list[int] = []
    for position, feature in enumerate(features):
        rows = incidence.rows_of(int(feature))
        if kept and not _adds(pattern, rows, behaviour, level / len(features)):
            continue
        pattern[rows] |= 1 << len(kept)
        kept.append(position)
        if len(kept) == most:
            break
    return kept


def _adds(pattern: Ints, rows: NDArray[np.integer], behaviour: Bools, level: float) -> bool:
    """Test a feature within the strata of ``pattern``: one-sided CMH and the Mantel–Haenszel odds ratio."""
    from scipy.stats import norm

    strata = int(pattern.max()) + 1
    inside, hit = pattern[rows], behaviour[rows]
    m, x = np.bincount(inside, minlength=strata), np.bincount(inside[hit], minlength=strata)
    total = np.bincount(pattern, minlength=strata)
    n = np.bincount(pattern[behaviour], minlength=strata)
    use = total > 1
    m, x, total, n = m[use], x[use], total[use].astype(np.float64), n[use]
    expected = m * n / total
    variance = (m * n * (total - n) * (total - m) / (total**2 * (total - 1))).sum()
    if variance <= 0:
        return False
    z = (x.sum() - expected.sum()) / np.sqrt(variance)
    for_it = (x * (total - m - n + x) / total).sum()
    against = ((m - x) * (n - x) / total).sum()
    return bool(z > norm.isf(level) and for_it >= LEAST_ODDS * against)
