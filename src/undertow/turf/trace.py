"""Trace a failure to the training rows that go with it: crux → retrieve → count → trigger → explain.

Paper §4.1 and D.1; the departures are told in the modules of each step. What is found is an association.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.index.open import Index
from undertow.progress import SILENT, Progress
from undertow.records import Attribution, Finding, Interval, Message, Trigger
from undertow.stats.intervals import wilson
from undertow.store.run import read_manifest
from undertow.store.tables import atomic_write_json, read_table, to_jsonable, write_table
from undertow.surf.rows import messages_from_json
from undertow.surf.save import load_findings
from undertow.turf.asked import Verdicts, contrasted_cruxes, judged_cruxes, read_queries
from undertow.turf.config import TraceConfig
from undertow.turf.crux import ResolvedCrux, contrast_cruxes, named_cruxes, rubric_cruxes
from undertow.turf.explain import explain
from undertow.turf.panel import Panel
from undertow.turf.query import Held, Query, hold, text_of
from undertow.turf.redundancy import rise
from undertow.turf.sensitivity import sensitivity
from undertow.turf.triggers import within_source_odds

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.judging.rubric import Rubric

MOSTLY = 0.5
"""Rise of P(behaviour | feature) over the base rate from which a trigger after the first decides rows too."""
MARKS = 2.0
"""Lift of the first trigger from which a crux after the leading one marks a row's behaviour too."""
MOST_RESPONSES = 2000
"""Responses of each kind that a crux is drawn from; more change no decision."""
MOST_QUERIES = 400
"""Failing queries of a finding that are aggregated."""
MOST_JUDGED = 5
"""Violating responses of a finding that the two judges see; its exemplars where it has some."""
FAILED = "failed"
"""Key of an attribution's sensitivity that says why it is missing."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A finding's attribution and its rows."""

    attribution: Attribution
    """What is reported."""
    rows: pa.Table
    """finding, id, source, rank, has_trigger, has_crux: one line a row that has a reported trigger."""


def trace_pair(
    index: Index,
    prompt: Query,
    response: str | None,
    crux: Sequence[str] | None = None,
    rubric: Rubric | None = None,
    config: TraceConfig | None = None,
) -> Attribution:
    """Trace one failing pair.

    Args:
        index: the opened index.
        prompt: the failing query, or the conversation that it ends.
        response: what the model answered; restricts the crux to attributes it really has.
        crux: sentences ``The response …`` held responsible; or else
        rubric: whose checks say what is wrong with the response.
        config: settings.

    Raises:
        UsageError: nothing names the crux, or nothing in the index is near it.
    """
    return trace_exchange(index, prompt, response, crux, rubric, config).attribution


def trace_exchange(
    index: Index,
    prompt: Query,
    response: str | None,
    crux: Sequence[str] | None = None,
    rubric: Rubric | None = None,
    config: TraceConfig | None = None,
    panel: Panel | None = None,
) -> Traced:
    """Trace one failing pair, rows and all; see :func:`trace_pair`. ``panel`` has the models it may ask."""
    config = config or TraceConfig()
    if not text_of(prompt).strip():
        raise UsageError("--prompt: empty; give the query that failed")
    if crux:
        cruxes = named_cruxes(index, crux, response)
    elif panel and panel.judge and rubric and response:
        judged = judged_cruxes(index, [response], rubric, config, panel)
        return trace_judged(index, "query", [prompt], judged, rubric.behaviour, config, panel)
    elif index.model:
        raise UsageError(
            f"{index.path}: written by a model; name --crux, or --judge, --rubric and --response"
        )
    elif rubric is not None and response:
        asked = (text_of(prompt), response, rubric)
        cruxes = rubric_cruxes(index, *asked, config.cruxes, config.support, config.seed)
    else:
        raise UsageError("a single pair needs --crux 'The response …', or --rubric and --response")
    return trace_queries(index, "query", [prompt], cruxes, rubric.behaviour if rubric else "", config, panel)


def trace_queries(
    index: Index,
    finding: str,
    prompts: Sequence[Query],
    cruxes: Sequence[ResolvedCrux],
    violation: str,
    config: TraceConfig,
    panel: Panel | None = None,
) -> Traced:
    """Trace the failing queries of one finding together; a trigger must hold for most of them."""
    if not cruxes:
        note = "no response attribute sets the violating responses apart"
        return _untraced(index, finding, {"note": note}, explain((), (), violation, config.level))
    queries = read_queries(index, prompts, config, panel)
    if queries.failing is None:
        note = "none of the failing queries could be described"
        return _untraced(index, finding, {**queries.report, FAILED: note}, f"No trigger: {note}.")
    held = hold(index, queries.failing, cruxes, config)
    triggers = tuple(_trigger(index, held, rank, config) for rank in range(len(held.ranking.order)))
    shown = held.ranking.crux[0] if triggers else 0
    told = [held.cruxes[shown].crux, *(each.crux for i, each in enumerate(held.cruxes) if i != shown)]
    attribution = Attribution(
        finding=finding,
        crux=tuple(told),
        triggers=triggers,
        explanation=explain(told, triggers, violation, config.level),
        sensitivity={**sensitivity(index, held, config), **queries.report},
    )
    features = held.failing.features_F[list(held.ranking.order)]
    masks = np.zeros((len(features), index.n), dtype=np.bool_)
    for mask, feature in zip(masks, features, strict=True):
        mask[held.failing.columns.rows_of(int(feature))] = True
    rises = [float(rise(each.rate, each.base_rate)) for each in triggers]
    return Traced(attribution, _row_table(index, finding, masks, _violating(held), rises))


