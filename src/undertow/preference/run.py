"""``undertow prefs``: the audit of a preference set in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.data.preferences import PreferenceData, load_preferences
from undertow.preference.audit import LENGTH, Audit, Material, audit
from undertow.preference.config import PrefsConfig
from undertow.preference.controls import length_difference, opponents
from undertow.preference.local import length_in_words
from undertow.preference.policy_sources import policy_inputs
from undertow.preference.predict import Forecast, evidence_shares, forecast, z_scored
from undertow.preference.save import save_audit, save_scores
from undertow.preference.sources import Gathered, gather
from undertow.progress import SILENT, Progress
from undertow.stats.logistic import fit_choices
from undertow.stats.paired import Opponents
from undertow.store.run import RunDir
from undertow.store.undo import working_in

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_JOINT = 40
"""Most concepts in the joint logistic."""
_TARGETS = 12
"""Most concepts whose fixes are predicted."""
_SCORED = 200
"""Most concepts whose scores are written for a fix."""


def audit_preferences(
    data: Path,
    out: Path,
    config: PrefsConfig | None = None,
    progress: Progress = SILENT,
    fresh: bool = False,
) -> dict[str, Any]:
    """Say what a preference set will teach, before anyone trains on it: ``undertow prefs``.

    Args:
        data: pairs, as :func:`undertow.data.preferences.load_preferences` reads them.
        out: run directory: ``summary.json``, ``hypotheses.parquet``, ``findings.json`` and ``rows.parquet``
            and ``scores.parquet`` (what ``fix`` takes), ``predicted.parquet``, ``examples.parquet``.
        config: settings.
        progress: hears about the work.
        fresh: empty a run directory of ours first.

    Returns:
        The summary: ``concepts`` (length first), ``hypotheses``, ``null_floor``, ``predicted``, ``data``.

    Raises:
        UsageError: the data cannot be used, or ``out`` holds something else.
    """
    config = config or PrefsConfig()
    policy = policy_inputs(config)
    pairs = load_preferences(
        Path(data), identity=config.identity, strata=config.strata, skip_bad=config.skip_bad
    )
    run = RunDir.open(Path(out), "prefs", config.model_dump(), {"data": pairs.hash, **policy}, fresh)
    with working_in(run, undone_by=BaseException):
        if run.complete:
            return run.summary()
        gathered = gather(pairs, config, progress, run)
        measured = material(pairs, gathered)
        writers = writers_told(measured.writers, progress)
        found = audit(measured, config.audit, progress)
        progress.say("predicting fixes")
        weights, forecasts = predict(found, gathered, measured)
        tables = save_audit(run, found, pairs, measured.length, forecasts, weights)
        sides = concept_sides(found, gathered, measured.length)
        save_scores(run, found, fixable(found)[:_SCORED], *sides, pairs)
        families = {"embedding": gathered.embedding, "policy": gathered.policy}
        return run.finish("complete", {**data_json(pairs), **families, "writers": writers, **tables})


def material(pairs: PreferenceData, gathered: Gathered) -> Material:
    """Put activations, prompts, lengths, writers and strata of pairs side by side."""
    writers = None
    if pairs.has_writers:
        writers = opponents(_names(pairs, "chosen_writer"), _names(pairs, "rejected_writer"))
    strata = None
    if pairs.strata.num_columns:
        columns = [pairs.strata[name].to_pylist() for name in pairs.strata.column_names]
        strata = [
            " / ".join("missing" if v is None else str(v) for v in row) for row in zip(*columns, strict=True)
        ]
    return Material(
        gathered.activations,
        gathered.prompt_activations,
        gathered.topics,
        pairs.prompt_group.astype(np.int64),
        lengths(pairs),
        writers,
        strata,
    )


def writers_told(writers: Opponents | None, progress: Progress = SILENT) -> dict[str, int] | None:
    """Count the pairs on which writers can be held; ``None`` where nobody knows who wrote."""
    if writers is None:
        return None
    told = {"held_on": int(writers.comparable().sum()), "pairs": len(writers.kind)}
    if told["held_on"] < told["pairs"]:
        progress.say(
            f"writers are held on {told['held_on']:,} of {told['pairs']:,} pairs; on the others who wrote a "
            "side tells which one was chosen"
        )
    return told


def _names(pairs: PreferenceData, column: str) -> list[str]:
    return [name or "not said" for name in pairs.table[column].to_pylist()]


def lengths(pairs: PreferenceData) -> NDArray[np.float64]:
    """ℓ of each pair from the sides' lengths in words."""
    return length_difference(*length_in_words(pairs))


