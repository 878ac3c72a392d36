"""``undertow report``: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undertow.cli.options import AsJson
from undertow.cli.output import emit


def command(
    run: Annotated[
        Path,
        typer.Argument(help="Run directory of a demo, study, search, trace or audit."),
    ],
    as_json: AsJson = False,
) -> None:
    """Write RUN/report.html: one file, no script, nothing loaded from elsewhere."""
    from undertow.report.build import write_report

    page = write_report(run)
    emit({"status": "complete", "page": str(page)}, as_json, lambda summary: [summary["page"]])
