"""``undertow fix``: a changed data set from a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertow.cli.options import AsJson, Fresh, Out
from undertow.cli.output import emit, table

if TYPE_CHECKING:
    from rich.table import Table


def command(
    run: Annotated[Path, typer.Argument(help="Run directory of a trace.")],
    data: Annotated[Path, typer.Option(help="The data set that was indexed.")],
    out: Out,
    how: Annotated[Literal["filter"], typer.Option(help="filter: drop the traced rows.")] = "filter",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Write a new data set changed by what a trace found; the input is never touched."""
    from undertow.fixes.fix import fix

    emit(fix(run, how, data, out, fresh), as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    rows = summary["rows"]
    yield f"{rows['before']:,} rows before, {rows['after']:,} after"
    yield table(("source", "rows touched"), summary["touched"].items())
    yield f"data set and diff in {summary['out']}"
