"""The part of a demo's page on preference pairs: the accident that the audit named, and what fixes did."""

from __future__ import annotations

from undertow.report import words
from undertow.report.cards import rate_field
from undertow.report.charts import rates_chart, short
from undertow.report.contexts import Cell, Chapter, Measure, MeasureRole, Table
from undertow.report.reading import Fields, flag, number, records, share, text

_SERIES: dict[MeasureRole, str] = {
    "start": "before training",
    "shortcut": "trained on all pairs",
    "fixed": "trained on fixed pairs",
}
_NOTE = (
    "Rates are on held-out questions, the same for all models. Wanted behaviour is what the judge was right "
    "to reward. Predicted is what the fix takes from what the pairs reward at the first step, per 100 pairs; "
    "observed is the change of the rate against training on all pairs, in points: the first says which way "
    "and which fix does more, not how far."
)
_LONGEST = 80
_TITLE = "Preference pairs: audit, fix, train, compare"


def preference_part(found: Fields, brief: bool = False) -> tuple[Chapter, ...]:
    """Lay out the ``preference`` of a demo's summary; nothing where it has none."""
    if not found:
        return ()
    trait = short(text(found, "trait"), _LONGEST)
    if not trait:
        says = "The audit of the preference pairs names nothing that goes without what was asked for."
        control = "Here sides were swapped at random, so nothing is what it should name."
        planted = short(text(found, "planted"), _LONGEST)
        missed = f"Planted was {planted!r}."
        return (Chapter("preference", _TITLE, (says, missed if planted else control), None, None),)
    rows = _rows(found)
    shown = [(name, (measure,)) for name, measure, *_ in rows]
    return (
        Chapter(
            "preference",
            _TITLE,
            _sentences(found, trait),
            None if brief else rates_chart(shown, _SERIES),
            Table(
                f"Answers that show {trait!r}",
                ("Trained on", "Answers that show it", "Wanted behaviour", "Predicted", "Observed"),
                tuple(("", name, (measure, *cells)) for name, measure, *cells in rows),
                _NOTE,
            ),
        ),
    )


def _sentences(found: Fields, trait: str) -> tuple[str, ...]:
    planted = short(text(found, "planted"), _LONGEST)
    right = "It is what was planted." if flag(found, "found") else f"Planted was {planted!r}."
    before, after = share(found, "start_rate"), share(found, "dpo_rate")
    taught = (
        "What training on the pairs does was not measured."
        if before is None or after is None
        else f"Training on the pairs as they are takes it from {words.percent(before)} to "
        f"{words.percent(after)} of the answers."
    )
    told = [
        f"{short(text(fix, 'how'))} brings it to {words.percent(left)}"
        for fix in records(found.get("fixes"))
        if (left := share(fix, "rate")) is not None
    ]
    fixed = f"{words.listed(told)[:1].upper()}{words.listed(told)[1:]}." if told else "No fix was measured."
    return (f"The audit names {trait!r}. {right} {taught} {fixed}",)


def _rows(found: Fields) -> list[tuple[str, Measure, Cell, Cell, Cell]]:
    nothing = Cell("–")
    start = rate_field(found, "start_rate", "Start model", "start", "start_interval", "start_n")
    plain = rate_field(found, "dpo_rate", "All pairs", "shortcut", "dpo_interval", "n")
    rows = [
        ("nothing (start model)", start, _wanted(found, "wanted_start"), nothing, nothing),
        ("all pairs", plain, _wanted(found, "wanted_dpo"), nothing, nothing),
    ]
    for fix in records(found.get("fixes")):
        strength = number(fix, "strength")
        how = short(text(fix, "how"))
        name = f"{how} {strength:g}" if strength is not None else how
        measure = rate_field(fix, "rate", name, "fixed", "interval", "n")
        shift = _points(fix, "observed_shift")
        rows.append((name, measure, _wanted(fix, "wanted_rate"), _points(fix, "predicted_shift"), shift))
    return rows


def _wanted(of: Fields, key: str) -> Cell:
    value = share(of, key)
    return Cell(None if value is None else words.percent(value))


def _points(of: Fields, key: str) -> Cell:
    value = number(of, key)
    return Cell(None, "not predicted") if value is None else Cell(f"{100 * value:+.0f}")
