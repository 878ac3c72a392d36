"""``undertow surf``: search a model for a behaviour in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import (
    AsJson,
    ConfirmJudge,
    ConfirmJudgeThinking,
    Context,
    DryRun,
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
    target: Annotated[
        str, typer.Option(help="Model string, such as local:PATH or openai-compatible:URL#NAME.")
    ],
    rubric: Annotated[str, typer.Option(help="Name of a shipped rubric, or a YAML file.")],
    attributes: Annotated[Path, typer.Option(help="Index directory, or JSONL with text a line.")],
    out: Out,
    generator: Annotated[
        str, typer.Option(help='"local" (prompts from a bank) or a model string.')
    ] = "local",
    judge: Annotated[
        str, typer.Option(help='"checks" (the rubric\'s programmatic checks) or a model string.')
    ] = "checks",
    confirm_judge: ConfirmJudge = None,
    judge_thinking: JudgeThinking = None,
    confirm_judge_thinking: ConfirmJudgeThinking = None,
    reference: Annotated[str | None, typer.Option(help="Model for the null control.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompt bank; default: the index's prompts.")] = None,
    algorithm: Annotated[
        str, typer.Option(help="surf: the paper's search; archive: distinct triggers, without iterations.")
    ] = "surf",
    runs: Annotated[int, typer.Option(min=1, help="Parallel runs.")] = 5,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of a run, T.")] = 5,
    candidates: Annotated[int, typer.Option(min=1, help="Candidates of an iteration, N.")] = 120,
    buffer: Annotated[int, typer.Option(min=1, help="Places of the replay buffer, n.")] = 5,
    turns: Turns = 1,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Calls in flight a role, all roles alike; adaptive without.")
    ] = None,
    generator_concurrency: Annotated[int | None, typer.Option(min=1, help="The generator's.")] = None,
    target_concurrency: Annotated[int | None, typer.Option(min=1, help="The target's.")] = None,
    judge_concurrency: Annotated[int | None, typer.Option(min=1, help="The judge's.")] = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price: Prices = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer of the target, tokens.")
    ] = None,
    dry_run: DryRun = False,
    system: System = None,
    context: Context = None,
    confirm: Annotated[bool, typer.Option(help="Confirm findings on fresh prompts.")] = True,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Search a model for prompts that draw a behaviour where it is wrong, and confirm what is found."""
    from undertow.models.prices import parse_prices
    from undertow.surf.config import SurfConfig
    from undertow.surf.context import read_context, read_text
    from undertow.surf.run import plan_surf, run_surf

    config = configure(
        SurfConfig, algorithm=algorithm, runs=runs, iterations=iterations, candidates=candidates,
        buffer=buffer, concurrency=concurrency, confirm=confirm, seed=seed, max_tokens=max_tokens,
        system=read_text(system) if system else None, generator_concurrency=generator_concurrency,
        target_concurrency=target_concurrency, judge_concurrency=judge_concurrency,
        max_calls=max_calls, max_cost=max_cost, prices=parse_prices(price or ()),
        turns=turns, **read_context(context),
        judge_thinking=judge_thinking, confirm_judge_thinking=confirm_judge_thinking,
    )  # fmt: skip
    if dry_run:
        planned = plan_surf(
            target, rubric, attributes, config, reference=reference, generator=generator,
            judge=judge, confirm_judge=confirm_judge,
        )  # fmt: skip
        return emit(planned, as_json, _render_plan)
    with terminal_progress() as progress:
        summary = run_surf(
            target, rubric, attributes, out, config, reference=reference, generator=generator,
            judge=judge, confirm_judge=confirm_judge, prompts=prompts, fresh=fresh, progress=progress,
        )  # fmt: skip
    return emit(summary, as_json, _render)


def _render_plan(planned: dict[str, Any]) -> Iterator[str | Table]:
    counted = ("calls", "input_tokens", "output_tokens")
    rows = [
        (each["role"], each["model"], *(_span(each[name]) for name in counted), _dollars(each["cost_usd"]))
        for each in planned["roles"]
    ]
    yield table(("role", "model", "calls", "tokens read", "tokens written", "US dollars"), rows)
    yield f"in all {_span(planned['calls'])} calls, US dollars {_dollars(planned['cost_usd'])}"
    yield "nothing was asked or written; --max-calls and --max-cost set a cap"


def _span(pair: Sequence[int]) -> str:
    return f"{pair[0]:,} to {pair[1]:,}"


def _dollars(pair: Sequence[float] | None) -> str:
    return f"{pair[0]:,.2f} to {pair[1]:,.2f}" if pair else "unknown; give --price"


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    counts = summary["counts"]
    tried = f"{counts['tried']} candidates, {counts['scored']} scored, {counts['failed']} failed"
    yield f"{summary['rubric']}: {tried}"
    if summary.get("stopped"):
        yield f"stopped early: {summary['stopped']}"
        yield f"{summary['planned']} candidates were planned, {counts['tried']} tried"
    rows = [_row(finding) for finding in summary["findings"]]
    if rows:
        yield table(("status", "when the query …", "rate", "95 % interval", "n", "control", "base"), rows)
    yield from filter(None, map(_judges, summary["findings"]))
    confirmed = sum(finding["status"] == "confirmed" for finding in summary["findings"])
    yield f"{confirmed} confirmed; samples, findings and exemplars in {summary['out']}"


def _row(finding: dict[str, Any]) -> tuple[object, ...]:
    rate, interval = finding["rate"], finding["rate"]["interval"]
    spread = f"{interval['low']:.2f} to {interval['high']:.2f}" if interval else None
    others = [(finding[name] or {}).get("value") for name in ("control_rate", "base_rate")]
    return (finding["status"], " and ".join(finding["attributes"]), rate["value"], spread, rate["n"], *others)


def _judges(finding: dict[str, Any]) -> str | None:
    """Tell how two judges agree on one finding."""
    found = finding.get("agreement")
    if not found:
        return None
    alone = " and ".join(f"{finding[name]['value']:.2f}" for name in ("judge_rate", "confirm_rate"))
    kappa = f"κ {found['value']:.2f}" if found["value"] is not None else found["reason"]
    agreed = f"agree on {found['agreed']} of {found['n']} ({kappa})"
    return f"{finding['id']}: the judges alone give {alone} and {agreed}"
