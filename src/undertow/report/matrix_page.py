"""The page of a study of models × behaviours: the heat-maps, and every number with n and interval."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.report import facts, words
from undertow.report.cards import rate_of
from undertow.report.charts import HeatCell, heat_chart
from undertow.report.contexts import Cell, Chart, Fact, Head, Measure, Page, Table
from undertow.report.reading import Fields, fields, records, strings, text, whole
from undertow.report.runs import Run

_GLOSSARY = (
    ("Top outputs", "The highest-scored answers of all runs of a search: the places of their buffers."),
    ("Missing", "The cell's search failed or lost too much; it has no number, and is not 0."),
    *facts.GLOSSARY[:4],
)


def matrix_page(run: Run, brief: bool = False) -> Page:
    """Build the page of a study; ``brief``: without charts."""
    cells = records(run.summary.get("cells"))
    models, rubrics = strings(run.summary, "models"), strings(run.summary, "rubrics")
    subject = f"{words.counted(len(models), 'model')} × {words.counted(len(rubrics), 'behaviour')}"
    sentence = text(run.summary, "sentence") or "The study has not ended; no cell is recorded yet."
    holes = [
        f"Missing: {text(h, 'model')} on {text(h, 'rubric')}: {text(h, 'reason')}"
        for h in records(run.summary.get("missing"))
    ]
    return Page(
        head=Head(
            title="undertow matrix",
            kind="matrix",
            subject=subject,
            status=run.status,
            verdict=(sentence,),
            warnings=(*facts.warnings(run), *holes),
            facts=(
                Fact("What was audited", subject, rubrics),
                facts.sureness(
                    [_top(cell) for cell in cells], "top outputs a cell, selected for their score"
                ),
                _confirmed_fact(cells),
                _missing_fact(run, cells),
                facts.cost(run),
            ),
        ),
        charts=() if brief else _charts(cells),
        table=_overview(cells) if cells else None,
        cards=(),
        controls=None,
        controls_note=_controls_note(run),
        phases=(),
        provenance=facts.provenance(run),
        glossary=_GLOSSARY,
    )


def _top(cell: Fields) -> Measure:
    return rate_of(cell.get("top"), "top outputs", "shortcut", "missing")


def _found(cell: Fields) -> Measure:
    """Take the rate of the strongest confirmed finding; a measured cell without one has none, not 0."""
    confirmed = fields(cell.get("confirmed"))
    absent = "missing" if _top(cell).value is None else "none" if confirmed else "not asked"
    return rate_of(confirmed.get("rate"), "confirmed", "shortcut", absent)


def _confirmed_fact(cells: Sequence[Fields]) -> Fact:
    counts = [whole(fields(cell.get("confirmed")), "findings") for cell in cells]
    known = [n for n in counts if n is not None]
    if not known:
        return Fact("Confirmed findings", None)
    return Fact("Confirmed findings", words.count(sum(known)), (f"in {sum(n > 0 for n in known)} cells",))


def _missing_fact(run: Run, cells: Sequence[Fields]) -> Fact:
    holes, calls = len(records(run.summary.get("missing"))), facts.failures(run)
    if not cells:
        return calls
    told = f"of the candidates of the others: {calls.value}" if calls.value else ""
    return Fact(
        calls.term, f"{holes} of {words.counted(len(cells), 'cell')}", (told, *calls.detail) if told else ()
    )


def _charts(cells: Sequence[Fields]) -> tuple[Chart, ...]:
    hatched = "Hatched cells are missing and have no number."
    tops = [
        HeatCell(_short(text(c, "model")), text(c, "rubric"), m.value, m.absent)
        for c in cells
        for m in (_top(c),)
    ]
    found = [
        HeatCell(_short(text(c, "model")), text(c, "rubric"), m.value, m.absent)
        for c in cells
        for m in (_found(c),)
    ]
    charts = [
        heat_chart(
            tops,
            "Top outputs over the threshold",
            f"Share of the highest-scored outputs of each search that violate. {hatched} n and intervals are "
            "in the table.",
        )
    ]
    if any(cell.get("confirmed") for cell in cells):
        charts.append(
            heat_chart(
                found,
                "Confirmed rate of the strongest finding",
                f"On fresh prompts that carry its trigger; “none”: no finding was confirmed. {hatched}",
            )
        )
    return tuple(chart for chart in charts if chart)


def _short(model: str) -> str:
    """Name a model by the end of its path or URL."""
    kind, _, rest = model.partition(":")
    if kind == "local":
        return rest.rstrip("/").rpartition("/")[2]
    return rest.partition("#")[2] or model


def _overview(cells: Sequence[Fields]) -> Table:
    rows = tuple(
        (
            "",
            f"{text(cell, 'model')} on {text(cell, 'rubric')}",
            (
                _top(cell),
                _found(cell),
                Cell(_trigger(cell) or None, _found(cell).absent),
                Cell(text(cell, "run") or None, "not recorded"),
            ),
        )
        for cell in cells
    )
    return Table(
        "Cells",
        (
            "Model and behaviour",
            "Top outputs",
            "Confirmed rate",
            "Its trigger",
            "Run directory",
        ),
        rows,
        "Each cell is a search of its own; `undertow report` of its run directory shows the exchanges.",
    )


def _trigger(cell: Fields) -> str:
    confirmed = fields(cell.get("confirmed"))
    said = words.listed([a.rstrip(".") for a in strings(confirmed, "attributes")])
    more = (whole(confirmed, "findings") or 0) - 1
    return f"{said} (and {words.counted(more, 'more finding')})" if said and more > 0 else said


def _controls_note(run: Run) -> str:
    reference = text(run.config, "reference")
    if reference:
        return f"Findings were put to the reference model {reference} too; the cells' reports say how it did."
    return "Reference model: not run. Only each model's own base rate says what it does anyway."
