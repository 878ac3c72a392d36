"""From an attribution's JSON to the trace part of a finding."""

from __future__ import annotations

from undertow.report import words
from undertow.report.charts import lift_chart
from undertow.report.contexts import Cell, Exchange, Measure, Trace, TriggerRow
from undertow.report.reading import (
    Fields,
    fields,
    flag,
    interval,
    number,
    records,
    share,
    strings,
    text,
    whole,
)

_TRIGGERS, _TRIGGERS_BRIEF, _CHARTED, _SOURCES = 6, 3, 5, 4
_IDS, _IDS_LATER, _LINES = 12, 4, 16
_NOT_GIVEN = "not given"


def trace(attribution: Fields, truth: Fields, rows: tuple[Exchange, ...], draw: bool, brief: bool) -> Trace:
    """Build the trace of one finding.

    Args:
        attribution: one entry of ``attribution.json``.
        truth: the planted shortcut's row of the demo's summary; empty without one.
        rows: training rows to show.
        draw: whether to draw the chart; the longest reports do without.
        brief: show fewer triggers and no sensitivity, on the longest reports.
    """
    found = records(attribution.get("triggers"))
    most = _TRIGGERS_BRIEF if brief else _TRIGGERS
    triggers = tuple(_trigger(rank, each) for rank, each in enumerate(found[:most], 1))
    charted = [(t.text, t.rate) for t in triggers[:_CHARTED]]
    base = next((t.base.value for t in triggers if t.base.value is not None), None)
    return Trace(
        crux=tuple((text(c, "text"), _statistic(c, "margin")) for c in records(attribution.get("crux"))),
        explanation=text(attribution, "explanation"),
        triggers=triggers,
        more_triggers=max(0, len(found) - most),
        chart=lift_chart(charted, base, None) if draw else None,
        rows=rows,
        truth=_agreement(truth),
        sensitivity=() if brief else _sensitivity(fields(attribution.get("sensitivity"))),
    )


def _sensitivity(given: Fields) -> tuple[tuple[str, str], ...]:
    """Lay the check out as lines: an object of objects gives one line for each of its entries."""
    lines: list[tuple[str, str]] = []
    for key, value in given.items():
        inner = fields(value)
        nested = inner and all(isinstance(each, dict) for each in inner.values())
        lines += (
            [(f"{key} = {sub}", _plain(each)) for sub, each in inner.items()]
            if nested
            else [(key, _plain(value))]
        )
    return tuple((term.replace("_", " "), value) for term, value in lines[:_LINES] if value)


def _trigger(rank: int, of: Fields) -> TriggerRow:
    examples, corpus = whole(of, "examples"), whole(of, "corpus")
    hits, k = whole(of, "paper_hits"), whole(of, "k")
    sources, ids = _sources(of), strings(of, "example_ids")
    listed = ids[: _IDS if rank == 1 else _IDS_LATER]
    name, label = text(of, "text"), text(of, "label")
    return TriggerRow(
        rank=rank,
        text=name,
        label="" if label == name else label,
        paper_hits=_of(hits, k),
        examples=_of(examples, corpus),
        rate=Measure(
            "P(behaviour | feature)", "shortcut", share(of, "rate"), corpus, examples,
            interval(of, "rate_interval"), _NOT_GIVEN,
        ),
        base=Measure("P(behaviour)", "base", share(of, "base_rate"), absent=_NOT_GIVEN),
        lift=_statistic(of, "lift", "×"),
        q=_statistic(of, "q"),
        within=_statistic(of, "within_source_or"),
        sources=tuple(sources[:_SOURCES]),
        more_sources=max(0, len(sources) - _SOURCES),
        row_ids=listed,
        more_rows=max(0, (examples if examples is not None else len(ids)) - len(listed)),
    )  # fmt: skip


def _sources(of: Fields) -> list[tuple[str, int]]:
    counts = fields(of.get("sources"))
    known = [(str(name), n) for name in counts if (n := whole(counts, name)) is not None]
    return sorted(known, key=lambda pair: (-pair[1], pair[0]))


def _of(part: int | None, whole_: int | None) -> Cell:
    if part is None:
        return Cell(None, _NOT_GIVEN)
    return Cell(words.count(part) + (f" / {words.count(whole_)}" if whole_ is not None else ""))


def _statistic(of: Fields, key: str, before: str = "") -> Cell:
    value = number(of, key)
    return Cell(None, "undefined" if key in of else _NOT_GIVEN) if value is None else Cell(
        before + words.significant(value)
    )  # fmt: skip


def _agreement(truth: Fields) -> tuple[tuple[str, Cell], ...]:
    if not truth:
        return ()
    recall = share(truth, "rows_recall")
    return (
        ("Planted trigger ranked first", yes_no(flag(truth, "trace_top1"))),
        ("Planted trigger among the first three", yes_no(flag(truth, "trace_top3"))),
        ("Planted rows among the traced", Cell(None if recall is None else words.percent(recall))),
    )


def yes_no(value: bool | None, good: bool = True, absent: str = "not run") -> Cell:
    """Write a truth value; ``good`` says which value is the welcome one."""
    if value is None:
        return Cell(None, absent)
    return Cell("yes" if value else "no", tone="good" if value is good else "found")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " · ".join(f"{str(key).replace('_', ' ')}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_plain(inner) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return words.significant(value) if isinstance(value, float) else str(value)
