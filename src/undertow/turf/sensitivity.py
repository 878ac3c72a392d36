"""How far an attribution hangs on k and on the threshold, and what a reader should know about its counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from undertow.index.open import Index
from undertow.turf.config import TraceConfig
from undertow.turf.crux import crux_vectors, weights
from undertow.turf.query import Held, judge
from undertow.turf.retrieve import similar

THRESHOLDS = (0.95, 0.9, 0.8, 0.7)
"""Cosines from which response attributes are taken for the crux, in the check."""


def sensitivity(index: Index, held: Held, config: TraceConfig) -> dict[str, object]:
    """Report top triggers under other k and thresholds, tie sizes, and the size of the true set."""
    shown = held.ranking.crux[0] if held.ranking.order else held.ranking.leading
    by_k = held.retrieved[shown]
    report: dict[str, object] = {
        "tests": len(held.failing.texts) * len(held.cruxes),
        "behaviour": [_behaviour(held, c, config) for c in range(len(held.cruxes))],
        "same_rows": {
            held.failing.texts[first]: [held.failing.texts[i] for i in same if i != first]
            for first, same in zip(held.ranking.order, held.ranking.same, strict=True)
            if len(same) > 1
        },
        "k": {str(k): {**_paper(held, shown, k), **found.report} for k, found in by_k.items()},
        "threshold": _thresholds(index, held, shown, config),
    }
    return report


def _behaviour(held: Held, crux: int, config: TraceConfig) -> dict[str, Any]:
    """Say what was counted as the crux, and whether k exceeds it (the paper's identity case: 220 rows)."""
    resolved, rows = held.cruxes[crux], int(held.counts.behaviour_C[crux])
    said: dict[str, Any] = {
        "crux": resolved.crux.text,
        "rows": rows,
        "threshold": held.thresholds[crux],
        "fewer_than_k": rows < config.k,
    }
    if resolved.asked is not None:
        said |= {"asked": resolved.asked, "cosine": round(resolved.cosine, 3)}
    return said


def _paper(held: Held, crux: int, k: int) -> dict[str, Any]:
    """Name the paper's trigger: the query's feature with most hits (eq. 6)."""
    counted = held.hits[crux][k]
    if not len(counted):
        return {"paper_trigger": None, "paper_hits": 0}
    best = int(counted.argmax())
    return {"paper_trigger": held.failing.texts[best], "paper_hits": int(counted[best])}


def _thresholds(index: Index, held: Held, crux: int, config: TraceConfig) -> dict[str, Any]:
    """Take ever more distant response attributes for the crux and rank again."""
    vector = crux_vectors(index, [held.cruxes[crux]])[0]
    ids, cosines = similar(index, vector, min(THRESHOLDS))
    said: dict[str, Any] = {}
    for threshold in THRESHOLDS:
        columns = np.union1d(ids[cosines >= threshold], [held.cruxes[crux].attribute])
        behaviour = index.incidence("response").any_of(columns)[None, :]
        _, _, ranking = judge(held.failing, behaviour, weights([held.cruxes[crux]]), config)
        said[str(threshold)] = {
            "attributes": len(columns),
            "rows": int(behaviour.sum()),
            "trigger": held.failing.texts[ranking.order[0]] if ranking.order else None,
        }
    return said
