"""The pages of the viewer: each takes what was asked and returns HTML; nothing is ever written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

from jinja2 import Environment
from markupsafe import Markup, escape

from undertow.errors import UsageError
from undertow.report import facts
from undertow.report.build import build_page
from undertow.report.cards import rate_of
from undertow.report.contexts import Head, Page
from undertow.report.reading import Fields, records, strings, text
from undertow.report.render import page_environment, passage
from undertow.report.runs import KINDS, Run
from undertow.view import links, rows
from undertow.view.columns import Columns
from undertow.view.compare import Compared, compare
from undertow.view.finding import found
from undertow.view.folder import Entry, Folder
from undertow.view.samples import FILES, Asked, Outcome, Samples
from undertow.view.tables import Tables

PER_PAGE = 50
_WARM = 12
"""Runs that are read ahead."""
_LONG = 100_000
"""Characters of one text on the page of a single sample or row."""
_ADDRESS = 1_000
"""Characters of one value in an address; no name of ours is as long."""
_OUTCOMES = {"": "any", "violation": "shows the behaviour", "clean": "does not", "failed": "failed"}
_FINDINGS = ("confirmed", "rejected", "inconclusive")


class Missing(Exception):
    """What was asked for is not in the folder."""


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a request: untrusted text."""

    given: dict[str, str]
    """Name → value."""

    def text(self, name: str) -> str:
        """Return a parameter as it is, empty where it is not given."""
        return self.given.get(name, "")

    def number(self, name: str, default: int) -> int:
        """Return a whole number of at least 0, ``default`` where it is none."""
        value = self.text(name)
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else default

    def offset(self) -> int:
        """Return where the page starts."""
        return PER_PAGE * (max(1, self.number("page", 1)) - 1)


@dataclass(frozen=True, slots=True)
class Paging:
    """Where a list stands, with the addresses of its neighbours."""

    first: int
    """Number of the first one shown, from 1."""
    last: int
    """Of the last."""
    total: int
    """In all."""
    before: Markup | None
    """Address of the page before; ``None`` on the first."""
    after: Markup | None
    """Address of the page after; ``None`` on the last."""


def to(path: str, /, **parameters: object) -> Markup:
    """Write the address of one of our pages; every value is percent-encoded."""
    given = {name: str(value)[:_ADDRESS] for name, value in parameters.items() if value not in (None, "")}
    query = urlencode(given, errors="replace")
    return escape(f"/{path}?{query}" if query else f"/{path}")


@cache
def _environment() -> Environment:
    environment = page_environment("undertow.view")
    environment.globals.update(to=to, passage=passage, when=_when)
    return environment


class Viewer:
    """A folder of runs, as pages."""

    def __init__(self, root: Path) -> None:
        """Take the folder.

        Raises:
            UsageError: it is no folder.
        """
        self.folder = Folder(root)
        self.tables = Tables(self.folder.root)
        self.columns = Columns()
        self.samples = Samples(self.folder, self.columns)

    @cached_property
    def style(self) -> str:
        """The style sheet: the report's, and what forms and lists need."""
        names = ("style.css", "view.css")
        return "\n".join(_environment().get_template(name).render() for name in names)

    def show(self, template: str, title: str, **context: Any) -> str:
        """Render a page."""
        template_ = _environment().get_template(template)
        return template_.render(title=title, root=self.folder.root.name, **context)

    def error(self, title: str, said: str) -> str:
        """Render a refusal."""
        return self.show("error.html.j2", title, said=said)

    def entry(self, query: Query, name: str = "run") -> Entry:
        """Look a run up among those of the folder.

        Raises:
            Missing: there is none at this address.
        """
        at = query.text(name)
        if at not in self.folder.runs:
            raise Missing("There is no such run in this folder.")
        return self.folder.runs[at]

    def warm(self, stopped: Callable[[], bool]) -> None:
        """Read the newest runs ahead, so that the first pages are as fast as the others."""
        newest = list(self.folder.runs.values())[:_WARM]
        steps: list[Callable[[], object]] = [partial(runs_page, self, Query({}))]
        steps += [partial(_brief, self, run) for run in newest]
        searches = (run for run in newest if run.verb == "surf")
        steps += [partial(found, self.folder, self.tables, self.columns, run, 1) for run in searches]
        steps += [partial(rows.warm, self.folder, self.columns), self.samples.warm]
        for step in steps:
            if stopped():
                return
            with contextlib.suppress(UsageError):
                step()

    def report(self, query: Query) -> Path:
        """Find the static report of a run.

        Raises:
            Missing: it has none.
        """
        page = self.folder.file(self.entry(query), "report.html")
        if page is None or not page.is_file():
            raise Missing("This run has no report yet; write it with `undertow report`.")
        return page


