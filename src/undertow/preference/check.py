"""``undertow prefs check``: did training shift what the audit predicted, and more than length alone says?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undertow.data.load import ExampleTable, load_examples
from undertow.data.preferences import PreferenceData
from undertow.errors import UsageError
from undertow.preference.disparity import disparities, single_clusters
from undertow.preference.local import local_concepts
from undertow.preference.predict import fidelity
from undertow.stats.contrast import clustered_mean
from undertow.store.tables import read_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
_DRAWS = 1_000


def check_prediction(before: Path, after: Path, run: Path, training: Path) -> dict[str, Any]:
    """Compare the shifts between two sets of rollouts with what an audit predicted.

    Args:
        before: answers of the start model, as ``load_examples`` reads them; prompts not trained on.
        after: answers of the trained one to the same prompts, as many to each.
        run: run directory of the audit.
        training: run directory of the training; its margin must have risen.

    Returns:
        ``margin``, and for ``audit`` and ``length_only``: n, r2, spearman with its ``interval`` (prompts
        resampled), sign_accuracy; ``better``: Spearman of the audit less that of length alone; ``concepts``.
        Concepts that neither pairs nor answers tell apart or show are left out: nothing is predicted of them.

    Raises:
        UsageError: an input is missing, the prompts differ, or the margin did not rise.
    """
    margin = _margin(training)
    concepts = read_json(Path(run) / "summary.json").get("concepts")
    if not concepts or "length_carried" not in concepts[0]:
        raise UsageError(f"{run}: holds no audit; give the --out of `undertow prefs`")
    pairs = _paired(*(load_examples(Path(side), skip_bad=True) for side in (before, after)))
    activations = local_concepts(pairs)
    found = disparities(activations, single_clusters(activations.concepts), 0.01)
    mean, se = clustered_mean(found.signed, pairs.prompt_group)
    shown = np.asarray(found.activity.sum(0)).ravel() > 0
    place = {cluster.name: i for i, cluster in enumerate(found.clusters)}
    shared = [c for c in concepts if c["name"] in place and ": " not in c["name"]]
    shared = [c for c in shared if c["n"] or shown[place[c["name"]]]]
    at = np.array([place[c["name"]] for c in shared], np.int64)
    observed, error = mean[at], se[at]
    clear = np.abs(observed) > 1.96 * np.nan_to_num(error, nan=np.inf)
    told = {
        name: _column(shared, key) for name, key in (("audit", "delta"), ("length_only", "length_carried"))
    }
    drawn = _resampled(found.signed[:, at], pairs.prompt_group)
    ranks = {name: _spearman(predicted, drawn) for name, predicted in told.items()}
    return {
        "status": "complete",
        "margin": margin,
        "pairs": len(pairs),
        "left_out": pairs.dropped,
        "prompts": pairs.groups,
        **{
            name: {**asdict(fidelity(predicted, observed, clear)), "interval": _bounds(ranks[name])}
            for name, predicted in told.items()
        },
        "better": _bounds(ranks["audit"] - ranks["length_only"]),
        "concepts": [_shift(c, float(o), float(e)) for c, o, e in zip(shared, observed, error, strict=True)],
    }


def _resampled(signed: csr_matrix, groups: NDArray[np.int32]) -> Floats:
    """Mean shifts (draws, M) over prompts drawn with replacement."""
    from scipy import sparse

    rows = np.arange(len(groups))
    member = sparse.csr_matrix((np.ones(len(rows)), (groups, rows)))
    sums, size = (member @ signed).toarray(), np.asarray(member.sum(1)).ravel()
    weight = np.random.default_rng(0).multinomial(len(size), np.full(len(size), 1 / len(size)), _DRAWS)
    return np.asarray(weight @ sums / (weight @ size)[:, None])


def _spearman(predicted: Floats, drawn: Floats) -> Floats:
    """Spearman of one prediction (M,) with each draw of the shifts (draws, M); NaN where undefined."""
    from scipy.stats import rankdata

    if drawn.shape[1] < 3:
        return np.full(len(drawn), np.nan)
    a, b = rankdata(predicted), rankdata(drawn, axis=1)
    a, b = a - a.mean(), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a @ a) * (b * b).sum(axis=1))
    return np.asarray(np.divide(b @ a, scale, out=np.full(len(b), np.nan), where=scale > 0))


def _bounds(values: Floats) -> list[float] | None:
    """Return the central 95 %; ``None`` where a value is undefined."""
    if np.isnan(values).any():
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]


def _shift(concept: dict[str, Any], observed: float, error: float) -> dict[str, object]:
    return {
        "name": concept["name"],
        "predicted": concept["delta"],
        "length_only": concept["length_carried"],
        "observed": observed,
        "interval": [observed - 1.96 * error, observed + 1.96 * error],
    }


def _column(concepts: list[dict[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([float(c[key]) for c in concepts])


def _margin(training: Path) -> dict[str, float]:
    told = read_json(Path(training) / "summary.json").get("margin")
    if not isinstance(told, dict) or None in (told.get("before"), told.get("after")):
        raise UsageError(f"{training}: records no margin; give the --out of `undertow train dpo`")
    if told["after"] <= told["before"]:
        change = f"{told['before']:.3g} to {told['after']:.3g}"
        raise UsageError(
            f"{training}: the margin did not rise ({change}), so it tests no prediction; train on"
        )
    return {"before": float(told["before"]), "after": float(told["after"])}


def _paired(before: ExampleTable, after: ExampleTable) -> PreferenceData:
    """Lay the n-th answers to the same prompt side by side: after as chosen, before as rejected.

    Empty answers are left out with their counterpart.
    """
    first, second = (_by_prompt(table) for table in (before, after))
    rows = [
        {"prompt": prompt, "chosen": new, "rejected": old}
        for prompt, answers in first.items()
        for old, new in zip(answers, second.get(prompt, []), strict=False)
    ]
    empty = sum(sum(table.skipped.values()) for table in (before, after))
    if len(before) + len(after) - 2 * len(rows) > empty:
        raise UsageError(
            f"{after.path}: its prompts are not those of {before.path}; ask both models the same"
        )
    groups = np.unique(np.array([row["prompt"] for row in rows], object), return_inverse=True)[1]
    table = pa.Table.from_pylist([{"id": str(i), **row} for i, row in enumerate(rows)])
    tried = max(len(t) + sum(t.skipped.values()) for t in (before, after))
    return PreferenceData(
        table, groups.astype(np.int32), table.select([]), after.path, after.hash, tried,
        {"empty answer": tried - len(rows)},
    )  # fmt: skip


def _by_prompt(table: ExampleTable) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    both = (table.table[name].to_pylist() for name in ("prompt", "response"))
    for prompt, response in zip(*both, strict=True):
        found.setdefault(prompt, []).append(response)
    return found
