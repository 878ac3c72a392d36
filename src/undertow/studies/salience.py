"""Salience: which of two confounded features of a prompt does a model condition on (references 000)?

Every pair of features is confounded in a small fine-tune and told apart afterwards, once a behaviour. The
winner of a comparison is the feature with the larger main effect; all comparisons give a Bradley–Terry
ranking with intervals.

Not established here: that a large model ranks as a small one does; name several models and look at τ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from undertow.errors import UsageError
from undertow.progress import SILENT, Progress
from undertow.stats.bradley_terry import cycle_rate, least_squares, mean_tau, rank, win_table
from undertow.stats.intervals import bounded_mean
from undertow.studies.cells import Hole, Measured, told_missing
from undertow.studies.design import SPAN, Design
from undertow.studies.experiments import DEFAULT, Place, Setup, Study, run_study
from undertow.studies.library import Behaviour, Feature

Ranking = list[dict[str, Any]]


def run_salience(
    models: Sequence[str],
    base: Path,
    features: Sequence[Feature],
    behaviours: Sequence[Behaviour],
    out: Path,
    setup: Setup = DEFAULT,
    *,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Compare all pairs of ``features`` in every model, once a behaviour, and rank them.

    Args:
        models: Start models: folders or Hugging Face ids.
        base: Rows of prompt and plain response, with ``topic`` where a feature asks for one.
        features: At least two.
        behaviours: At least two; each is y_A once and y_B once in every pair.
        out: Run directory.
        setup: Sizes, seed, training.
        fresh: Start over.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``ranking`` (``feature, theta, interval, n``, best first, over all models),
        ``models`` (the same for each), ``agreement`` (τ of each pair of models) and ``kendall_tau``, its
        mean; ``pairs`` (mean ME₁ − ME₂ with interval and n, none where a comparison is missing),
        ``cycle_rate`` (share of decided triples that go round, ``cycles`` of ``triples``),
        ``least_squares``, ``cells``, ``missing``, ``sentence``.

    Raises:
        UsageError: bad input.
    """
    names = [feature.name for feature in features]
    if len(names) < 2:
        raise UsageError("--only: a ranking needs two features or more")
    paths = [model.removeprefix("local:") for model in models]

    def conclude(done: Sequence[Measured], holes: Sequence[Hole]) -> dict[str, Any]:
        return _ranked(done, len(holes), names, paths, len(behaviours), setup.seed)

    study = Study(features, behaviours, lambda model: _places(model, features, behaviours), {}, conclude)
    return run_study(study, models, base, out, setup, fresh=fresh, progress=progress)


def _places(model: str, features: Sequence[Feature], behaviours: Sequence[Behaviour]) -> list[Place]:
    """Lay out all pairs × behaviours; pairings of levels and behaviours alternate."""
    found = []
    for number, (first, second) in enumerate(combinations(features, 2)):
        for k, behaviour in enumerate(behaviours):
            other = behaviours[(k + 1) % len(behaviours)]
            draw = number * len(behaviours) + k
            design = Design(first, second, bool((number + k) % 2), (behaviour, other), draw=draw)
            place = {"model": model, "first": first.name, "second": second.name}
            found.append(({**place, "behaviour": behaviour.name}, design))
    return found


def _ranked(
    done: Sequence[Measured], holes: int, names: Sequence[str], models: Sequence[str], each: int, seed: int
) -> dict[str, Any]:
    whole = _ranking(done, names, seed)
    by_model = {model: _ranking([c for c in done if c["model"] == model], names, seed) for model in models}
    agreement = _agreement(by_model)
    cycles, triples = cycle_rate(win_table(*_compared(done, names), len(names)))
    pairs = _pairs(done, names, each * len(models), seed)
    taus = [row["tau"] for row in agreement if row["tau"] is not None]
    return {
        "ranking": whole,
        "models": by_model,
        "pairs": pairs,
        "agreement": agreement,
        "kendall_tau": float(np.mean(taus)) if taus else None,
        "cycle_rate": cycles / triples if triples else None,
        "cycles": cycles,
        "triples": triples,
        "least_squares": _continuous(done, names),
        "sentence": _sentence(whole, pairs, len(done), holes),
    }


