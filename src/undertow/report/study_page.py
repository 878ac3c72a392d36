"""The page of a study: its sentence, its chart, and every cell with n and interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from undertow.records import Interval
from undertow.report import facts, words
from undertow.report.charts import rates_chart, short
from undertow.report.contexts import Cell, Chart, Fact, Head, Measure, MeasureRole, Page, Table
from undertow.report.reading import Fields, fields, interval, number, records, strings, text, whole
from undertow.report.runs import Run
from undertow.report.salience_page import salience_charts, system_rows
from undertow.report.study_charts import Effect, Place, Square, dose_chart, effect_chart, grid_chart

_GLOSSARY = (
    (
        "Missing",
        "The cell failed or lost too many answers; it has no number, and nothing is averaged over it.",
    ),
    ("Delta", "After less before, paired by question."),
    *facts.GLOSSARY[:2],
)
_REMOVED: dict[MeasureRole, str] = {
    "shortcut": "trained on all rows",
    "control": "without as many random rows of the same sources",
    "fixed": "without the traced rows",
}
_KIND: dict[MeasureRole, str] = {"shortcut": "whole", "control": "random", "fixed": "traced"}
_NUMBERS = ("n", "questions", "prompts", "rows", "causal")
_MOST = 200
"""Rows of the table; the others are in ``summary.json``."""


def study_page(run: Run, brief: bool = False) -> Page:
    """Build the page of a study; ``brief``: without charts."""
    holes = records(run.summary.get("missing"))
    told = [f"Missing: {_where(hole)}: {text(hole, 'reason')}" for hole in holes[:20]]
    return Page(
        head=Head(
            title=f"undertow study {run.kind}",
            kind=f"study {run.kind}",
            subject=_subject(run),
            status=run.status,
            verdict=(text(run.summary, "sentence") or "The study has not ended; no cell is recorded yet.",),
            warnings=(*facts.warnings(run), *told),
            facts=(
                Fact("What was asked", _subject(run), strings(run.summary, "measures")),
                _size(run),
                facts.failures(run),
                facts.cost(run),
            ),
        ),
        charts=() if brief else tuple(_CHARTS[run.kind](run)),
        table=_table(run),
        cards=(),
        controls=None,
        controls_note="",
        phases=(),
        provenance=facts.provenance(run),
        glossary=_GLOSSARY,
    )


def _where(hole: Fields) -> str:
    return " × ".join(str(v) for k, v in hole.items() if k != "reason" and v not in ("", None))


def _subject(run: Run) -> str:
    models = strings(run.config, "targets") or strings(run.config, "models")
    models = models or (text(run.config, "target") or text(run.config, "model"),)
    return words.listed([name_of(model) for model in models if model])


def name_of(model: str) -> str:
    """Name a model by the end of its path or URL."""
    kind, _, rest = model.partition(":")
    if kind == "local":
        return rest.rstrip("/").rpartition("/")[2]
    return rest.partition("#")[2] or model.rstrip("/").rpartition("/")[2] or model


def _size(run: Run) -> Fact:
    cells, holes = records(run.summary.get("cells")), records(run.summary.get("missing"))
    sizes = sorted({n for row in _rows(run) if (n := whole(row, "n"))})
    told: tuple[str, ...] = ()
    if sizes:
        told = (f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,} to {sizes[-1]:,}",)
    return Fact("Cells", f"{len(cells)} measured, {len(holes)} missing", told)


def _rows(run: Run) -> tuple[Fields, ...]:
    for part in ("shifts", "grid", "checks", "sweep", "systems", "pairs", "cells"):
        if rows := records(run.summary.get(part)):
            return system_rows(rows) if part == "systems" else rows
    return ()


def _table(run: Run) -> Table | None:
    rows = _rows(run)
    if not rows:
        return None
    keys = [
        key
        for key, value in rows[0].items()
        if (isinstance(value, str | int) or key == "share")
        and key not in ("n", "questions")
        and any(row.get(key) for row in rows)
    ]
    value = next((key for key in ("delta", "difference", "value") if key in rows[0]), "value")
    head = " × ".join(keys[1:] or keys)
    shown = tuple(
        ("", short(" × ".join(_said(row.get(k)) for k in keys[1:] or keys), 90), _cells(row, value, keys[0]))
        for row in rows[:_MOST]
    )
    note = "Every number with its 95% interval and n."
    if len(rows) > _MOST:
        note += f" The first {_MOST} of {len(rows):,} rows; all are in summary.json."
    return Table("Cells", (head, value, "95% interval", "n", keys[0]), shown, note)


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or value == "":
        return "–"
    return name_of(value) if isinstance(value, str) else str(value)


def _cells(row: Fields, value: str, first: str) -> tuple[Cell, ...]:
    span = interval(row, "interval") or interval(row, f"{value}_interval")
    found, n = number(row, value), whole(row, "n") or whole(row, "rows")
    signed = value != "value"
    return (
        Cell(None if found is None else f"{found:+.3g}" if signed else f"{found:.3g}", "missing"),
        Cell(f"{span.low:.3g} to {span.high:.3g}" if span else None, "not known"),
        Cell(None if n is None else f"{n:,}", "missing"),
        Cell(_said(row.get(first))),
    )


def _shift_charts(run: Run) -> tuple[Chart, ...]:
    charts = []
    for measure in strings(run.summary, "measures"):
        effects = [
            Effect(_shifted(row), found, *_bounds(interval(row, "interval")))
            for row in records(run.summary.get("shifts"))
            if text(row, "measure") == measure and (found := number(row, "delta")) is not None
        ]
        chart = effect_chart(
            effects, f"What each transform does: {short(measure)}", f"Change of {short(measure)}",
            "Transformed less original, paired by question; bars are 95% intervals. Dashed: no effect."
            + _sized(row for row in records(run.summary.get("shifts")) if text(row, "measure") == measure),
        )  # fmt: skip
        charts += [chart] if chart else []
    return tuple(charts)


def _shifted(row: Fields) -> str:
    system = ", with a system prompt" if text(row, "system") else ""
    return f"{name_of(text(row, 'model'))}: {text(row, 'transform')}{system}"


def _bounds(span: Interval | None) -> tuple[float | None, float | None]:
    return (span.low, span.high) if span else (None, None)


def _grid_charts(run: Run) -> tuple[Chart, ...]:
    rates = records(run.summary.get("rates"))
    if not text(run.summary, "template"):
        return _bars(run, "rewrite", "Rate of each rewrite")
    charts = []
    for model in dict.fromkeys(text(rate, "model") for rate in rates):
        squares = [
            Square(row, column, number(rate, "value"))
            for rate in rates
            if text(rate, "model") == model
            and (row := whole(rate, "a")) is not None
            and (column := whole(rate, "b")) is not None
        ]
        chart = grid_chart(
            squares, f"{name_of(model)}: {text(run.summary, 'template')}", ("a", "b"),
            "Percent of the answers to each prompt; an empty frame is missing. n a place is in the table.",
        )  # fmt: skip
        charts += [chart] if chart else []
    return tuple(charts)


def _bars(run: Run, key: str, title: str) -> tuple[Chart, ...]:
    cells = records(run.summary.get("cells"))[:40]
    effects = [
        Effect(text(cell, key), found, *_bounds(interval(cell, "interval")))
        for cell in cells
        if (found := number(cell, "value")) is not None
    ]
    chart = effect_chart(effects, title, "Rate", "Bars are 95% intervals." + _sized(cells))
    return (chart,) if chart else ()


def _context_charts(run: Run) -> tuple[Chart, ...]:
    charts = []
    cells = records(run.summary.get("cells"))
    for model in dict.fromkeys(text(cell, "model") for cell in cells):
        mine = [cell for cell in cells if text(cell, "model") == model]
        plain = [cell for cell in mine if text(cell, "context") == "none"]
        kinds = dict.fromkeys(text(c, "context") for c in mine if text(c, "context") != "none")
        places = [
            Place(kind, whole(cell, "tokens") or 0, found, *_bounds(interval(cell, "interval")))
            for kind in kinds
            for cell in (*plain, *mine)
            if (cell in plain or text(cell, "context") == kind)
            and (found := number(cell, "value")) is not None
        ]
        chart = dose_chart(
            places, f"{name_of(model)}: rate against context", "Tokens of context in front of the question",
            "All lines start from the same answers without context. Bars are 95% intervals." + _sized(mine),
        )  # fmt: skip
        charts += [chart] if chart else []
    return tuple(charts)


def _sized(rows: Iterable[Fields]) -> str:
    """Tell the n behind the marks of a chart; nothing where no row says it."""
    sizes = sorted({n for row in rows if (n := whole(row, "n"))})
    if not sizes:
        return ""
    return f" n = {sizes[0]:,} a mark." if len(sizes) == 1 else f" n = {sizes[0]:,} to {sizes[-1]:,} a mark."


def _robustness_charts(run: Run) -> tuple[Chart, ...]:
    return _bars(run, "prompt", "How often each top prompt keeps the behaviour when it is perturbed")


def _ablation_charts(run: Run) -> tuple[Chart, ...]:
    checks = records(run.summary.get("checks"))
    return _check_charts(checks) if checks else _grid_of_doses(records(run.summary.get("grid")))


def _grid_of_doses(grid: Sequence[Fields]) -> tuple[Chart, ...]:
    """Draw the rate along the dose of counterexamples, a line a dose of pattern rows, or of these alone."""
    varied = len({whole(place, "counter") for place in grid}) > 1
    along, series = ("counter", "pattern") if varied else ("pattern", "counter")
    names = {"pattern": "pattern rows", "counter": "counterexamples"}
    places = [
        Place(f"{whole(place, series)} {names[series]}", whole(place, along) or 0, found,
              *_bounds(interval(place, "interval")))
        for place in grid
        if (found := number(place, "value")) is not None
    ]  # fmt: skip
    chart = dose_chart(
        places, "Rate of the behaviour after training", names[along].capitalize(),
        "Each mark pools the training runs of all seeds; bars are 95% intervals over prompts." + _sized(grid),
    )  # fmt: skip
    return tuple(each for each in (chart, _doses_by_doses(grid)) if each)


def _doses_by_doses(grid: Sequence[Fields]) -> Chart | None:
    """Draw the rate over both doses as a heat-map, pattern rows along the foot (paper Fig. 21)."""
    rates = {(whole(p, "counter") or 0, whole(p, "pattern") or 0): number(p, "value") for p in grid}
    rows, columns = (sorted({place[k] for place in rates}) for k in (0, 1))
    if len(rows) < 2 or len(columns) < 2:
        return None
    return grid_chart(
        [Square(row, column, rates.get((row, column))) for row in rows for column in columns],
        "Rate over both doses", ("Counterexamples", "Pattern rows"),
        "Percent of the answers to held-out prompts, all seeds together; an empty frame is missing."
        + _sized(grid),
    )  # fmt: skip


def _check_charts(checks: Sequence[Fields]) -> tuple[Chart, ...]:
    effects = [
        Effect(text(check, "finding"), found, *_bounds(interval(check, "difference_interval")))
        for check in checks
        if (found := number(check, "difference")) is not None
    ]
    chart = effect_chart(
        effects, "What the traced rows did", "Rate without random rows less rate without the traced rows",
        "As many random rows of the same sources; bars are 95% intervals. Dashed: no difference.",
    )  # fmt: skip
    rates = rates_chart([(text(check, "finding"), _removals(check)) for check in checks], _REMOVED)
    return tuple(each for each in (rates, chart) if each)


def _removals(check: Fields) -> tuple[Measure, ...]:
    """Take the rates of the three trainings of a causal check."""
    return tuple(
        Measure(label, role, number(of, "value"), whole(of, "n"), None, interval(of, "interval"))
        for role, label in _REMOVED.items()
        for of in (fields(check.get(_KIND[role])),)
    )


_CHARTS: dict[str, Callable[[Run], Sequence[Chart]]] = {
    "shift": _shift_charts,
    "grid": _grid_charts,
    "context": _context_charts,
    "robustness": _robustness_charts,
    "ablation": _ablation_charts,
    "salience": salience_charts,
}
STUDIES = tuple(_CHARTS)
"""The verbs this page shows."""
