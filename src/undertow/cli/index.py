"""``undertow index``: TURF's offline part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson, Fresh, Out, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    data: Annotated[Path, typer.Argument(help="Parquet or JSONL with prompt/response or messages.")],
    out: Out,
    seed: Seed = 0,
    embedder: Annotated[
        str, typer.Option(help='"minilm", or a sentence-transformers id or folder.')
    ] = "minilm",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Count malformed rows instead of stopping.")
    ] = False,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Describe every row of a data set by attributes, so that behaviours can be traced to rows."""
    from undertow.index.build import IndexConfig, build_index

    config = IndexConfig(seed=seed, embedder=embedder, skip_bad=skip_bad)
    with terminal_progress() as progress:
        summary = build_index(data, out, config, progress, fresh)
    emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    rows = [(s["name"], s["rows"], s["seconds"], s["rows_per_second"]) for s in summary["stages"]]
    yield table(("stage", "rows", "seconds", "rows/s"), rows)
    yield f"index of {summary['counts']['scored']:,} rows in {summary['out']}"
