"""Write the page of a run: ``RUN/report.html``, one file that needs nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

from undertow.errors import UsageError
from undertow.report.cards import Material
from undertow.report.contexts import Page
from undertow.report.demo_page import demo_materials, demo_page
from undertow.report.matrix_page import matrix_page
from undertow.report.prefs_page import prefs_page
from undertow.report.render import render
from undertow.report.runs import Run, open_run
from undertow.report.study_page import STUDIES, study_page
from undertow.report.surf_page import surf_materials, surf_page
from undertow.report.trace_page import trace_materials, trace_page
from undertow.report.verify_page import verify_page
from undertow.store.tables import atomic_write_bytes

_PAGES = {
    "demo": demo_page, "matrix": matrix_page, "surf": surf_page, "trace": trace_page, "prefs": prefs_page,
    "verify": verify_page, **dict.fromkeys(STUDIES, study_page),
}  # fmt: skip


_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}
_MATERIALS = {"demo": demo_materials, "surf": surf_materials, "trace": trace_materials}


def build_page(run: Run | Path, brief: bool = False) -> Page:
    """Gather what the report of a run says; see :func:`write_report`.

    Args:
        run: run directory, or one that is read already.
        brief: leave out what takes time or room: charts, and the cards of findings that are traced.
    """
    opened = open_run(run) if isinstance(run, Path) else run
    return _PAGES[opened.kind](opened, brief)


def materials_of(run: Run) -> list[Material]:
    """Gather what becomes the cards of a page, in their order; empty where findings are not traced."""
    return _MATERIALS[run.kind](run) if run.kind in _MATERIALS else []


def write_report(run: Path) -> Path:
    """Write the report of a demo, study, surf or trace run, whole or not at all.

    Whatever the run does not hold is said to be missing; nothing is filled in.

    Args:
        run: run directory.

    Returns:
        Path of ``report.html`` in it.

    Raises:
        UsageError: ``run`` is no such directory, a file in it cannot be read, or none may be written there.
    """
    out, page = run / "report.html", render(build_page(run)).encode("utf-8")
    try:
        atomic_write_bytes(out, page)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        why = f"the page cannot be written there ({error.strerror})"
        raise UsageError(f"{run}: {why}; copy the run to where you may write") from None
    return out