def runs_page(viewer: Viewer, query: Query) -> str:
    """List the runs, filtered by verb, status, model and rubric."""
    everything = list(viewer.folder.runs.values())
    chosen = [run for run in everything if _wanted(run, query)]
    shown, paging = _paged(chosen, query, "")
    choices = {
        "verb": sorted({run.verb for run in everything}),
        "status": sorted({run.status for run in everything}),
        "model": sorted({model for run in everything for model in run.models}),
        "rubric": sorted({rubric for run in everything for rubric in run.rubrics}),
    }
    return viewer.show(
        "runs.html.j2", "Runs", runs=shown, paging=paging, choices=choices, query=query,
        found=[(run, _tally(run.statuses)) for run in shown], left_out=viewer.folder.left_out,
    )  # fmt: skip


def _wanted(run: Entry, query: Query) -> bool:
    return (
        query.text("verb") in ("", run.verb)
        and query.text("status") in ("", run.status)
        and query.text("model") in ("", *run.models)
        and query.text("rubric") in ("", *run.rubrics)
        and query.text("finding") in ("", *run.statuses)
    )


def _tally(statuses: Sequence[str]) -> str:
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses) if status}
    return ", ".join(f"{n} {status}" for status, n in counts.items())


def run_page(viewer: Viewer, query: Query) -> str:
    """Show a run: what it says, its findings, and the runs that belong to it."""
    run = viewer.entry(query)
    page = _brief(viewer, run)
    table = page.table
    paging = None
    if table is not None:
        rows_, paging = _paged(table.rows, query, "run")
        table = replace(table, rows=tuple(rows_))
    return viewer.show(
        "run.html.j2", page.head.title, run=run, page=page, table=table, paging=paging,
        href=partial(_finding_address, run.at), related=_related(viewer, run),
        report=viewer.folder.file(run, "report.html") is not None,
        sampled=any(viewer.folder.file(run, name) for name in FILES),
        cards=page.cards, parts=_parts(viewer, run),
    )  # fmt: skip


def _finding_address(at: str, anchor: str) -> Markup:
    """Address the finding that has ``anchor`` on the run's page: ``f3`` is the third."""
    return to("finding", run=at, n=anchor.removeprefix("f"))


def _brief(viewer: Viewer, run: Entry) -> Page:
    """Take the report's page without its charts; of a run that has no report, what every run has."""
    if run.verb in KINDS:
        opened = viewer.folder.run(run)
        files = list(run.path.glob("*.json"))
        return viewer.folder.kept("page", run.path, files, lambda: build_page(opened, brief=True))
    opened = Run(run.path, "trace", run.manifest, run.summary, {}, {}, {})
    said = text(run.summary, "sentence") or f"A run of {run.verb}, {run.status}."
    head = Head(
        f"undertow {run.verb}: {run.at}", run.verb, run.at, run.status, (said,), facts.warnings(opened),
        (facts.failures(opened), facts.cost(opened)),
    )  # fmt: skip
    return Page(head, (), None, (), None, "", facts.phases(opened), facts.provenance(opened), ())


def _parts(viewer: Viewer, run: Entry) -> list[Entry]:
    """List the runs that lie inside another."""
    inside = (r for r in viewer.folder.runs.values() if r is not run and r.path.is_relative_to(run.path))
    return sorted(inside, key=lambda each: each.at)[: 4 * PER_PAGE]


def _related(viewer: Viewer, run: Entry) -> list[tuple[str, Entry]]:
    """List what was made of a run, and what it was made of."""
    folder, made = viewer.folder, list[tuple[str, Entry]]()
    if run.verb == "surf":
        made += [("Traced in", each) for each in links.traces_of(folder, run)]
    if run.verb == "trace":
        made += [("Traces the findings of", each) for each in [links.search_of(folder, run)] if each]
        made += [("Reads the index", each) for each in [links.index_of(folder, run)] if each]
    if run.verb == "index":
        made += [("Read by the trace", each) for each in links.traces_on(folder, run)]
        made += [("Its data, fixed", each) for each in links.fixes_of(folder, run)]
    return made


def findings_page(viewer: Viewer, query: Query) -> str:
    """List the findings of every search, filtered by verdict, model and rubric."""
    everything = [
        (run, finding) for run in viewer.folder.runs.values() if run.verb == "surf"
        for finding in records(run.summary.get("findings"))
    ]  # fmt: skip
    chosen = [pair for pair in everything if _holds(*pair, query)]
    shown, paging = _paged(chosen, query, "findings")
    choices = {
        "verdict": _FINDINGS,
        "model": sorted({model for run, _ in everything for model in run.models}),
        "rubric": sorted({text(finding, "rubric") for _, finding in everything}),
    }
    return viewer.show(
        "findings.html.j2", "Findings", found=[_listed(*pair) for pair in shown], paging=paging,
        choices=choices, query=query,
    )  # fmt: skip


def _holds(run: Entry, finding: Fields, query: Query) -> bool:
    said = " ".join((text(finding, "behaviour"), *strings(finding, "attributes"))).lower()
    return (
        query.text("verdict") in ("", text(finding, "status"))
        and query.text("model") in ("", *run.models)
        and query.text("rubric") in ("", text(finding, "rubric"))
        and query.text("words").strip().lower() in said
    )


