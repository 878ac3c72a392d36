"""``undertow study matrix``: models × behaviours, the paper's Table 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import (
    AsJson,
    ConfirmJudge,
    ConfirmJudgeThinking,
    Context,
    Fresh,
    JudgeThinking,
    MaxCalls,
    MaxCost,
    Out,
    Prices,
    Seed,
    System,
    Turns,
)
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    target: Annotated[list[str], typer.Option(help="Model string; one --target a row.")],
    rubric: Annotated[list[str], typer.Option(help="Shipped rubric or YAML file; one --rubric a column.")],
    attributes: Annotated[Path, typer.Option(help="Index directory, or JSONL with text a line.")],
    out: Out,
    generator: Annotated[
        str, typer.Option(help='"local" (prompts from a bank) or a model string.')
    ] = "local",
    judge: Annotated[
        str, typer.Option(help='"checks" (the rubrics\' programmatic checks) or a model string.')
    ] = "checks",
    confirm_judge: ConfirmJudge = None,
    judge_thinking: JudgeThinking = None,
    confirm_judge_thinking: ConfirmJudgeThinking = None,
    reference: Annotated[str | None, typer.Option(help="Model for the null control of every cell.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompt bank; default: the index's prompts.")] = None,
    algorithm: Annotated[str, typer.Option(help="As for `undertow surf`.")] = "surf",
    runs: Annotated[int, typer.Option(min=1, help="Parallel runs of a cell; the paper's 75: 15.")] = 5,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of a run, T.")] = 5,
    candidates: Annotated[int, typer.Option(min=1, help="Candidates of an iteration, N.")] = 120,
    buffer: Annotated[int, typer.Option(min=1, help="Places of the replay buffer, n.")] = 5,
    turns: Turns = 1,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Calls in flight a model.")] = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price: Prices = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer of a target, tokens.")] = None,
    system: System = None,
    context: Context = None,
    confirm: Annotated[bool, typer.Option(help="Confirm findings on fresh prompts.")] = True,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Search every model for every behaviour; a table, a heat-map, and a run directory a cell."""
    from undertow.models.prices import parse_prices
    from undertow.report.build import write_report
    from undertow.studies.matrix import run_matrix
    from undertow.surf.config import SurfConfig
    from undertow.surf.context import read_context, read_text

    config = configure(
        SurfConfig, algorithm=algorithm, runs=runs, iterations=iterations, candidates=candidates,
        buffer=buffer, concurrency=concurrency, confirm=confirm, seed=seed, max_tokens=max_tokens,
        system=read_text(system) if system else None, max_calls=max_calls, max_cost=max_cost,
        prices=parse_prices(price or ()),
        judge_thinking=judge_thinking, confirm_judge_thinking=confirm_judge_thinking,
        turns=turns, **read_context(context),
    )  # fmt: skip
    with terminal_progress() as progress:
        summary = run_matrix(
            target, rubric, attributes, out, config, reference=reference, generator=generator, judge=judge,
            confirm_judge=confirm_judge, prompts=prompts, fresh=fresh, progress=progress,
        )  # fmt: skip
        write_report(Path(summary["out"]))
    emit(summary, as_json, _render)


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
