"""``undertow study matrix``: models × behaviours, the paper's Table 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson, Fresh, Out
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress
from undertow.cli.search_options import SearchOptions, render_plan, with_search_options

if TYPE_CHECKING:
    from rich.table import Table


@with_search_options
def command(
    target: Annotated[list[str], typer.Option(help="Model string; one --target a row.")],
    rubric: Annotated[list[str], typer.Option(help="Shipped rubric or YAML file; one --rubric a column.")],
    attributes: Annotated[Path, typer.Option(help="Index directory, or JSONL with text a line.")],
    out: Out,
    search: SearchOptions,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Search every model for every behaviour; a table, a heat-map, and a run directory a cell."""
    from undertow.report.build import write_report
    from undertow.studies.matrix import plan_matrix, run_matrix

    config = search.config()
    if search.dry_run:
        planned = plan_matrix(target, rubric, attributes, config, **search.roles())
        return emit(planned, as_json, render_plan)
    with terminal_progress() as progress:
        summary = run_matrix(
            target, rubric, attributes, out, config, prompts=search.prompts, fresh=fresh, progress=progress,
            **search.roles(),
        )  # fmt: skip
        write_report(Path(summary["out"]))
    return emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    columns = (
        "model",
        "behaviour",
        "top over threshold",
        "n",
        "95 % interval",
        "confirmed",
        "rate",
        "interval",
    )
    yield table(columns, [_row(cell) for cell in summary["cells"]])
    for hole in summary["missing"]:
        yield f"missing: {hole['model']} on {hole['rubric']}: {hole['reason']}"
    yield summary["sentence"]
    yield f"open {summary['out']}/report.html"


def _row(cell: dict[str, Any]) -> tuple[object, ...]:
    top, confirmed = cell["top"], cell["confirmed"] or {}
    if top is None:
        return (cell["model"], cell["rubric"], "missing", None, None, None, None, None)
    rate = confirmed.get("rate") or {}
    return (
        cell["model"], cell["rubric"], f"{top['value']:.0%}", top["n"], _span(top),
        confirmed.get("findings"), rate.get("value"), _span(rate),
    )  # fmt: skip


def _span(rate: dict[str, Any]) -> str | None:
    interval = rate.get("interval")
    return f"{interval['low']:.2f} to {interval['high']:.2f}" if interval else None
