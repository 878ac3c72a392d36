"""The options of a search, defined once for every verb that searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import (
    ConfirmJudge,
    ConfirmJudgeThinking,
    Context,
    DryRun,
    JudgeThinking,
    MaxCalls,
    MaxCost,
    Prices,
    Seed,
    System,
    Turns,
)
from undertow.cli.output import table
from undertow.cli.shared import with_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from undertow.surf.config import SurfConfig


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Who does what in a search, and how large it is."""

    generator: Annotated[str, typer.Option(help='"local" (prompts from a bank) or a model string.')] = "local"
    judge: Annotated[
        str, typer.Option(help='"checks" (the rubric\'s programmatic checks) or a model string.')
    ] = "checks"
    confirm_judge: ConfirmJudge = None
    judge_thinking: JudgeThinking = None
    confirm_judge_thinking: ConfirmJudgeThinking = None
    reference: Annotated[str | None, typer.Option(help="Model for the null control.")] = None
    prompts: Annotated[Path | None, typer.Option(help="Prompt bank; default: the index's prompts.")] = None
    algorithm: Annotated[
        str, typer.Option(help="surf: the paper's search; archive: distinct triggers, without iterations.")
    ] = "surf"
    runs: Annotated[int, typer.Option(min=1, help="Parallel runs; the paper's table: 15.")] = 5
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of a run, T.")] = 5
    candidates: Annotated[int, typer.Option(min=1, help="Candidates of an iteration, N.")] = 120
    buffer: Annotated[int, typer.Option(min=1, help="Places of the replay buffer, n.")] = 5
    turns: Turns = 1
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Calls in flight a role, all roles alike; adaptive without.")
    ] = None
    generator_concurrency: Annotated[int | None, typer.Option(min=1, help="The generator's.")] = None
    target_concurrency: Annotated[int | None, typer.Option(min=1, help="The target's.")] = None
    judge_concurrency: Annotated[int | None, typer.Option(min=1, help="The judge's.")] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Longest wait for one answer, seconds. Default: four slow answers, at first 20 s.",
        ),
    ] = None
    max_calls: MaxCalls = None
    max_cost: MaxCost = None
    price: Prices = None
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer of the target, tokens.")] = (
        None
    )
    dry_run: DryRun = False
    system: System = None
    context: Context = None
    confirm: Annotated[bool, typer.Option(help="Confirm findings on fresh prompts.")] = True
    seed: Seed = 0

    def config(self) -> SurfConfig:
        """Return sizes, caps and what stands around a candidate.

        Raises:
            UsageError: a value is out of range, or a file cannot be read.
        """
        from undertow.models.prices import parse_prices
        from undertow.surf.config import SurfConfig
        from undertow.surf.context import read_context, read_text

        same = {name: getattr(self, name) for name in SurfConfig.model_fields if hasattr(self, name)}
        read = read_context(self.context)
        return configure(
            SurfConfig,
            **{
                **same, "context": read.get("context"), "preface": read.get("preface"),
                "system": read_text(self.system) if self.system else None,
                "prices": parse_prices(self.price or ()),
            },
        )  # fmt: skip

    def roles(self) -> dict[str, Any]:
        """Return who does what, as the functions of a search take it."""
        return {name: getattr(self, name) for name in ("reference", "generator", "judge", "confirm_judge")}


with_search_options = with_options(SearchOptions, "search")
"""Gives a command every field of :class:`SearchOptions` as an option, and the whole as ``search``."""


def render_plan(planned: dict[str, Any]) -> Iterator[str | Table]:
    """Show what a search would ask and cost."""
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