def _listed(run: Entry, finding: Fields) -> dict[str, Any]:
    return {
        "run": run, "id": text(finding, "id"), "behaviour": text(finding, "behaviour"),
        "attributes": strings(finding, "attributes"), "status": text(finding, "status"),
        "rate": rate_of(finding.get("rate"), "", "shortcut"),
        "base": rate_of(finding.get("base_rate"), "", "base"),
    }  # fmt: skip


def finding_page(viewer: Viewer, query: Query) -> str:
    """Show a finding from its rate to its training rows."""
    run = viewer.entry(query)
    which = query.text("id") or query.number("n", 0)
    about = (
        found(viewer.folder, viewer.tables, viewer.columns, run, which)
        if run.verb in ("surf", "trace", "demo")
        else None
    )
    if about is None:
        raise Missing("This run has no such finding.")
    return viewer.show("finding.html.j2", about.card.name, run=run, f=about, c=about.card)


def rows_page(viewer: Viewer, query: Query) -> str:
    """Page through all training rows of a finding's trace."""
    trace, finding = viewer.entry(query), query.text("id")
    total, shown = rows.traced_rows(
        viewer.folder, viewer.tables, viewer.columns, trace, finding, query.offset(), PER_PAGE
    )  # fmt: skip
    paging = _paging(total, len(shown), query, "rows")
    index = links.index_of(viewer.folder, trace)
    return viewer.show(
        "rows.html.j2", "Training rows", run=trace, finding=finding, rows=shown, paging=paging, index=index
    )  # fmt: skip


def row_page(viewer: Viewer, query: Query) -> str:
    """Show a training row: what it teaches, what holds for it, which findings led to it."""
    index, name = viewer.entry(query, "index"), query.text("id")
    row = rows.training_row(viewer.folder, viewer.tables, viewer.columns, index, name, _LONG)
    if row is None:
        raise Missing("This index has no such row.")
    led = rows.findings_at(viewer.folder, viewer.tables, index, name)
    fixes = [(f, name in links.touched_by(viewer.folder, f)) for f in links.fixes_of(viewer.folder, index)]
    return viewer.show(
        "row.html.j2", f"Row {row.id}", index=index, row=row, led=led, fixes=fixes, limit=_LONG
    )


def samples_page(viewer: Viewer, query: Query) -> str:
    """Search the samples of one run, or of all."""
    everything = viewer.folder.runs
    chosen = [viewer.entry(query)] if query.text("run") else list(everything.values())
    outcome: Outcome = next((o for o in get_args(Outcome) if o == query.text("outcome")), "")
    asked = Asked(query.text("words").strip(), outcome, query.text("finding"))
    total, shown = viewer.samples.search(chosen, asked, query.offset(), PER_PAGE)
    with_samples = [r for r in everything.values() if any((r.path / name).is_file() for name in FILES)]
    return viewer.show(
        "samples.html.j2", "Samples", samples=shown, query=query, outcome=outcome, outcomes=_OUTCOMES,
        runs=with_samples, paging=_paging(total, len(shown), query, "samples"),
    )  # fmt: skip


def sample_page(viewer: Viewer, query: Query) -> str:
    """Show one sample in full."""
    run = viewer.entry(query)
    one = viewer.samples.one(run, query.text("file"), query.number("n", -1), _LONG)
    if one is None:
        raise Missing("This run has no such sample.")
    return viewer.show("sample.html.j2", "Sample", s=one, limit=_LONG)


def compare_page(viewer: Viewer, query: Query) -> str:
    """Set two runs side by side."""
    everything = list(viewer.folder.runs.values())
    compared = list[Compared]()
    first = second = paging = None
    if query.text("first") and query.text("second"):
        first, second = viewer.entry(query, "first"), viewer.entry(query, "second")
        compared, paging = _paged(compare(viewer.folder, first, second), query, "compare")
    kinds = ("surf", "demo", "matrix", "verify", "grid", "context", "robustness", "ablation")
    return viewer.show(
        "compare.html.j2", "Compare", runs=[run for run in everything if run.verb in kinds], query=query,
        first=first, second=second, compared=compared, paging=paging,
    )  # fmt: skip


def _paged(items: Sequence[Any], query: Query, page: str) -> tuple[list[Any], Paging]:
    shown = list(items[query.offset() : query.offset() + PER_PAGE])
    return shown, _paging(len(items), len(shown), query, page)


def _paging(total: int, shown: int, query: Query, page: str) -> Paging:
    start = query.offset()
    number = start // PER_PAGE + 1

    def other(at: int) -> Markup:
        return to(page, **{**query.given, "page": at})

    return Paging(
        min(start + 1, total) if shown else 0, start + shown, total,
        other(number - 1) if number > 1 else None,
        other(number + 1) if start + shown < total and shown else None,
    )  # fmt: skip


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


PAGES: dict[str, Callable[[Viewer, Query], str]] = {
    "/": runs_page,
    "/run": run_page,
    "/findings": findings_page,
    "/finding": finding_page,
    "/rows": rows_page,
    "/row": row_page,
    "/samples": samples_page,
    "/sample": sample_page,
    "/compare": compare_page,
}
"""Path → page."""
