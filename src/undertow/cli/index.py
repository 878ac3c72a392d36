"""``undertow index``: TURF's offline part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import AsJson, DryRun, Fresh, MaxCalls, MaxCost, Out, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    data: Annotated[Path, typer.Argument(help="Parquet or JSONL with prompt/response or messages.")],
    out: Out,
    extractor: Annotated[
        str, typer.Option(help='"local" (no model), or a model string: ten sentences a text.')
    ] = "local",
    clusters: Annotated[
        int | None, typer.Option(min=1, help="Clusters of a model's query attributes; default: a 376th.")
    ] = None,
    seed: Seed = 0,
    embedder: Annotated[
        str, typer.Option(help='"minilm", or a sentence-transformers id or folder.')
    ] = "minilm",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Count malformed rows instead of stopping.")
    ] = False,
    failure_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Rows a model may leave undescribed (0.1).")
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="By the provider's batch API: half the price, up to a day.")
    ] = False,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Calls in flight.")] = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price: Annotated[
        str | None, typer.Option(help="IN,OUT in US dollars per million tokens where none is known.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, ray or slurm: what runs the steps.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Shards at once; local: one process.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="HOST:PORT of a Ray cluster, or auto.")] = None,
    executor_config: Annotated[
        Path | None, typer.Option(help="YAML for Ray or Slurm: partition, time, mem_per_cpu_gb, ….")
    ] = None,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Describe every row of a data set by attributes, so that behaviours can be traced to rows."""
    from undertow.index.build import build_index, estimate_index
    from undertow.index.config import IndexConfig
    from undertow.index.executors import ExecutorConfig, read_options
    from undertow.models.prices import parse_price

    runs_on = configure(
        ExecutorConfig, executor=executor, workers=workers, ray_address=ray_address,
        options=read_options(executor_config) if executor_config else None,
    )  # fmt: skip
    config = configure(
        IndexConfig, extractor=extractor, clusters=clusters, seed=seed, embedder=embedder, skip_bad=skip_bad,
        failure_share=failure_share, batch=batch, concurrency=concurrency, max_calls=max_calls,
        max_cost=max_cost, price=parse_price(price) if price else None, executor=runs_on,
    )  # fmt: skip
    if dry_run:
        return emit(estimate_index(data, config), as_json, _render_estimate)
    with terminal_progress() as progress:
        summary = build_index(data, out, config, progress, fresh)
    return emit(summary, as_json, _render)


def _render_estimate(planned: dict[str, Any]) -> Iterator[str | Table]:
    if not any(planned["calls"]):
        yield f"{planned['rows']:,} rows; the local extractor calls no model"
        return
    names = (("calls", "calls"), ("input_tokens", "tokens read"), ("output_tokens", "tokens written"))
    rows: list[tuple[object, ...]] = [(words, *(f"{n:,}" for n in planned[name])) for name, words in names]
    cost = planned["cost_usd"]
    rows.append(("US dollars", *(cost or ("no price known; give --price", ""))))
    yield table((f"{planned['rows']:,} rows by {planned['extractor']}", "from", "to"), rows)
    yield "nothing was asked or written"


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    rows = [(s["name"], s["rows"], s["seconds"], s["rows_per_second"]) for s in summary["stages"]]
    if rows:
        yield table(("stage", "rows", "seconds", "rows/s"), rows)
    for side, told in summary.get("extraction", {}).items():
        yield (
            f"{side}: {told['failed']:,} rows without attributes, {told['retried']:,} asked again, "
            f"{told['not_ten']:,} with another number than ten, {told['cut']:,} texts cut"
        )
    if summary.get("stopped"):
        yield f"no index: {summary['stopped']}; the same command tries failed calls again"
    else:
        yield f"index of {summary['counts']['scored']:,} rows in {summary['out']}"
