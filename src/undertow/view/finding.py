"""A finding from its rate to its training rows, put together from the runs of the folder about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

from undertow.report.build import materials_of
from undertow.report.cards import Material, build_cards
from undertow.report.contexts import Card
from undertow.report.reading import Fields, fields, number, text, whole
from undertow.view import links
from undertow.view.columns import Columns
from undertow.view.folder import Entry, Folder
from undertow.view.rows import TracedRow, traced_rows
from undertow.view.tables import Tables

ROWS = 12
"""Training rows on a finding's page; the others are a click away."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fix of the data, seen from one finding."""

    run: Entry
    """The fix."""
    how: str
    """``filter``, ``downweight``, …"""
    touched: int
    """Rows of the data set that it took out or changed."""
    of: int | None
    """Rows of the data set before."""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything the folder holds about one finding."""

    card: Card
    """As in the report, without charts."""
    position: int
    """Its number on the run's page, from 1."""
    total: int
    """Findings on that page."""
    id: str
    """Of the finding; empty where the search found nothing."""
    search: Entry | None
    """The search that found it."""
    trace: Entry | None
    """The trace that its rows are from."""
    index: Entry | None
    """The index that the trace read."""
    rows: tuple[TracedRow, ...]
    """The first training rows."""
    n_rows: int
    """Traced rows in all."""
    verified: tuple[Entry, ...]
    """Runs that put its prompts to a fixed model."""
    fixes: tuple[Fixed, ...]
    """Fixes of the data it was traced in."""


def found(folder: Folder, tables: Tables, columns: Columns, run: Entry, which: int | str) -> Found | None:
    """Gather what is known about a finding; ``None`` where the run has no such finding.

    Args:
        folder: where the other runs are looked for.
        tables: for the rows of a trace.
        columns: for their texts.
        run: a search, a trace or a demo.
        which: its number on the run's page, from 1, or its id.
    """
    materials = materials_of(folder.run(run))
    position = _position(materials, which)
    if position is None:
        return None
    material = materials[position - 1]
    name = _id(material)
    search = _search(folder, run, material)
    trace, attribution = _trace(folder, run, search, name)
    index = links.index_of(folder, trace) if trace is not None else None
    total, rows = traced_rows(folder, tables, columns, trace, name, 0, ROWS) if trace is not None else (0, [])
    verified = links.verified_of(folder, search, name) if search is not None and name else []
    whole_ = _completed(folder, material, search, attribution, [entry for _, entry in verified])
    return Found(
        build_cards([whole_], position, draw=False)[0],
        position, len(materials), name, search, trace, index, tuple(rows), total,
        tuple(verification for verification, _ in verified),
        tuple(_fixed(folder, fix) for fix in (links.fixes_of(folder, index) if index is not None else [])),
    )  # fmt: skip


def _position(materials: list[Material], which: int | str) -> int | None:
    if isinstance(which, int):
        return which if 1 <= which <= len(materials) else None
    return next((i for i, material in enumerate(materials, 1) if which and _id(material) == which), None)


def _id(material: Material) -> str:
    return text(material.finding, "id") or text(material.attribution, "finding")


def _search(folder: Folder, run: Entry, material: Material) -> Entry | None:
    """Find the search of a finding: the run itself, the one within a demo, or the one that a trace read."""
    if run.verb == "surf":
        return run
    if run.verb == "trace":
        return links.search_of(folder, run)
    place = run.path / "runs" / material.rubric
    return next((entry for entry in folder.runs.values() if entry.path == place), None)


def _trace(folder: Folder, run: Entry, search: Entry | None, name: str) -> tuple[Entry | None, Fields]:
    traces = [run] if run.verb == "trace" else links.traces_of(folder, search) if search is not None else []
    for trace in traces:
        for entry in chain.from_iterable(folder.run(trace).attributions.values()):
            if name and text(entry, "finding") == name:
                return trace, entry
    return None, {}


def _completed(
    folder: Folder, material: Material, search: Entry | None, attribution: Fields, verified: list[Fields]
) -> Material:
    """Add what other runs of the folder know to what the run itself knows."""
    finding = material.finding
    if not finding and attribution and search is not None:
        known = chain.from_iterable(folder.run(search).findings.values())
        finding = next((f for f in known if text(f, "id") == text(attribution, "finding")), {})
    return replace(
        material,
        finding=finding,
        attribution=material.attribution or attribution,
        verified=material.verified or next(iter(verified), {}),
    )


def _fixed(folder: Folder, fix: Entry) -> Fixed:
    rows = fields(fix.summary.get("rows"))
    touched = len(links.touched_by(folder, fix)) or int(number(rows, "removed") or 0)
    return Fixed(fix, text(fix.config, "how"), touched, whole(rows, "before"))
