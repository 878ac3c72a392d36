"""``undertow verify``: a finding before and after a fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson, Fresh, Out
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    before: Annotated[str, typer.Argument(help="Model string of the model that was searched.")],
    after: Annotated[str, typer.Argument(help="Model string of the model after the fix.")],
    run: Annotated[Path, typer.Option(help="Run directory of the search.")],
    out: Out,
    judge: Annotated[str | None, typer.Option(help="As in the search; default: the search's own.")] = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Ask both models the search's confirmation prompts again, paired, and say what changed."""
    from undertow.studies.verify import verify

    with terminal_progress() as progress:
        summary = verify(before, after, run, out, judge, progress, fresh)
    emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    columns = ("finding", "verdict", "before", "after", "difference", "95 % interval", "pairs")
    yield table(columns, [_row(finding) for finding in summary["findings"]])
    if not summary["findings"]:
        yield "the search confirmed nothing, so there is nothing to verify"


def _row(finding: dict[str, Any]) -> tuple[object, ...]:
    interval = finding["difference_interval"]
    spread = f"{interval['low']:+.2f} to {interval['high']:+.2f}" if interval else None
    rates = (finding["before"]["value"], finding["after"]["value"], finding["difference"])
    return (finding["finding"], finding["verdict"], *rates, spread, finding["pairs"])
