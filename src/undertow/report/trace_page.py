"""The page of a trace: which feature of the training queries goes with the behaviour, and in which rows."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.report import facts, words
from undertow.report.cards import Material, build_cards
from undertow.report.contexts import Cell, Fact, Head, Page, Table
from undertow.report.reading import Fields, fields, number, records, share, text
from undertow.report.runs import Run

_CONTROLS = (
    "Base rates over the whole corpus stand beside every rate. A trace of shuffled responses: not run."
)


def trace_materials(run: Run) -> list[Material]:
    """Gather the behaviours that were traced, in the order of the page."""
    findings = {text(f, "id"): f for some in run.findings.values() for f in some}
    return [
        Material(findings.get(text(a, "finding"), {}), a, {}, {}, "", (), searched=None, rubric=rubric)
        for rubric, some in run.attributions.items()
        for a in some
    ]


def trace_page(run: Run, brief: bool = False) -> Page:
    """Build the page of a trace; ``brief``: without charts and cards."""
    materials = trace_materials(run)
    entries = [material.attribution for material in materials]
    return Page(
        head=Head(
            title=f"undertow trace: {_index(run)}",
            kind="trace",
            subject=_index(run),
            status=run.status,
            verdict=_traced(run, entries),
            warnings=facts.warnings(run),
            facts=(
                Fact(
                    "What was audited", _index(run), (f"{words.counted(len(entries), 'behaviour')} traced",)
                ),
                _support(entries),
                _association(),
                facts.failures(run),
                facts.cost(run),
            ),
        ),
        charts=(),
        table=_triggers(entries) if entries else None,
        cards=() if brief else build_cards(materials),
        controls=None,
        controls_note=_CONTROLS,
        phases=facts.phases(run),
        provenance=facts.provenance(run),
        glossary=facts.GLOSSARY,
    )


def _index(run: Run) -> str:
    return text(run.summary, "index") or text(run.config, "index") or "a data set that the run does not name"


def _traced(run: Run, entries: Sequence[Fields]) -> tuple[str, ...]:
    if not run.attributions:
        return ("The trace has not ended; nothing is attributed yet.",)
    stands = [e for e in entries if records(e.get("triggers"))]
    if not stands:
        return ("No feature of the queries stands out in the training data.",)
    first = text(stands[0], "explanation")
    head = "The behaviour goes with a feature of the training queries."
    if len(entries) > 1:
        head = f"{len(stands)} of {len(entries)} behaviours go with a feature of the training queries."
    return (head, first) if first else (head,)


def _support(entries: Sequence[Fields]) -> Fact:
    tops = [records(e.get("triggers"))[0] for e in entries if records(e.get("triggers"))]
    sizes = sorted(int(n) for t in tops if (n := number(t, "corpus")) is not None)
    if not sizes:
        return Fact("How sure", None)
    qs = [q for t in tops if (q := number(t, "q")) is not None]
    rows = f"n = {sizes[0]:,}" if sizes[0] == sizes[-1] else f"n = {sizes[0]:,} to {sizes[-1]:,}"
    detail = ["training rows with the first trigger"]
    if qs:
        detail.append(f"largest q of a first trigger {words.significant(max(qs))}")
    return Fact("How sure", rows, tuple(detail))


def _association() -> Fact:
    return Fact("What it shows", "An association", ("a retrain without the rows would show a cause",))


def _triggers(entries: Sequence[Fields]) -> Table:
    rows = []
    for i, entry in enumerate(entries, 1):
        crux = "; ".join(text(c, "text") for c in records(entry.get("crux")))
        top = fields(next(iter(records(entry.get("triggers"))), {}))
        rate, lift = share(top, "rate"), number(top, "lift")
        rows.append(
            (
                f"f{i}",
                crux or text(entry, "finding") or f"behaviour {i}",
                (
                    Cell(text(top, "text") or None, "none stands out"),
                    Cell(None if rate is None else words.percent(rate), "not given"),
                    Cell(None if lift is None else f"×{words.significant(lift)}", "not given"),
                ),
            )
        )  # fmt: skip
    return Table("Traces", ("Behaviour", "First trigger", "Rate", "Lift"), tuple(rows), "")
