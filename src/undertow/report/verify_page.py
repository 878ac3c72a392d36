"""The page of a verification: each finding before and after, and what else the fix did."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.report import facts, words
from undertow.report.cards import rate_of
from undertow.report.charts import rates_chart, short
from undertow.report.contexts import Cell, Chapter, Fact, Head, Measure, MeasureRole, Page, Table, Tone
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
from undertow.report.runs import Run

_SERIES: dict[MeasureRole, str] = {"shortcut": "before the fix", "fixed": "after the fix"}
_TONES: dict[str, Tone] = {"fixed": "good", "reduced": "open", "worse": "found", "moved elsewhere": "found"}
_MOST, _LONGEST = 40, 160
_GLOSSARY = (
    ("Fixed", "The rate after is at most 10%, its upper bound at most 20%, and it fell for sure."),
    ("Reduced", "It fell for sure, and is not gone."),
    ("Worse", "It rose for sure."),
    ("Moved elsewhere", "Gone or less here, and a search of the model after confirms another trigger."),
    ("Unchanged", "The interval of the difference holds 0 and lies within 10 points."),
    ("Inconclusive", "None of these: too few answers, or too many are missing."),
    *facts.GLOSSARY[:2],
)


def verify_page(run: Run, brief: bool = False) -> Page:
    """Build the page of a verification; ``brief``: without charts."""
    found = records(run.summary.get("findings"))
    measured = [(_name(each), _rates(each)) for each in found]
    chart = None if brief else rates_chart(measured, _SERIES)
    parts = (_off_target(run.summary), capability_part(run.summary), _search(run.summary))
    return Page(
        head=Head(
            title="undertow verify",
            kind="verification",
            subject=" → ".join(
                short(text(run.summary, side) or "?", _LONGEST) for side in ("before", "after")
            ),
            status=run.status,
            verdict=(_verdict(found),),
            warnings=facts.warnings(run),
            facts=(
                Fact("What was verified", text(run.summary, "rubric") or None, (_counted(len(found)),)),
                facts.sureness([m for _, pair in measured for m in pair], "pairs for each finding"),
                facts.failures(run),
                facts.cost(run),
            ),
        ),
        charts=(chart,) if chart else (),
        table=_table(found) if found else None,
        cards=(),
        controls=None,
        controls_note="Both models get the same prompts and samples, which are not those that confirmed the "
        "findings.",
        phases=(),
        provenance=facts.provenance(run),
        glossary=_GLOSSARY,
        chapters=tuple(part for part in parts if part is not None),
    )


def _counted(n: int) -> str:
    return words.counted(n, "confirmed finding")


def _name(finding: Fields) -> str:
    return short(" and ".join(strings(finding, "attributes")) or text(finding, "finding"), _LONGEST)


def _rates(finding: Fields) -> tuple[Measure, Measure]:
    before = rate_of(finding.get("before"), "Before the fix", "shortcut", absent="not measured")
    return before, rate_of(finding.get("after"), "After the fix", "fixed", absent="not measured")


def _verdict(found: Sequence[Fields]) -> str:
    if not found:
        return "The search confirmed nothing, so there is nothing to verify."
    said = [short(text(each, "verdict")) for each in found]
    told = [f"{said.count(word)} {word}" for word in dict.fromkeys(said)]
    return f"Of {_counted(len(found))}: {words.listed(told)}."


def _table(found: Sequence[Fields]) -> Table:
    rows = []
    for each in found:
        word = short(text(each, "verdict"))
        cells = (Cell(word or None, tone=_TONES.get(word, "plain")), *_rates(each), _difference(each))
        rows.append(("", _name(each), cells))
    return Table(
        "Each finding",
        ("Trigger", "Verdict", "Before", "After", "Difference"),
        tuple(rows),
        "The same prompts and samples, paired; difference in points.",
    )


def _difference(of: Fields, span: str = "difference_interval") -> Cell:
    value, bounds = number(of, "difference"), interval(of, span)
    if value is None:
        return Cell(None, "not measured")
    spread = f" [{100 * bounds.low:+.0f}, {100 * bounds.high:+.0f}]" if bounds else ""
    return Cell(f"{100 * value:+.0f}{spread}")


def _off_target(summary: Fields) -> Chapter | None:
    found = fields(summary.get("off_target"))
    if not found:
        return None
    rows = records(found.get("behaviours"))
    changed = [row for row in rows if flag(row, "changed")]
    tested = whole(found, "tested") or 0
    sentence = (
        f"{len(changed)} of {words.counted(tested, 'other behaviour')} changed (q < 0.05), in "
        f"{words.counted(whole(found, 'pairs') or 0, 'pair')} of responses to "
        f"{words.counted(whole(found, 'prompts') or 0, 'prompt')}."
        if tested
        else f"Nothing was tested: {short(text(found, 'reason')) or 'no response shows any of them'}."
    )
    shown = changed[:_MOST]
    table = Table(
        "What changed beside it",
        ("Behaviour", "Before", "After", "Difference", "q", "With it"),
        tuple(("", short(text(row, "name"), _LONGEST), _behaviour(row)) for row in shown),
        "Surface features of the responses and the checks of other rubrics. q: Benjamini–Hochberg over all "
        "that were tested. With it: share of the responses showing it that show what was verified too; near "
        "100% it is a part of that.",
    )
    return Chapter("off-target", "Off target", (sentence,), None, table if shown else None)


def _behaviour(row: Fields) -> tuple[Cell | Measure, ...]:
    q, beside = number(row, "q"), share(row, "with_behaviour")
    return (*_rates(row), _difference(row, "interval"), Cell(None if q is None else words.significant(q)),
            Cell(None if beside is None else words.percent(beside), "not counted"))  # fmt: skip


def capability_part(summary: Fields) -> Chapter | None:
    """Lay out the ``capability`` of a summary; nothing where it has none."""
    found = fields(summary.get("capability"))
    if not found:
        return None
    table = Table(
        "Right answers",
        ("Set", "Before", "After", "Difference"),
        (
            (
                "",
                words.counted(whole(found, "pairs") or 0, "question"),
                (*_rates(found), _difference(found, "interval")),
            ),
        ),
        f"{words.counted(whole(found, 'failed') or 0, 'question')} lacked an answer and are in no rate.",
    )
    lost = [short(each, _LONGEST) for each in strings(found, "lost")]
    sentence = (
        f"Lost, for example: {'; '.join(lost)}" if lost else "No question was answered right before alone."
    )
    return Chapter("capability", "Capability", (sentence,), None, table)


def _search(summary: Fields) -> Chapter | None:
    found = fields(summary.get("search"))
    if not found:
        return None
    rows = records(found.get("elsewhere"))
    tried = whole(fields(found.get("counts")), "tried") or 0
    where = f"confirmed {words.counted(len(rows), 'other trigger')}" if rows else "confirmed no other trigger"
    table = Table(
        "Triggers of the model after",
        ("Trigger", "After", "Before, same prompts"),
        tuple(
            (
                "",
                _name(row),
                (
                    rate_of(row.get("rate"), "After", "fixed"),
                    rate_of(row.get("control_rate"), "Before", "shortcut"),
                ),
            )
            for row in rows
        ),
        "Confirmed above the base rate and, where it was asked, above the model before on the same prompts.",
    )
    sentence = f"A search of the model after, {words.counted(tried, 'candidate')}, {where}."
    return Chapter("search", "A fresh search", (sentence,), None, table if rows else None)
