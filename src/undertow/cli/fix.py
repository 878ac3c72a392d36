"""``undertow fix``: a changed data set from a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertow.cli.options import AsJson, Fresh, Out, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    run: Annotated[Path, typer.Argument(help="Run directory of a trace.")],
    data: Annotated[Path, typer.Option(help="The data set that was indexed.")],
    out: Out,
    how: Annotated[
        Literal["filter", "rebalance"],
        typer.Option(help="filter: drop the traced rows; rebalance: add counterexamples."),
    ] = "filter",
    strength: Annotated[
        float, typer.Option(min=0, help="rebalance: counterexamples for each violating row.")
    ] = 1.0,
    origin: Annotated[
        Literal["pool", "answered"],
        typer.Option(help="rebalance: rows of the data, or traced prompts answered by --model."),
    ] = "pool",
    model: Annotated[str | None, typer.Option(help="answered: who answers.")] = None,
    rubric: Annotated[str | None, typer.Option(help="answered: what counts as a violation.")] = None,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Write a new data set changed by what a trace found; the input is never touched."""
    from undertow.fixes.fix import fix

    with terminal_progress() as progress:
        summary = fix(
            run, how, data, out, fresh, strength=strength, origin=origin, model=model, rubric=rubric,
            seed=seed, progress=progress,
        )  # fmt: skip
    emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    rows = summary["rows"]
    yield f"{rows['before']:,} rows before, {rows['after']:,} after"
    yield table(("source", "rows touched"), summary["touched"].items())
    yield f"data set and diff in {summary['out']}"