def trace_judged(
    index: Index,
    finding: str,
    prompts: Sequence[Query],
    judged: Verdicts,
    violation: str,
    config: TraceConfig,
    panel: Panel,
) -> Traced:
    """Trace failing queries by a crux that models found; what they said is part of the report."""
    if judged.failed:
        note = "none of the violating responses could be judged or described"
        return _untraced(index, finding, {**judged.report, FAILED: note}, f"No trigger: {note}.")
    traced = trace_queries(index, finding, prompts, judged.cruxes, violation, config, panel)
    told = {**traced.attribution.sensitivity, **judged.report}
    return replace(traced, attribution=replace(traced.attribution, sensitivity=told))


def _untraced(index: Index, finding: str, report: dict[str, object], explanation: str) -> Traced:
    """Report a finding without triggers."""
    rows = _row_table(index, finding, np.zeros((0, index.n), bool), np.zeros(index.n, bool))
    return Traced(Attribution(finding, (), (), explanation, report), rows)


def _violating(held: Held) -> NDArray[np.bool_]:
    """Say which rows show the behaviour: the leading crux, or another that the first trigger really lifts.

    A crux that the corpus is full of ("contains the word 'a'") sets the failing responses apart, but a row
    with it is not for that a row with the behaviour.
    """
    if not held.ranking.order:
        return np.asarray(held.behaviour_CN.any(axis=0))
    counts, first = held.counts, held.ranking.order[0]
    rate = counts.both_CF[:, first] / max(int(counts.feature_F[first]), 1)
    marks = rate >= MARKS * counts.base_C
    marks[held.ranking.crux[0]] = True
    return np.asarray(held.behaviour_CN[marks].any(axis=0))


def _trigger(index: Index, held: Held, rank: int, config: TraceConfig) -> Trigger:
    """Report one ranked feature with the numbers of its crux."""
    feature, crux = held.ranking.order[rank], held.ranking.crux[rank]
    cluster, counts = int(held.failing.features_F[feature]), held.counts
    x, m = int(counts.both_CF[crux, feature]), int(counts.feature_F[feature])
    base = float(counts.base_C[crux])
    interval = wilson(x, m)
    group = held.failing.group_of(feature)
    rows = held.failing.columns.rows_of(cluster)
    by_source = counts.both_CFS[crux, feature]
    order = np.argsort(-by_source, kind="stable")
    return Trigger(
        text=held.failing.texts[feature],
        label=held.failing.texts[feature] if group else index.labels[cluster],
        cluster=None if group else cluster,
        paper_hits=int(held.hits[crux][config.k][feature]),
        k=config.k,
        examples=x,
        corpus=m,
        rate=x / m,
        rate_interval=interval or Interval(0.0, 1.0),
        base_rate=base,
        lift=x / m / base if base else None,
        p=float(held.evidence.p_CF[crux, feature]),
        q=float(held.evidence.q_CF[crux, feature]),
        within_source_or=within_source_odds(counts, crux, feature),
        sources={index.source_names[s]: int(by_source[s]) for s in order if by_source[s]},
        example_ids=tuple(str(i) for i in index.ids[rows[held.behaviour_CN[crux][rows]]]),
        words=group.words if group else (),
        least=group.least if group else 1,
    )


def trigger_rows(index: Index, trigger: Trigger) -> NDArray[np.integer]:
    """Return the rows of the corpus that a trigger holds for, ascending."""
    if trigger.cluster is not None:
        return index.features.rows_of(trigger.cluster)
    lexicon = index.lexicon
    if lexicon is None:
        return np.empty(0, np.int64)
    rows, _ = lexicon.rows.gather(np.array([lexicon.number[word] for word in trigger.words], np.int64))
    return np.flatnonzero(np.bincount(rows, minlength=index.n) >= trigger.least)


def _row_table(
    index: Index,
    finding: str,
    trigger_TN: NDArray[np.bool_],
    crux_N: NDArray[np.bool_],
    rises: Sequence[float] = (),
) -> pa.Table:
    """List the rows that have a reported trigger; ``rank`` is the best one, from 1.

    ``has_trigger``: the first one, or another whose rate rises over the base rate by at least :data:`MOSTLY`
    of what is left, because one wording seldom covers all rows of a trigger. It decides what a fix touches.
    """
    import pyarrow as pa

    telling = np.array([rank == 0 or each >= MOSTLY for rank, each in enumerate(rises)], dtype=bool)
    decides_N = np.asarray(trigger_TN[telling].any(axis=0))
    rows = np.flatnonzero(trigger_TN.any(axis=0))
    rank = trigger_TN[:, rows].argmax(axis=0) + 1 if len(rows) else np.empty(0, np.int64)
    return pa.table(
        {
            "finding": pa.array([finding] * len(rows), pa.string()),
            "id": pa.array(index.ids[rows] if len(rows) else [], pa.string()),
            "source": pa.array(index.sources[rows] if len(rows) else [], pa.string()),
            "rank": pa.array(rank, pa.int32()),
            "has_trigger": pa.array(decides_N[rows], pa.bool_()),
            "has_crux": pa.array(crux_N[rows], pa.bool_()),
        }
    )