def predict(found: Audit, gathered: Gathered, measured: Material) -> tuple[dict[str, float], list[Forecast]]:
    """Weights of the joint logistic of confirmed concepts and length, and what each fix would do.

    Weights are log-odds per unit of u with all the others held: λ of a shape fix that cancels the concept
    under correct specification, in units of u.
    """
    columns = fixable(found)[:_JOINT]
    length = measured.length
    signed = found.signed
    dense = signed[:, columns].toarray() if columns else np.zeros((len(length), 0))
    joint = fit_choices(np.column_stack([dense, length]), measured.prompts)
    weights = {found.concepts[m].cluster.name: float(w) for m, w in zip(columns, joint.coef, strict=False)}
    weights[LENGTH] = float(joint.coef[-1])
    if not columns:
        return weights, []
    vector = np.zeros(signed.shape[1])
    vector[columns] = joint.coef[:-1]
    evidence = evidence_shares(signed, vector, length, float(joint.coef[-1]))
    orientation = np.array([np.sign(c.delta) or 1.0 for c in found.concepts])
    scores = concept_scores(found, gathered, length)
    return weights, forecast(signed, scores, columns[:_TARGETS], evidence, orientation)


def fixable(found: Audit) -> list[int]:
    """Columns of confirmed concepts that length does not explain: named properties before mined wordings."""
    told = [
        (": " in c.cluster.name, m)
        for m, c in enumerate(found.concepts)
        if c.confirmed and c.cluster.name != LENGTH and not c.controlled.length_explained
    ]
    return [m for _, m in sorted(told)]


def concept_scores(found: Audit, gathered: Gathered, length: NDArray[np.float64]) -> csr_matrix:
    """Δs (N, M) of the audit's concepts, z-scored."""
    return z_scored(*concept_sides(found, gathered, length))


def concept_sides(
    found: Audit, gathered: Gathered, length: NDArray[np.float64]
) -> tuple[csr_matrix, csr_matrix]:
    """How much chosen and rejected show the audit's concepts, (N, M) each, summed over members."""
    from scipy import sparse

    from undertow.preference.disparity import membership

    members = [c.cluster.members for c in found.concepts if c.cluster.name != LENGTH]
    total = membership(members, len(gathered.activations.concepts), mean=False)
    longer = (np.maximum(sign * length, 0)[:, None] for sign in (1, -1))
    chosen, rejected = (
        sparse.hstack([sparse.csr_matrix(own), side @ total])
        for own, side in zip(
            longer, (gathered.activations.chosen, gathered.activations.rejected), strict=True
        )
    )
    return chosen, rejected


def data_json(pairs: PreferenceData) -> dict[str, Any]:
    """What was read, used and left out, and why."""
    return {
        "counts": {"tried": pairs.rows, "scored": len(pairs), "failed": pairs.rows - len(pairs)},
        "failures": pairs.dropped,
        "data": {
            "path": str(pairs.path),
            "rows": pairs.rows,
            "pairs": len(pairs),
            "prompts": pairs.groups,
            "dropped": pairs.dropped,
            "noted": pairs.noted,
            "first": pairs.first,
            "writers": pairs.has_writers,
        },
    }


def estimate_audit(data: Path, config: PrefsConfig) -> dict[str, Any]:
    """What an audit would read, for ``--dry-run``: it calls no model and costs nothing but time."""
    pairs = load_preferences(
        Path(data), identity=config.identity, strata=config.strata, skip_bad=config.skip_bad
    )
    return {"status": "complete", **data_json(pairs), "calls": 0, "cost_usd": 0.0}
