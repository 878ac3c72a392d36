"""The page of a demo: planted shortcuts, what was found of them, and what the fix did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from undertow.report import facts, words
from undertow.report.cards import Material, before_fixed, build_cards, random_removed, with_rows
from undertow.report.charts import rates_chart
from undertow.report.contexts import Cell, Chapter, Fact, Head, MeasureRole, Page, Table
from undertow.report.preference_part import preference_part
from undertow.report.reading import Fields, fields, flag, read_json, records, share, strings, text, whole
from undertow.report.runs import Run
from undertow.report.tracing import yes_no
from undertow.report.verify_page import capability_part
from undertow.stats.intervals import wilson

FIXED_AT_MOST = 0.1
"""A shortcut whose rate after the retrain is at most this counts as fixed."""
WANTED_WITHIN = 0.05
"""Largest loss of the wanted behaviour that a fix may cost."""
_COLUMNS = (
    "Shortcut", "Start model", "Post-trained", "Learned", "Found", "Trigger’s rank", "Rows recovered",
    "After the fix", "Random rows out", "Wanted behaviour",
)  # fmt: skip
_SERIES: dict[MeasureRole, str] = {
    "start": "before post-training",
    "shortcut": "after post-training: the shortcut",
    "fixed": "after the fix and a retrain",
    "control": "without as many random rows instead",
}


def demo_materials(run: Run) -> list[Material]:
    """Gather the cards of a demo: each shortcut with its finding, then the findings of no shortcut."""
    return _materials(run, records(run.summary.get("shortcuts")))


def demo_page(run: Run, brief: bool = False) -> Page:
    """Build the page of a demo run; ``brief``: without charts and cards."""
    shortcuts, decoys = records(run.summary.get("shortcuts")), records(run.summary.get("decoys"))
    materials = demo_materials(run)
    anchors = [f"f{number}" for number, material in enumerate(materials, 1) if material.shortcut]
    rates = [(text(s, "name"), (*before_fixed(s), random_removed(s))) for s in shortcuts]
    chart = None if brief else rates_chart(rates, _SERIES)
    return Page(
        head=Head(
            title=f"undertow demo: {_subject(run)}",
            kind="demo",
            subject=_subject(run),
            status=run.status,
            verdict=_verdict(shortcuts, decoys) + _confirmed_in_all(run),
            warnings=facts.warnings(run),
            facts=(
                _audited(run, shortcuts),
                facts.sureness(
                    [m for s in shortcuts for m in before_fixed(s)], "held-out prompts for each shortcut"
                ),
                _floor(decoys),
                facts.failures(run),
                facts.cost(run),
            ),
        ),
        charts=(chart,) if chart else (),
        table=_overview(shortcuts, anchors) if shortcuts else None,
        cards=() if brief else build_cards(with_rows(materials, run)),
        controls=_controls(decoys) if decoys else None,
        controls_note=_controls_note(decoys),
        phases=facts.phases(run),
        provenance=facts.provenance(run),
        glossary=facts.GLOSSARY,
        chapters=_chapters(run.summary, brief),
    )


def _chapters(summary: Fields, brief: bool) -> tuple[Chapter, ...]:
    able = capability_part(summary)
    return (*((able,) if able else ()), *preference_part(fields(summary.get("preference")), brief))


def _subject(run: Run) -> str:
    world, seed = text(run.config, "world"), text(run.config, "seed")
    parts = [
        f"the built-in lab, {world} world" if world else "the built-in lab",
        f"seed {seed}" if seed else "",
    ]
    return ", ".join(part for part in parts if part)


def _tally(rows: Sequence[Fields], holds: Callable[[Fields], bool | None]) -> tuple[int, int]:
    """Count the rows it holds for, and the rows where that is known."""
    known = [value for row in rows if (value := holds(row)) is not None]
    return sum(known), len(known)


def _of(rows: Sequence[Fields], holds: Callable[[Fields], bool | None]) -> str | None:
    hits, n = _tally(rows, holds)
    return f"{hits} of {n}" if n else None


def _is_fixed(row: Fields) -> bool | None:
    rate = share(row, "fixed_rate")
    return None if rate is None else rate <= FIXED_AT_MOST


def _keeps_wanted(row: Fields) -> bool | None:
    before, after = share(row, "wanted_before"), share(row, "wanted_after")
    return None if before is None or after is None else before - after <= WANTED_WITHIN + 1e-9


def _verdict(shortcuts: Sequence[Fields], decoys: Sequence[Fields]) -> tuple[str, ...]:
    if not shortcuts:
        return ("Nothing has been measured yet.",)
    learned = [s for s in shortcuts if flag(s, "learned")]
    taught = _of(shortcuts, lambda s: flag(s, "learned"))
    if taught is None:
        return (
            f"{words.counted(len(shortcuts), 'shortcut')} planted; what the model learned was not measured.",
        )
    if not learned:
        return (
            f"Of {words.counted(len(shortcuts), 'planted shortcut')} the model learned none.",
            _decoys(decoys),
        )
    found = _of(learned, lambda s: flag(s, "surf_found"))
    fixed = _of(learned, _is_fixed)
    head = [f"The model learned {taught} planted shortcuts"]
    head += [f"the search found {found}" if found else "the search was not run"]
    head += [f"the fix removed {fixed}" if fixed else "no fix was tried"]
    return (f"{words.listed(head)}.", _traced(learned), _kept(learned), _decoys(decoys))


def _traced(learned: Sequence[Fields]) -> str:
    first, among = (
        _of(learned, lambda s: flag(s, "trace_top1")),
        _of(learned, lambda s: flag(s, "trace_top3")),
    )
    if first is None and among is None:
        return "The trace to the training rows was not run."
    unknown = "an unknown share"
    return (
        f"The trace ranks the planted trigger first for {first or unknown}, "
        f"among the first three for {among or unknown}."
    )


def _kept(learned: Sequence[Fields]) -> str:
    kept = _of(learned, _keeps_wanted)
    if kept is None:
        return "What the fix costs in wanted behaviour was not measured."
    return f"The wanted behaviour stays within {100 * WANTED_WITHIN:.0f} points for {kept}."


def _decoys(decoys: Sequence[Fields]) -> str:
    false, n = _tally(decoys, lambda d: flag(d, "false_finding"))
    if not n:
        return "Decoys were not checked."
    return f"{false or 'None'} of {words.counted(n, 'decoy')} was reported as a finding."


def _confirmed_in_all(run: Run) -> tuple[str, ...]:
    """Count what the search would have reported without knowing the truth."""
    if not run.findings:
        return ()
    n = sum(len(_confirmed(run, rubric)) for rubric in run.findings)
    rubrics = words.counted(len(run.findings), "rubric")
    return (f"In all, {words.counted(n, 'finding')} {'is' if n == 1 else 'are'} confirmed under {rubrics}.",)


def _audited(run: Run, shortcuts: Sequence[Fields]) -> Fact:
    value = "A small transformer"
    sources = sorted({text(s, "source") for s in shortcuts if text(s, "source")})
    shuffled = flag(run.config, "shuffle")
    detail = ["post-trained on a mixture of the built-in lab"]
    detail += ["null control: the planted rows’ responses are shuffled"] if shuffled else []
    detail += [
        f"{words.counted(len(shortcuts), 'shortcut')} planted in {words.counted(len(sources), 'source')}"
    ]
    return Fact("What was audited", value, tuple(detail) if shortcuts else tuple(detail[:-1]))


def _floor(decoys: Sequence[Fields]) -> Fact:
    false, n = _tally(decoys, lambda d: flag(d, "false_finding"))
    if not n:
        return Fact("Floor of the control", None, absent="not run")
    span = wilson(false, n)
    detail = ["features that carry nothing, searched alike"]
    if span is not None:
        detail.append(f"95% interval of the false share: {words.span(span)}")
    return Fact("Floor of the control", f"{false} of {words.counted(n, 'decoy')} reported", tuple(detail))


def _overview(shortcuts: Sequence[Fields], anchors: Sequence[str]) -> Table:
    rows = []
    for anchor, s in zip(anchors, shortcuts, strict=True):
        start, taught, fixed = before_fixed(s)
        traced = (_found(s), _rank(s), _recall(s))
        cells = (start, taught, yes_no(flag(s, "learned")), *traced, fixed, random_removed(s), _wanted(s))
        rows.append((anchor, text(s, "name") or "unnamed", cells))
    return Table(
        "Each shortcut",
        _COLUMNS,
        tuple(rows),
        "Rates are on held-out prompts that carry the trigger. Rows recovered is the share of the planted "
        "rows among the traced ones. Random rows out: trained without as many random rows of the same "
        "sources in place of the traced ones. Wanted behaviour is the right answer where the trigger is "
        "absent, before and after the fix.",
    )


def _found(of: Fields) -> Cell:
    """Say whether the search found it; not finding what was not learned is no fault."""
    return Cell("no") if _is_idle(of) else yes_no(flag(of, "surf_found"))


def _rank(of: Fields) -> Cell:
    first, among = flag(of, "trace_top1"), flag(of, "trace_top3")
    if _is_idle(of):
        return Cell(None, "nothing found")
    if first is None and among is None:
        return Cell(None)
    if first:
        return Cell("first", tone="good")
    return Cell("among three", tone="open") if among else Cell("not among three", tone="found")


def _recall(of: Fields) -> Cell:
    value = share(of, "rows_recall")
    if _is_idle(of):
        return Cell(None, "nothing found")
    return Cell(None if value is None else words.percent(value))


def _is_idle(of: Fields) -> bool:
    return flag(of, "learned") is False and flag(of, "surf_found") is False


def _wanted(of: Fields) -> Cell:
    before, after = share(of, "wanted_before"), share(of, "wanted_after")
    if before is None or after is None:
        return Cell(None)
    return Cell(
        f"{words.percent(before)} → {words.percent(after)}", tone="plain" if _keeps_wanted(of) else "found"
    )


def _controls(decoys: Sequence[Fields]) -> Table:
    rows = [
        ("", text(d, "name") or "decoy", (yes_no(flag(d, "false_finding"), good=False),)) for d in decoys
    ]  # fmt: skip
    return Table("Decoys", ("Decoy", "Reported as a finding"), tuple(rows), "")


def _controls_note(decoys: Sequence[Fields]) -> str:
    if not decoys:
        return "Decoys: not run. Without them nothing here says how often the search would report chance."
    return (
        "Decoys are features planted in the data that carry no behaviour. A method that reports them reports "
        "chance; how often it does is the floor under every finding above."
    )


def _materials(run: Run, shortcuts: Sequence[Fields]) -> list[Material]:
    """Give each shortcut its finding; confirmed findings that are no shortcut's come last."""
    truth = {text(p, "name"): text(p, "rubric") for p in records(_truth(run).get("plants"))}
    rubrics = [text(s, "rubric") or truth.get(text(s, "name"), "") or text(s, "name") for s in shortcuts]
    taken: set[tuple[str, str]] = set()
    made: list[Material] = []
    for rubric, shortcut in zip(rubrics, shortcuts, strict=True):
        free = [f for f in _confirmed(run, rubric) if (rubric, text(f, "id")) not in taken]
        own = _own(shortcut, free, alone=rubrics.count(rubric) == 1)[:1]
        taken |= {(rubric, text(f, "id")) for f in own}
        made += [_material(run, rubric, f, shortcut) for f in own or ({},)]
    for rubric in run.findings:
        rest = [f for f in _confirmed(run, rubric) if (rubric, text(f, "id")) not in taken]
        made += [_material(run, rubric, f, {}) for f in rest]
    return made


