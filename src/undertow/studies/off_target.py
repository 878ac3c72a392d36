"""What else a fix changed: behaviours that it did not aim at, in the same responses before and after.

A behaviour is a surface feature of the preference audit or a rubric's programmatic checks. Differences are
paired and clustered by prompt; q is Benjamini-Hochberg over all behaviours that any response shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.judging.rubric import Rubric, load_rubric, shipped_rubrics
from undertow.preference.features import MARKED, SPOKEN
from undertow.preference.shown import NAMES, shown_features
from undertow.stats.contrast import clustered_mean
from undertow.stats.intervals import rate
from undertow.stats.multiplicity import benjamini_hochberg
from undertow.store.tables import to_jsonable

LEVEL = 0.05
"""A behaviour has changed when its q is below this."""
LEAST_PROMPTS = 10
"""Prompts below which nothing is tested."""


@dataclass(frozen=True)
class PairedReplies:
    """n responses before and after, pair i to the same prompt and replicate."""

    prompts: Sequence[str]
    """What was asked."""
    before: Sequence[str]
    """Of the model before the fix."""
    after: Sequence[str]
    """Of the model after it."""
    violating: tuple[Sequence[bool], Sequence[bool]]
    """Whether each response, before and after, shows what the fix aims at; a missing verdict is none."""


def off_target(replies: PairedReplies, verified: str, rubrics: Sequence[Rubric] = ()) -> dict[str, Any]:
    """Compare every behaviour but the verified one before and after.

    Args:
        replies: Responses to compare.
        verified: Name of the rubric that the fix aims at.
        rubrics: More behaviours, beside the shipped rubrics; only their checks are used.

    Returns:
        ``pairs``, ``prompts``, ``tested``, ``changed`` (how many) and ``behaviours``, the surest changes
        first: ``name, text, before, after, difference, interval, p, q, changed, with_behaviour``: share of
        the responses showing it that show what the fix aims at too, so that what is a part of that is told
        from what is not.
    """
    names, texts, before, after = _shown(replies, _programmatic(verified, rubrics))
    prompts = np.array(replies.prompts, object)
    alive = np.flatnonzero(before.any(axis=0) | after.any(axis=0))
    distinct = len(set(replies.prompts))
    if distinct < LEAST_PROMPTS:
        return {"pairs": len(prompts), "prompts": distinct, "tested": 0, "changed": 0, "behaviours": [],
                "reason": f"{distinct} prompts, fewer than {LEAST_PROMPTS}"}  # fmt: skip
    aimed = np.concatenate([np.array(side, bool) for side in replies.violating])
    mean, error, p = _tested(before[:, alive], after[:, alive], prompts)
    q = benjamini_hochberg(p)
    rows: list[dict[str, Any]] = [
        {
            "name": names[column],
            "text": texts[column],
            "before": _rate(before[:, column]),
            "after": _rate(after[:, column]),
            "difference": float(mean[i]),
            "interval": [float(mean[i] - 1.96 * error[i]), float(mean[i] + 1.96 * error[i])],
            "p": float(p[i]),
            "q": float(q[i]),
            "changed": bool(q[i] < LEVEL),
            "with_behaviour": float(aimed[shown].mean()),
        }
        for i, column in enumerate(alive)
        for shown in (np.concatenate([before[:, column], after[:, column]]),)
    ]
    rows.sort(key=lambda row: (row["q"], -abs(row["difference"]), row["name"]))
    return {
        "pairs": len(prompts), "prompts": distinct, "tested": len(rows),
        "changed": sum(row["changed"] for row in rows), "behaviours": rows,
    }  # fmt: skip


def _programmatic(verified: str, rubrics: Sequence[Rubric]) -> list[Rubric]:
    """Return the rubrics with checks, those given before shipped ones of the same name."""
    found = {rubric.name: rubric for rubric in (*map(load_rubric, shipped_rubrics()), *rubrics)}
    return [rubric for name, rubric in found.items() if rubric.checks and name != verified]


def _shown(
    replies: PairedReplies, rubrics: Sequence[Rubric]
) -> tuple[list[str], list[str], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return names, texts, and who shows what before and after, (n, behaviours) each."""
    names = [*(f"rubric: {rubric.name}" for rubric in rubrics), *NAMES]
    texts = [rubric.behaviour for rubric in rubrics]
    texts += [f"The response {feature.text}." for feature in (*MARKED, *SPOKEN)]
    sides = []
    for responses in (replies.before, replies.after):
        pairs = list(zip(replies.prompts, responses, strict=True))
        judged = [[rubric.shown(prompt, text) for rubric in rubrics] for prompt, text in pairs]
        sides.append(
            np.concatenate([np.array(judged, bool).reshape(len(pairs), -1), shown_features(responses)], 1)
        )
    return names, texts, sides[0], sides[1]


def _tested(
    before: NDArray[np.bool_], after: NDArray[np.bool_], prompts: NDArray[np.object_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean difference of every column, its error clustered by prompt, and p by t; p = 1 of no change."""
    from scipy import sparse
    from scipy.stats import t

    change = after.astype(np.float64) - before
    mean, error = clustered_mean(sparse.csr_matrix(change), prompts.astype(str))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error > 0, np.abs(mean) / error, np.where(mean == 0, 0.0, np.inf))
    return mean, error, np.asarray(2 * t.sf(ratio, len(set(prompts)) - 1))


def _rate(shown: NDArray[np.bool_]) -> dict[str, Any]:
    found = rate(int(shown.sum()), len(shown))
    return {"value": found.value, "hits": found.hits, "n": found.n, "interval": to_jsonable(found.interval)}
