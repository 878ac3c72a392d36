"""``undertow prefs check``: did training shift what the audit predicted, and more than length alone says?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def check_prediction(before: Path, after: Path, run: Path, training: Path) -> dict[str, Any]:
    """Compare the shifts between two sets of rollouts with what an audit predicted.

    Args:
        before: answers of the start model, as ``load_examples`` reads them; prompts not trained on.
        after: answers of the trained one to the same prompts, as many to each.
        run: run directory of the audit.
        training: run directory of the training; its margin must have risen.

    Returns:
        ``margin``, and for ``audit`` and ``length_only``: n, r2, spearman, sign_accuracy; ``concepts``.

    Raises:
        UsageError: an input is missing, the prompts differ, or the margin did not rise.
    """
    margin = _margin(training)
    concepts = read_json(Path(run) / "summary.json").get("concepts")
    if not concepts or "length_carried" not in concepts[0]:
        raise UsageError(f"{run}: holds no audit; give the --out of `undertow prefs`")
    pairs = _paired(load_examples(Path(before)), load_examples(Path(after)))
    activations = local_concepts(pairs)
    found = disparities(activations, single_clusters(activations.concepts), 0.01)
    mean, se = clustered_mean(found.signed, pairs.prompt_group)
    place = {cluster.name: i for i, cluster in enumerate(found.clusters)}
    shared = [c for c in concepts if c["name"] in place and ": " not in c["name"]]
    at = np.array([place[c["name"]] for c in shared], np.int64)
    observed, error = mean[at], se[at]
    clear = np.abs(observed) > 1.96 * np.nan_to_num(error, nan=np.inf)
    told = {
        name: _column(shared, key) for name, key in (("audit", "delta"), ("length_only", "length_carried"))
    }
    return {
        "status": "complete",
        "margin": margin,
        "pairs": len(pairs),
        "prompts": pairs.groups,
        **{name: fidelity(predicted, observed, clear) for name, predicted in told.items()},
        "concepts": [_shift(c, float(o), float(e)) for c, o, e in zip(shared, observed, error, strict=True)],
    }


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
    """Lay the n-th answers to the same prompt side by side: after as chosen, before as rejected."""
    prompts = [table.table["prompt"].to_pylist() for table in (before, after)]
    orders = [np.argsort(np.array(each, object), kind="stable") for each in prompts]
    first, second = ([each[i] for i in order] for each, order in zip(prompts, orders, strict=True))
    if first != second:
        raise UsageError(
            f"{after.path}: its prompts are not those of {before.path}; ask both models the same"
        )
    answers = [
        table.table["response"].take(pa.array(order))
        for table, order in zip((before, after), orders, strict=True)
    ]
    table = pa.table(
        {
            "id": [str(i) for i in range(len(first))],
            "prompt": first,
            "chosen": answers[1],
            "rejected": answers[0],
        }
    )
    groups = np.unique(np.array(first, object), return_inverse=True)[1].astype(np.int32)
    return PreferenceData(table, groups, table.select([]), after.path, after.hash, len(first))