def trace_finding(
    index: Index, run: Path, finding: Finding, config: TraceConfig, panel: Panel | None = None
) -> Traced:
    """Trace one confirmed finding of a search run from its violating confirmation samples.

    Raises:
        UsageError: a model wrote the index, and there is no panel to ask it.
    """
    exchanges = _exchanges(run)
    violating, others = (
        exchanges.filter(_mask(exchanges, finding.id)),
        exchanges.filter(_mask(exchanges, None)),
    )
    prompts = _failing_queries(run, violating["messages"].to_pylist(), finding)
    responses = violating["response"].to_pylist()[:MOST_RESPONSES]
    responses = responses or [exemplar.response for exemplar in finding.exemplars]
    if not prompts:
        return trace_queries(index, finding.id, [], [], finding.behaviour, config)
    if panel and panel.judge:
        shown = [exemplar.response for exemplar in finding.exemplars] or responses[:MOST_JUDGED]
        judged = judged_cruxes(index, shown, rubric_of(run), config, panel)
        return trace_judged(index, finding.id, prompts, judged, finding.behaviour, config, panel)
    step = max(1, others.num_rows // MOST_RESPONSES)
    plain = others["response"].to_pylist()[::step]
    if index.model:
        if panel is None:
            raise UsageError(
                f"{index.path}: written by {index.model}, which the trace must ask; run `undertow trace`"
            )
        told = contrasted_cruxes(index, responses, plain, config, panel)
        return trace_judged(index, finding.id, prompts, told, finding.behaviour, config, panel)
    cruxes = contrast_cruxes(index, responses, plain, config.cruxes, config.support)
    return trace_queries(index, finding.id, prompts, cruxes, finding.behaviour, config, panel)


def _failing_queries(run: Path, messages: Sequence[str], finding: Finding) -> list[Query]:
    """Return the distinct failing conversations of a finding, after what the run put before every one."""
    said = [messages_from_json(each) for each in dict.fromkeys(messages)][:MOST_QUERIES]
    said = said or [(*each.history, Message("user", each.prompt)) for each in finding.exemplars]
    config = read_manifest(run)["config"]
    system = [Message("system", config["system"])] if config.get("system") else []
    before = [Message(turn["role"], turn["content"]) for turn in config.get("context", ())]
    return [(*system, *before, *turns) for turns in said]


def rubric_of(run: Path) -> Rubric:
    """Read the rubric that a search run judged by."""
    from undertow.judging.rubric import Rubric

    config = read_manifest(Path(run))["config"]
    return Rubric.model_validate(config["rubric"])


def _exchanges(run: Path) -> pa.Table:
    """Read all judged exchanges of a search run: finding, phase, messages, response, violation."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["finding", "phase", "messages", "response", "violation"]
    tables = [read_table(run / name, columns) for name in ("confirm_samples.parquet", "samples.parquet")]
    both = pa.concat_tables(tables)
    return both.filter(pc.and_(pc.is_valid(both["violation"]), pc.is_valid(both["response"])))


def _mask(exchanges: pa.Table, finding: str | None) -> pa.ChunkedArray:
    """Select a finding's violating exchanges, or all that violate nothing."""
    import pyarrow.compute as pc

    if finding is None:
        return pc.invert(exchanges["violation"])
    return pc.and_(exchanges["violation"], pc.equal(exchanges["finding"], finding))


def trace_findings(
    index: Index,
    run: Path,
    out: Path | None = None,
    config: TraceConfig | None = None,
    progress: Progress = SILENT,
    panel: Panel | None = None,
) -> list[Attribution]:
    """Trace every confirmed finding of the search run ``run``.

    With ``out`` the folder gets ``attribution.json`` (the list) and ``rows.parquet`` (all traced rows).

    Raises:
        UsageError: ``run`` is no finished search.
    """
    config = config or TraceConfig()
    findings = [finding for finding in load_findings(Path(run)) if finding.status == "confirmed"]
    traced = []
    with progress.task("trace findings", len(findings)) as task:
        for finding in findings:
            traced.append(trace_finding(index, Path(run), finding, config, panel))
            task.advance(note=finding.id)
    if out is not None:
        write_traced(traced, Path(out))
    return [each.attribution for each in traced]


def write_traced(traced: Sequence[Traced], out: Path) -> None:
    """Write ``attribution.json`` and ``rows.parquet`` into the folder ``out``."""
    import pyarrow as pa

    tables = [each.rows for each in traced]
    atomic_write_json(out / "attribution.json", [to_jsonable(each.attribution) for each in traced])
    if tables:
        write_table(pa.concat_tables(tables), out / "rows.parquet")