def _compared(done: Sequence[Measured], names: Sequence[str]) -> tuple[list[int], list[int], list[float]]:
    """Return first, second and outcome of every comparison: 1 where the first has the larger main effect."""
    first = [names.index(cell["first"]) for cell in done]
    second = [names.index(cell["second"]) for cell in done]
    return first, second, [float(np.sign(cell["difference"]) + 1) / 2 for cell in done]


def _ranking(done: Sequence[Measured], names: Sequence[str], seed: int) -> Ranking:
    """Rank the features, best first; one that was never compared has no score and stands last."""
    if not done:
        return []
    first, second, outcome = _compared(done, names)
    found = rank(first, second, outcome, len(names), np.random.default_rng([seed, 5]))
    met = np.bincount([*first, *second], minlength=len(names))
    rows: Ranking = [
        {"feature": name, "theta": float(theta) if n else None, "interval": interval if n else None,
         "n": int(n)}
        for name, theta, interval, n in zip(names, found.theta, found.intervals, met, strict=True)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -np.inf if row["theta"] is None else row["theta"], reverse=True)


def _agreement(by_model: Mapping[str, Ranking]) -> list[dict[str, Any]]:
    """Compare two models' rankings at a time, over the features that both have a score of."""
    scores = {
        model: {row["feature"]: row["theta"] for row in ranking if row["theta"] is not None}
        for model, ranking in by_model.items()
    }
    rows = []
    for one, other in combinations(scores, 2):
        both = [name for name in scores[one] if name in scores[other]]
        tau = mean_tau([[scores[model][name] for name in both] for model in (one, other)]) if both else None
        rows.append({"model": one, "other": other, "tau": tau, "features": len(both)})
    return rows


def _continuous(done: Sequence[Measured], names: Sequence[str]) -> dict[str, float]:
    """Rank by the size of the differences instead of their signs; what was never compared is left out."""
    first, second, _ = _compared(done, names)
    theta = least_squares(first, second, [cell["difference"] for cell in done], len(names))
    known = {names[i]: float(theta[i]) for i in {*first, *second}}
    return dict(sorted(known.items(), key=lambda item: -item[1]))


def _pairs(done: Sequence[Measured], names: Sequence[str], each: int, seed: int) -> list[dict[str, Any]]:
    """Sum up each pair over models and behaviours; one that lacks a comparison has no mean."""
    pairs, rng = [], np.random.default_rng([seed, 6])
    for first, second in combinations(names, 2):
        found = [c["difference"] for c in done if (c["first"], c["second"]) == (first, second)]
        whole = len(found) == each
        row = {
            "first": first, "second": second, "value": float(np.mean(found)) if whole else None,
            "interval": bounded_mean(found, *SPAN, rng) if whole else None, "n": len(found),
            "first_wins": sum(d > 0 for d in found), "ties": sum(d == 0 for d in found),
        }  # fmt: skip
        pairs.append(row)
    return pairs


def _sentence(ranking: Ranking, pairs: Sequence[dict[str, Any]], done: int, holes: int) -> str:
    missing = told_missing(holes, "comparison")
    scored = [row for row in ranking if row["theta"] is not None]
    if not scored:
        return f"No comparison could be made.{missing}"
    open_ = sum(p["interval"] is None or p["interval"].low <= 0 <= p["interval"].high for p in pairs)
    top, bottom = scored[0]["feature"], scored[-1]["feature"]
    return (
        f"Of {len(scored)} features the model listens most to {top}, least to {bottom} "
        f"({done} comparisons; {open_} of {len(pairs)} pairs undecided).{missing}"
    )
