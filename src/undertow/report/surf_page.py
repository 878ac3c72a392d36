"""The page of a search: what is confirmed, how often, against which floor."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.report import facts, words
from undertow.report.cards import Material, build_cards, rate_of, with_rows
from undertow.report.charts import rates_chart, score_chart
from undertow.report.contexts import Cell, Chart, Fact, Head, Measure, MeasureRole, Page, Table
from undertow.report.reading import Fields, fields, number, records, text, whole
from undertow.report.runs import Run
from undertow.report.scores import iteration_scores

_SERIES: dict[MeasureRole, str] = {
    "shortcut": "fresh prompts with the trigger",
    "base": "base rate",
    "control": "control",
}
_RATES: tuple[tuple[str, MeasureRole], ...] = (
    ("rate", "shortcut"),
    ("base_rate", "base"),
    ("control_rate", "control"),
)
_ORDER = {"confirmed": 0, "inconclusive": 1, "rejected": 2}
_CHARTED = 24


def surf_materials(run: Run) -> list[Material]:
    """Gather the findings of a search in the order of its page: confirmed first, then by rate."""
    known = [(rubric, finding) for rubric, some in run.findings.items() for finding in some]
    known.sort(key=lambda pair: (_ORDER.get(text(pair[1], "status"), 3), -(_rate(pair[1]).value or 0.0)))
    attributions = {text(a, "finding"): a for some in run.attributions.values() for a in some}
    return [
        Material(f, attributions.get(text(f, "id"), {}), {}, {}, "", (), searched=True, rubric=rubric)
        for rubric, f in known
    ]


def surf_page(run: Run, brief: bool = False) -> Page:
    """Build the page of a search; ``brief``: without charts and cards."""
    materials = surf_materials(run)
    found = [material.finding for material in materials]
    return Page(
        head=Head(
            title=f"undertow search: {_target(run)}",
            kind="search",
            subject=_target(run),
            status=run.status,
            verdict=_found(run, found),
            warnings=facts.warnings(run),
            facts=(
                _audited(run, found),
                facts.sureness(
                    [_rate(f) for f in found], "fresh answers for each finding, none of them from the search"
                ),
                _floor(run, found),
                *_judges(found),
                facts.failures(run),
                facts.cost(run),
            ),
        ),
        charts=() if brief else _charts(run, found),
        table=_overview(found) if found else None,
        cards=() if brief else build_cards(with_rows(materials, run)),
        controls=None,
        controls_note=_controls_note(found),
        phases=facts.phases(run),
        provenance=facts.provenance(run),
        glossary=facts.GLOSSARY,
    )


def _rate(finding: Fields) -> Measure:
    return rate_of(finding.get("rate"), "rate", "shortcut")


def _target(run: Run) -> str:
    return text(run.summary, "target") or text(run.config, "target") or "a model that the run does not name"


def _found(run: Run, found: Sequence[Fields]) -> tuple[str, ...]:
    if not run.findings:
        return ("The search has not ended; no finding is recorded yet.",)
    by = {status: [f for f in found if text(f, "status") == status] for status in _ORDER}
    rest = [f"{len(by[s])} {s}" for s in ("inconclusive", "rejected") if by[s]]
    others = f"Not confirmed: {words.listed(rest)}." if rest else ""
    if not by["confirmed"]:
        return tuple(line for line in ("No finding is confirmed.", others) if line)
    rates = [_rate(f) for f in by["confirmed"]]
    best = max((rate.value for rate in rates if rate.value is not None), default=None)
    head = f"{words.counted(len(by['confirmed']), 'finding')} confirmed on fresh prompts"
    behaviour = text(by["confirmed"][0], "behaviour").strip().rstrip(".")
    tail = f", the strongest in {words.percent(best)} of answers." if best is not None else "."
    return tuple(line for line in (head + tail, f"{behaviour}." if behaviour else "", others) if line)


def _audited(run: Run, found: Sequence[Fields]) -> Fact:
    rubric = text(run.summary, "rubric") or text(run.config, "rubric") or next(
        (text(f, "rubric") for f in found), ""
    )  # fmt: skip
    second = text(run.config, "confirm_judge")
    judged = f"confirmed only where {second} agrees" if second else ""
    told = (f"rubric {rubric}" if rubric else "", judged, *_around(run.config))
    return Fact("What was audited", _target(run), tuple(line for line in told if line))


def _around(config: Fields) -> tuple[str, ...]:
    """Say what every candidate was put under or after; the texts themselves are in the provenance."""
    turns = len(records(config.get("context")))
    return (
        f"system prompt of {words.counted(len(text(config, 'system')), 'character')}"
        if text(config, "system")
        else "",
        f"after {words.counted(turns, 'turn')} of context" if turns else "",
        f"after a text of {words.counted(len(text(config, 'preface')), 'character')}"
        if text(config, "preface")
        else "",
    )


def _floor(run: Run, found: Sequence[Fields]) -> Fact:
    """Give the highest control rate; base rates stand in where there is no reference model."""
    for key, name in (("control_rate", "reference model"), ("base_rate", "this model, prompts at random")):
        rates = [
            m for f in (*found, run.summary) if (m := rate_of(f.get(key), "", "control")).value is not None
        ]
        if rates:
            top = max(rates, key=lambda m: m.value or 0.0)
            value = "" if top.value is None else words.percent(top.value)
            span = f" [{words.span(top.interval)}]" if top.interval else ""
            return Fact(
                "Floor of the control",
                f"{value}{span}",
                (name + (f", highest of {len(rates)}" if len(rates) > 1 else ""),),
            )
    return Fact("Floor of the control", None, absent="not run")


def _judges(found: Sequence[Fields]) -> tuple[Fact, ...]:
    """Say how far two judges agree beyond chance, at the finding where they agree least."""
    told = [fields(f.get("agreement")) for f in found]
    known = [(value, of) for of in told if (value := number(of, "value")) is not None]
    if not known:
        return ()
    least, of = min(known, key=lambda pair: pair[0])
    agreed, n = whole(of, "agreed"), whole(of, "n")
    detail = f"agree on {agreed} of {n}" + (f", least of {len(known)} findings" if len(known) > 1 else "")
    return (Fact("Agreement of the two judges", f"κ = {least:.2f}", (detail,)),)


def _charts(run: Run, found: Sequence[Fields]) -> tuple[Chart, ...]:
    rows = [
        (
            f"{position}. {words.listed(_predicates(f)) or text(f, 'id')}",
            [rate_of(f.get(key), "", role) for key, role in _RATES],
        )
        for position, f in enumerate(found[:_CHARTED], 1)
    ]
    threshold = number(fields(run.config.get("rubric")), "threshold")
    scores = iteration_scores(run.path / "samples.parquet")
    charts = (rates_chart(rows, _SERIES), score_chart(scores, threshold))
    return tuple(chart for chart in charts if chart)


def _attributes(finding: Fields) -> list[str]:
    given = finding.get("attributes")
    return [str(a).rstrip(".") for a in given] if isinstance(given, list) else []


def _predicates(finding: Fields) -> list[str]:
    """Shorten ``The query …`` for a label, where every character counts."""
    return [attribute.removeprefix("The query ") for attribute in _attributes(finding)]


def _overview(found: Sequence[Fields]) -> Table:
    rows = tuple(
        (
            f"f{i}",
            f"{i}. {words.listed(_attributes(f)) or text(f, 'id') or 'finding'}",
            (
                Cell(text(f, "status") or None, "not recorded"),
                rate_of(f.get("rate"), "", "shortcut"),
                rate_of(f.get("base_rate"), "", "base"),
                rate_of(f.get("control_rate"), "", "control"),
            ),
        )
        for i, f in enumerate(found, 1)
    )
    return Table(
        "Findings",
        ("Minimal trigger", "Status", "Rate", "Base rate", "Control"),
        rows,
        "Confirmed: the interval of the rate stands clear of the minimum and of the control.",
    )


def _controls_note(found: Sequence[Fields]) -> str:
    controlled = [f for f in found if rate_of(f.get("control_rate"), "", "control").value is not None]
    if not controlled:
        return (
            "Reference model: not run. Without it only the base rate says what this model does anyway; a "
            "second model (--reference) would say what any model does."
        )
    return f"The reference model was asked about {len(controlled)} of {words.counted(len(found), 'finding')}."
