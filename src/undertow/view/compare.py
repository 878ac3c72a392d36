"""Two runs side by side: what both measured, with intervals and the difference.

Searches are compared trigger by trigger and by their base rate, demos and matrices by the searches in them,
verifications finding by finding, studies cell by cell. What only one of them measured stays without a
difference; nothing is taken for 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from undertow.errors import UsageError
from undertow.records import Interval, Rate
from undertow.report import words
from undertow.report.cards import rate_of
from undertow.report.contexts import Measure
from undertow.report.reading import Fields, interval, records, share, strings, text, whole
from undertow.stats.intervals import difference_by_intervals
from undertow.view.folder import Entry, Folder

_CELLS = ("grid", "cells")
_NOT_A_NAME = {"model", "n", "questions", "prompts", "value", "input_tokens", "seed", "rows"}


@dataclass(frozen=True, slots=True)
class Compared:
    """One rate in both runs."""

    name: str
    """What was measured."""
    before: Measure
    """In the first run."""
    after: Measure
    """In the second."""
    difference: float | None
    """Second − first; ``None`` where one is missing."""
    interval: Interval | None
    """Of the difference, by the intervals of both (Newcombe's method 10)."""

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high


def compare(folder: Folder, first: Entry, second: Entry) -> list[Compared]:
    """Set two runs side by side, what differs most first.

    Raises:
        UsageError: one of them measured no rate that has a name.
    """
    before, after = _rates(folder, first), _rates(folder, second)
    for run, rates in ((first, before), (second, after)):
        if not rates:
            raise UsageError(f"{run.at}: a {run.verb} run without rates; choose searches, demos or studies")
    made = [_compared(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]
    return sorted(made, key=lambda row: -abs(row.difference or 0.0))


def _compared(name: str, before: Measure | None, after: Measure | None) -> Compared:
    absent = "not measured"
    one = before or Measure("First", "start", None, absent=absent)
    other = after or Measure("Second", "fixed", None, absent=absent)
    found = difference_by_intervals(_rate(one), _rate(other))
    return Compared(name, one, other, found.value, found.interval)


def _rate(of: Measure) -> Rate:
    n = of.n or 0
    hits = of.hits if of.hits is not None else round((of.value or 0.0) * n)
    return Rate(hits, n, of.interval if of.value is not None else None)


def _rates(folder: Folder, run: Entry) -> dict[str, Measure]:
    """Name every rate of a run."""
    if run.verb in ("surf", "demo"):
        return dict(_of_searches(folder, run))
    if run.verb == "verify":
        return dict(_of_verification(run))
    cells = dict(_of_cells(run))
    inside = (r for r in folder.runs.values() if r.verb == "surf" and r.path.is_relative_to(run.path))
    return cells or {name: rate for part in inside for name, rate in _of_searches(folder, part)}


def _of_searches(folder: Folder, run: Entry) -> Iterator[tuple[str, Measure]]:
    """Name the rates of a search, or of the searches of a demo: rubric and trigger."""
    base = rate_of(run.summary.get("base_rate"), "", "base")
    if base.value is not None:
        yield f"{next(iter(run.rubrics), '')}: prompts at random", base
    for rubric, findings in folder.run(run).findings.items():
        for finding in findings:
            trigger = words.listed([each.rstrip(".") for each in strings(finding, "attributes")])
            rate = rate_of(finding.get("rate"), "", "shortcut", text(finding, "status") or "not measured")
            yield f"{rubric}: {trigger or text(finding, 'id')}", rate


def _of_verification(run: Entry) -> Iterator[tuple[str, Measure]]:
    for entry in records(run.summary.get("findings")):
        trigger = words.listed([each.rstrip(".") for each in strings(entry, "attributes")])
        for side in ("before", "after"):
            name = f"{trigger or text(entry, 'finding')}, {side} the fix"
            yield name, rate_of(entry.get(side), "", "shortcut")


def _of_cells(run: Entry) -> Iterator[tuple[str, Measure]]:
    cells = next((found for key in _CELLS if (found := records(run.summary.get(key)))), ())
    for cell in cells:
        value, n = share(cell, "value"), whole(cell, "n")
        name = _name(cell)
        if value is not None and n and name:
            yield name, Measure("", "shortcut", value, n, None, interval(cell, "interval"))


def _name(cell: Fields) -> str:
    parts = (f"{key} {text(cell, key)}" for key in cell if key not in _NOT_A_NAME and text(cell, key))
    return ", ".join(parts)
