"""What an audit leaves behind: concepts, hypotheses, findings with their rows, predictions, examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.data.preferences import CONTENT, content_hashes
from undertow.preference.alike import concept_heads, hypothesis_heads
from undertow.preference.audit import LENGTH, Audit, ConceptEffect, Hypothesis
from undertow.preference.controls import Effect
from undertow.preference.predict import Forecast, length_only
from undertow.records import Exemplar, Finding, Interval, Rate
from undertow.stats.intervals import rate
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_json, to_jsonable, write_table

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_matrix

    from undertow.data.preferences import PreferenceData

FINDINGS = 60
"""Most findings written; confirmed hypotheses come before concepts."""


def _pair(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None


def _effect(name: str, effect: Effect | None) -> dict[str, object]:
    return {
        name: effect.value if effect else None,
        f"{name}_interval": _pair(effect.interval) if effect else None,
    }


def concept_json(concept: ConceptEffect, weight: float | None = None) -> dict[str, Any]:
    """Lay a concept out as the summary has it."""
    held = concept.controlled
    return {
        "name": concept.cluster.name,
        "text": concept.cluster.text,
        "family": concept.cluster.family,
        "delta": concept.delta,
        "interval": _pair(concept.interval),
        "delta_interval": _pair(concept.interval),
        "d": concept.d,
        "q": concept.q,
        "delta_min": concept.delta_min,
        "n": concept.n,
        "n_prompts": concept.n_prompts,
        "confirmed": concept.confirmed,
        "length_explained": held.length_explained,
        "identity_explained": held.identity_explained,
        **_effect("coef", held.raw),
        **_effect("coef_length", held.length),
        **_effect("coef_length_identity", held.identity),
        "weight": weight,
        "strata": [
            {"name": s.name, "delta": s.delta, "interval": _pair(s.interval), "n": s.n}
            for s in concept.strata
        ],
    }


def hypothesis_json(number: int, hypothesis: Hypothesis, ids: Sequence[str]) -> dict[str, Any]:
    """Lay a hypothesis out as the summary and ``hypotheses.parquet`` have it."""
    return {
        "id": hypothesis_id(number),
        "pipeline": hypothesis.pipeline,
        "prompt_group": hypothesis.prompt_group,
        "concept": hypothesis.cluster.name,
        "text": hypothesis.cluster.text,
        "direction": hypothesis.direction,
        "delta": hypothesis.delta,
        "interval": _pair(hypothesis.interval),
        "mean_in": hypothesis.mean_in,
        "delta_min": hypothesis.delta_min,
        "d": hypothesis.d,
        "z": hypothesis.z,
        "q": hypothesis.q,
        "n": hypothesis.n,
        "n_prompts": hypothesis.n_prompts,
        "confirmed": hypothesis.confirmed,
        "strength": hypothesis.strength,
        "length_explained": hypothesis.length_explained,
        **_effect("delta_equal_length", hypothesis.at_equal_length),
        "example_ids": [ids[i] for i in hypothesis.examples],
    }


def hypothesis_id(number: int) -> str:
    """Stable within a run: rank from 0."""
    return f"hypothesis-{number:03d}"


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Build a table of JSON rows in the schema's columns."""
    import pyarrow as pa

    return pa.Table.from_pylist([to_jsonable(row) for row in rows], schema=schema)


def hypothesis_schema() -> pa.Schema:
    """Columns of ``hypotheses.parquet``."""
    import pyarrow as pa

    text, real, pair = pa.string(), pa.float64(), pa.list_(pa.float64())
    return pa.schema(
        [
            *((name, text) for name in ("id", "pipeline", "prompt_group", "concept", "text", "direction")),
            ("delta", real), ("interval", pair),
            *((name, real) for name in ("mean_in", "delta_min", "d", "z", "q")),
            ("n", pa.int64()), ("n_prompts", pa.int64()),
            ("confirmed", pa.bool_()), ("length_explained", pa.bool_()),
            ("strength", real), ("delta_equal_length", real), ("delta_equal_length_interval", pair),
            ("example_ids", pa.list_(text)), ("alike", text),
        ]
    )  # fmt: skip


