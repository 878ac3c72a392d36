"""``undertow gate``: exit 10 when a confirmed rate rose over what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson
from undertow.cli.output import emit_json, show, table

if TYPE_CHECKING:
    from rich.table import Table

EXIT = {"pass": 0, "fail": 10, "inconclusive": 3}


def command(
    run: Annotated[Path, typer.Argument(help="Run of the model that shall ship: a search or a matrix.")],
    baseline: Annotated[Path, typer.Option(help="The same of the model that did.")],
    allow: Annotated[float, typer.Option(help="Increase of a rate that is let through.")] = 0.05,
    junit: Annotated[Path | None, typer.Option(help="Write the cases as JUnit XML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare confirmed rates with a baseline: exit 0 pass, 10 fail, 3 inconclusive."""
    from undertow.studies.gate import gate

    summary = gate(run, baseline, allow, junit)
    if as_json:
        emit_json(summary)
    else:
        show(_render(summary))
    if EXIT[summary["verdict"]]:
        raise typer.Exit(EXIT[summary["verdict"]])


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    rows = [
        (case["verdict"], case["name"], _value(case["baseline"]), _value(case["rate"]), case["reason"])
        for case in summary["cases"]
    ]
    yield table(("verdict", "case", "baseline", "now", "why"), rows)
    for name in summary["gone"]:
        yield f"gone: {name}"
    yield summary["verdict"]


def _value(rate: dict[str, Any] | None) -> str | None:
    return f"{rate['hits']} of {rate['n']}" if rate and rate["n"] else None
