"""Write the page of a run: ``RUN/report.html``, one file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from undertow.report.contexts import Page
from undertow.report.demo_page import demo_page
from undertow.report.matrix_page import matrix_page
from undertow.report.prefs_page import prefs_page
from undertow.report.render import render
from undertow.report.runs import open_run
from undertow.report.study_page import STUDIES, study_page
from undertow.report.surf_page import surf_page
from undertow.report.trace_page import trace_page
from undertow.store.tables import atomic_write_bytes

_PAGES = {
    "demo": demo_page, "matrix": matrix_page, "surf": surf_page, "trace": trace_page, "prefs": prefs_page,
    **dict.fromkeys(STUDIES, study_page),
}  # fmt: skip


def build_page(run: Path) -> Page:
    """Gather what the report of a run says; see :func:`write_report`."""
    opened = open_run(run)
    return _PAGES[opened.kind](opened)


def write_report(run: Path) -> Path:
    """Write the report of a demo, study, surf or trace run, whole or not at all.

    Whatever the run does not hold is said to be missing; nothing is filled in.

    Args:
        run: run directory.

    Returns:
        Path of ``report.html`` in it.

    Raises:
        UsageError: ``run`` is no such directory, or a file in it cannot be read.
    """
    out = run / "report.html"
    atomic_write_bytes(out, render(build_page(run)).encode("utf-8"))
    return out