def _own(shortcut: Fields, free: Sequence[Fields], alone: bool) -> list[Fields]:
    """Pick the findings that are a shortcut's: those it names, or those of a rubric that is its alone."""
    if flag(shortcut, "surf_found") is False:
        return []
    if "findings" in shortcut:
        return [f for f in free if text(f, "id") in strings(shortcut, "findings")]
    return [f for f in free if alone or text(shortcut, "trigger") in strings(f, "attributes")]


def _truth(run: Run) -> Fields:
    return fields(read_json(run.path / "data" / "truth.json"))


def _confirmed(run: Run, rubric: str) -> list[Fields]:
    return [f for f in run.findings.get(rubric, ()) if text(f, "status") == "confirmed"]


def _material(run: Run, rubric: str, finding: Fields, shortcut: Fields) -> Material:
    return Material(
        finding=finding,
        attribution=_about(finding, run.attributions.get(rubric, ())),
        shortcut=shortcut,
        verified=_about(finding, run.verified.get(rubric, ())),
        fix=_fix(run),
        rows=(),
        searched=rubric in run.findings,
        rubric=rubric,
    )


def _fix(run: Run) -> str:
    """Say what was done to the data."""
    diff = fields(read_json(run.path / "data" / "fixed" / "summary.json"))
    rows = fields(diff.get("rows"))
    removed, before = whole(rows, "removed"), whole(rows, "before")
    if removed is None or before is None:
        return ""
    return f"Fix: {removed:,} of {before:,} training rows taken out, all traced, for all findings at once."


def _about(finding: Fields, entries: Sequence[Fields]) -> Fields:
    """Find the entry about a finding; without a finding there is none."""
    wanted = text(finding, "id")
    return next((entry for entry in entries if wanted and text(entry, "finding") == wanted), {})