def forecast_rows(forecasts: Sequence[Forecast], names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each fix and concept: û before and predicted."""
    return [
        {
            "target": names[each.target],
            "how": each.how,
            "strength": each.strength,
            "pairs": each.pairs,
            "concept": name,
            "before": float(before),
            "after": float(after),
        }
        for each in forecasts
        for name, before, after in zip(names, each.before, each.after, strict=True)
    ]


def forecast_json(each: Forecast, names: Sequence[str]) -> dict[str, Any]:
    """Say what a fix is predicted to do to its target, and to whatever else it moves most."""
    moved = np.abs(each.after - each.before)
    moved[each.target] = -1
    other = int(moved.argmax()) if len(names) > 1 else None
    return {
        "target": names[each.target],
        "how": each.how,
        "strength": each.strength,
        "pairs": each.pairs,
        "before": float(each.before[each.target]),
        "after": float(each.after[each.target]),
        "length_before": float(each.before[0]),
        "length_after": float(each.after[0]),
        "most_moved_other": names[other] if other is not None else None,
        "other_before": float(each.before[other]) if other is not None else None,
        "other_after": float(each.after[other]) if other is not None else None,
    }


def findings(found: Audit, data: PreferenceData) -> tuple[list[Finding], pa.Table]:
    """Turn what is confirmed into findings and the rows behind them, as ``fix`` takes them.

    A finding's rate is how often the chosen side shows the concept among pairs of the group whose sides
    differ in it (for "away from": the rejected side); its base rate is the same outside of the group, or for
    a concept over all pairs there is none. Its rows are those of the group (``has_trigger``) and those that
    show it in this direction (``has_crux``), with ``score``, u in this direction.
    """
    made: list[Finding] = []
    parts: list[pa.Table] = []
    n = len(data)
    everywhere = np.ones(n, np.bool_)
    for number, each in enumerate(found.hypotheses):
        if each.confirmed and len(made) < FINDINGS:
            view = found.views[each.pipeline]
            inside = np.zeros(n, np.bool_)
            inside[view.groups.inside[[each.group]].indices] = True
            u = _column(view.values, each.column) * (1 if each.direction == "towards" else -1)
            made.append(_finding(hypothesis_id(number), each, inside, u, data))
            parts.append(_rows(made[-1].id, inside, u, data))
    for column, concept in enumerate(found.concepts):
        told = concept.confirmed and concept.cluster.name != LENGTH
        if told and not concept.controlled.length_explained and len(made) < FINDINGS:
            u = _column(found.signed, column) * np.sign(concept.delta)
            made.append(_concept_finding(concept, u, data))
            parts.append(_rows(made[-1].id, everywhere, u, data))
    return made, _concatenated(parts)


def _column(values: Any, column: int) -> NDArray[np.float64]:
    return np.asarray(values[:, [column]].todense(), np.float64).ravel()


def _share(u: NDArray[np.float64], rows: NDArray[np.bool_]) -> Rate:
    return rate(int((u[rows] > 0).sum()), int((u[rows] != 0).sum()))


def _finding(
    name: str, each: Hypothesis, inside: NDArray[np.bool_], u: NDArray[np.float64], data: PreferenceData
) -> Finding:
    return Finding(
        id=name,
        rubric="preference",
        behaviour=f"Training will push the model {each.direction}: {each.cluster.text}",
        attributes=(each.prompt_group,),
        status="confirmed",
        rate=_share(u, inside),
        control_rate=None,
        base_rate=_share(u, ~inside),
        failed=0,
        exemplars=_exemplars(each.examples[:3], data),
    )


def _concept_finding(concept: ConceptEffect, u: NDArray[np.float64], data: PreferenceData) -> Finding:
    direction = "towards" if concept.delta > 0 else "away from"
    return Finding(
        id=f"concept-{concept.cluster.name}",
        rubric="preference",
        behaviour=f"Training will push the model {direction}: {concept.cluster.text}",
        attributes=(),
        status="confirmed",
        rate=_share(u, np.ones(len(u), np.bool_)),
        control_rate=None,
        base_rate=None,
        failed=0,
        exemplars=_exemplars(concept_examples(u, data)[:3], data),
    )


def concept_examples(u: NDArray[np.float64], data: PreferenceData, most: int = 3) -> list[int]:
    """Rows that show a concept most in the direction of ``u``, each of another prompt."""
    ranked = np.argsort(-u, kind="stable")[: 50 * most]
    ranked = ranked[u[ranked] > 0]
    _, first = np.unique(data.prompt_group[ranked], return_index=True)
    return [int(i) for i in ranked[np.sort(first)][:most]]


def _exemplars(rows: Sequence[int], data: PreferenceData) -> tuple[Exemplar, ...]:
    picked = data.table.select(["prompt", "chosen"]).take(list(rows)).to_pylist()
    nothing = Rate(0, 0, None)
    return tuple(Exemplar(row["prompt"], row["chosen"], nothing) for row in picked)


def _rows(name: str, inside: NDArray[np.bool_], u: NDArray[np.float64], data: PreferenceData) -> pa.Table:
    import pyarrow as pa

    at = np.flatnonzero((u > 0) | (inside if not inside.all() else False))
    return pa.table(
        {
            "finding": pa.array([name] * len(at), pa.string()),
            "id": data.table["id"].take(pa.array(at)).combine_chunks(),
            "has_trigger": pa.array(inside[at]),
            "has_crux": pa.array(u[at] > 0),
            "score": pa.array(u[at]),
        }
    )


def _concatenated(parts: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    if parts:
        return pa.concat_tables(parts)
    text, mark = pa.string(), pa.bool_()
    return pa.schema(
        [("finding", text), ("id", text), ("has_trigger", mark), ("has_crux", mark), ("score", pa.float64())]
    ).empty_table()


def save_audit(
    run: RunDir,
    found: Audit,
    data: PreferenceData,
    length: NDArray[np.float64],
    forecasts: Sequence[Forecast],
    weights: dict[str, float],
) -> dict[str, Any]:
    """Write every table into the run directory and return their part of the summary."""
    import pyarrow as pa

    ids = data.table["id"].to_pylist()
    names = [c.cluster.name for c in found.concepts]
    carried = length_only(found.signed, length)
    alike = concept_heads(found)
    concepts = [
        {
            **concept_json(c, weights.get(c.cluster.name)),
            "length_carried": float(by_length),
            "alike": names[alike[i]] if i in alike else None,
        }
        for i, (c, by_length) in enumerate(zip(found.concepts, carried, strict=True))
    ]
    same = hypothesis_heads(found)
    hypotheses = [
        {**hypothesis_json(i, h, ids), "alike": hypothesis_id(same[i]) if i in same else None}
        for i, h in enumerate(found.hypotheses)
    ]
    made, rows = findings(found, data)
    kept = sorted({i for h in found.hypotheses for i in h.examples} | _concept_rows(found, data, concepts))
    write_table(table_of(rounded(hypotheses), hypothesis_schema()), run.file("hypotheses.parquet"))
    write_table(rows, run.file("rows.parquet"))
    texts = ["id", "prompt", "chosen", "rejected"]
    write_table(data.table.select(texts).take(pa.array(kept, pa.int64())), run.file("examples.parquet"))
    if forecasts:
        write_table(
            pa.Table.from_pylist(rounded(forecast_rows(forecasts, names))), run.file("predicted.parquet")
        )
    atomic_write_json(run.file("findings.json"), made)
    told: dict[str, Any] = {
        "concepts": concepts,
        "hypotheses": hypotheses,
        "null_floor": max(found.floors.values(), default=None),
        "null_floors": {**found.floors, "concepts": found.concept_floor},
        "strength_floors": found.strength_floors,
        "confirmed": {
            "concepts": sum(c.confirmed for c in found.concepts),
            "hypotheses": sum(h.confirmed for h in found.hypotheses),
            "concept_heads": sum(i == head for i, head in alike.items()),
            "hypothesis_heads": sum(i == head for i, head in same.items()),
        },
        "predicted": [forecast_json(each, names) for each in forecasts],
    }
    return {name: rounded(value) for name, value in told.items()}


def rounded(value: Any) -> Any:
    """Round every real number to nine digits: the last bits depend on where an array lies in memory."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


SCORES = "scores.parquet"
"""How much each side of each pair shows the confirmed concepts: what ``fix`` goes by."""


def save_scores(
    run: RunDir,
    found: Audit,
    columns: Sequence[int],
    chosen: csr_matrix,
    rejected: csr_matrix,
    data: PreferenceData,
) -> None:
    """Write ``id``, a hash of the texts and, for each concept, ``NAME_chosen`` and ``NAME_rejected``, (N,).

    The same by id for each confirmed hypothesis of one of the concepts, 0 outside of its group. Where
    training is pushed away from it the sides are turned round: what is rewarded is then on the chosen side.
    """
    import pyarrow as pa

    told = {"id": data.table["id"].cast(pa.string()), CONTENT: content_hashes(data.table)}
    for side, values in (("chosen", chosen.tocsc()), ("rejected", rejected.tocsc())):
        for column in columns:
            name = f"{found.concepts[column].cluster.name}_{side}"
            told[name] = pa.array(values[:, [column]].toarray().ravel().astype(np.float32))
    place = {c.cluster.name: column for column, c in enumerate(found.concepts)}
    for number, h in enumerate(found.hypotheses):
        if h.confirmed and h.cluster.name in place:
            inside = found.views[h.pipeline].groups.inside[[h.group]].toarray().ravel()
            sides = (chosen, rejected) if h.direction == "towards" else (rejected, chosen)
            for side, shown in zip(("chosen", "rejected"), sides, strict=True):
                own = shown[:, [place[h.cluster.name]]].toarray().ravel() * inside
                told[f"{hypothesis_id(number)}_{side}"] = pa.array(own.astype(np.float32))
    write_table(pa.table(told), run.file(SCORES))


def _concept_rows(found: Audit, data: PreferenceData, concepts: list[dict[str, Any]]) -> set[int]:
    """Give each confirmed concept the rows that show it best; adds their ids to its JSON."""
    ids = data.table["id"]
    kept: set[int] = set()
    for column, (concept, told) in enumerate(zip(found.concepts, concepts, strict=True)):
        rows: list[int] = []
        if concept.confirmed and column < FINDINGS:
            rows = concept_examples(_column(found.signed, column) * np.sign(concept.delta), data)
        told["example_ids"] = [ids[i].as_py() for i in rows]
        kept |= set(rows)
    return kept
