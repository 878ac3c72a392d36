"""When the behaviour is the habit of a whole source, a phrase of some of its prompts is not the trigger.

A task family that always answers in one word does so under each of its templates, and every template's phrase
has a rate of 100 %. Such a phrase only says which source the query is from: the source's other rows behave
the same. What the query shares with (nearly) all of those rows is the better account, if its own rate is not
far behind: "a long passage with a question", not "a new situation".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertow.stats.intervals import wilson_lower
from undertow.turf.counts import Bools, Counts, Floats, Ints
from undertow.turf.redundancy import rise, vagueness

SAME = 0.8
"""A source's other rows behave the same if their rise over the base rate is this share of the feature's."""
HABITUAL = 0.3
"""Share of a feature's behaviour rows in such sources from which it is taken for a mark of them."""
LEAST_REST = 0.1
"""Share of a source that must lack the feature, or there is nothing to compare."""
COVERS = 0.8
"""Share of those sources' behaviour rows the wider feature must hold for."""
ACCOUNTED, UNACCOUNTED = 0.85, 0.7
"""Factors on the score of a mark that a wider feature of the query accounts for, or none does."""
KEEPS_RATE = 0.65
"""Share of the narrow feature's rate that the wider one must reach (lower bounds)."""
NEAR_TIE = 0.8
"""Wider features with at least this share of the best score are told apart by how much they say."""


def habits(
    counts: Counts,
    lower_F: Floats,
    crux: int,
    narrow: Ints,
    among: Ints,
    score_F: Floats,
    texts: Sequence[str],
    kinds: Sequence[str],
) -> tuple[dict[int, int], Floats]:
    """Find the features that mark habitual sources, and for each the one that stands for the habit.

    Args:
        counts: of the query's features.
        lower_F: lower bound of every feature's rate.
        crux: the crux it is about.
        narrow: positions to look at.
        among: positions that may stand for a habit.
        score_F: rank score of every feature.
        texts: sentence of every feature.
        kinds: extractor family of every feature.

    Returns:
        narrow position → wide position, where the query has such a feature; and the scores, marks discounted.
    """
    both_FS, behaviour_S = counts.both_CFS[crux], counts.behaviour_CS[crux]
    found: dict[int, int] = {}
    scores = score_F.copy()
    for position, same_S in zip(narrow, same_as_rest(counts, crux, narrow), strict=True):
        inside_S = both_FS[position] * same_S
        few_S = inside_S < COVERS * behaviour_S
        if inside_S.sum() <= HABITUAL * both_FS[position].sum() or not few_S[inside_S > 0].all():
            continue
        main_S = inside_S >= LEAST_REST * inside_S.sum()
        covered = (both_FS[among][:, main_S] >= COVERS * behaviour_S[main_S]).any(axis=1)
        wide = among[covered & (lower_F[among] >= KEEPS_RATE * lower_F[position]) & (among != position)]
        scores[position] *= ACCOUNTED if len(wide) else UNACCOUNTED
        if len(wide):
            near = wide[score_F[wide] >= NEAR_TIE * score_F[wide].max()]
            best = min(near, key=lambda i: (vagueness(texts[i], kinds[i]), -score_F[i], i))
            found[int(position)] = int(best)
    return found, scores


def same_as_rest(counts: Counts, crux: int, features: Ints) -> Bools:
    """Say in which sources rows without a feature show the behaviour as often as rows with it: (K, S)."""
    base = float(counts.base_C[crux])
    rows, hits = counts.feature_FS[features], counts.both_CFS[crux, features]
    rest, rest_hits = counts.rows_S - rows, counts.behaviour_CS[crux] - hits
    with_it = rise(hits / np.maximum(rows, 1), base)
    without = rise(np.nan_to_num(wilson_lower(rest_hits, rest)), base)
    same: Bools = (with_it > 0) & (rest >= LEAST_REST * counts.rows_S) & (without >= SAME * with_it)
    return same
