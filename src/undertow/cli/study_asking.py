"""``undertow study shift | grid | context | robustness``: questions put to models, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import AsJson, Fresh, MaxCalls, MaxCost, Out, Prices, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress
from undertow.cli.shared import with_options
from undertow.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from undertow.studies.asking import AskingConfig

Targets = Annotated[list[str], typer.Option("--target", help="Model string; one --target a model.")]
Measures = Annotated[
    list[str],
    typer.Option("--measure", help="A rubric, check:NAME, regex:PATTERN, words or gold; may repeat."),
]
OneMeasure = Annotated[
    str, typer.Option("--measure", help="A rubric, check:NAME, regex:PATTERN, words or gold.")
]
Judge = Annotated[str, typer.Option(help='"checks", or a model that judges by the rubric.')]
Prompts = Annotated[Path, typer.Option(help="Questions: Parquet, JSONL, or text with a prompt a line.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many questions, drawn by the seed.")]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a study asks, and what it prints."""

    replicates: Annotated[int, typer.Option(min=1, help="Samples of each question.")] = 1
    temperature: Annotated[float, typer.Option(min=0, help="Sampling temperature; 0 is greedy.")] = 1.0
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, tokens.")] = 256
    concurrency: Annotated[int | None, typer.Option(min=1, help="Calls in flight a model.")] = None
    max_calls: MaxCalls = None
    max_cost: MaxCost = None
    price: Prices = None
    seed: Seed = 0
    fresh: Fresh = False
    as_json: AsJson = False

    def config(self) -> AskingConfig:
        """Return how to ask.

        Raises:
            UsageError: a value is out of range.
        """
        from undertow.models.prices import parse_prices
        from undertow.studies.asking import AskingConfig

        same = {name: getattr(self, name) for name in AskingConfig.model_fields if hasattr(self, name)}
        return configure(AskingConfig, **same, prices=parse_prices(self.price or ()))


@with_options(Asking, "asking")
def shift(
    target: Targets,
    prompts: Prompts,
    transform: Annotated[
        list[str],
        typer.Option(
            help="latex, extraction, formal, elaborate, two-part, python-function, metadata, tags, "
            "prefix:TEXT, table:FILE or write:INSTRUCTION; may repeat."
        ),
    ],
    measure: Measures,
    out: Out,
    asking: Asking,
    system: Annotated[
        list[Path] | None, typer.Option(help="File: a system prompt to compare with none.")
    ] = None,
    judge: Judge = "checks",
    writer: Annotated[str | None, typer.Option(help="Model that writes `write:…` transforms.")] = None,
    limit: Limit = None,
) -> None:
    """Put one feature into prompts and measure what it moves: the steering score (paper App. B.1)."""
    from undertow.studies.shift import run_shift
    from undertow.surf.context import read_text

    with terminal_progress() as progress:
        summary = run_shift(
            target, prompts, transform, measure, out, asking.config(),
            systems=[read_text(s) for s in system or ()], judge=judge, writer=writer, limit=limit,
            fresh=asking.fresh, progress=progress,
        )  # fmt: skip
    _end(summary, asking.as_json, ("model", "system", "transform", "measure"), "shifts")


@with_options(Asking, "asking", replicates=5)
def grid(
    target: Targets,
    measure: OneMeasure,
    out: Out,
    asking: Asking,
    template: Annotated[
        str | None, typer.Option(help='Prompt with {a}, {b} and arithmetic: "Is {a}+{b}={a+b}?"')
    ] = None,
    a: Annotated[str, typer.Option(help="Rows, FROM:TO (TO left out).")] = "1:11",
    b: Annotated[str, typer.Option(help="Columns, FROM:TO.")] = "1:11",
    rewrites: Annotated[Path | None, typer.Option(help="File of prompts, instead of a template.")] = None,
    judge: Judge = "checks",
) -> None:
    """Measure a behaviour over a grid of prompts, or over rewrites of one (paper App. B.4)."""
    from undertow.studies.grid import run_grid

    with terminal_progress() as progress:
        summary = run_grid(
            target, measure, out, asking.config(), template=template, a=a, b=b, rewrites=rewrites,
            judge=judge, fresh=asking.fresh, progress=progress,
        )  # fmt: skip
    _end(summary, asking.as_json, ("model", "rewrite") if rewrites else (), "rates")


@with_options(Asking, "asking")
def context(
    target: Targets,
    prompts: Prompts,
    context: Annotated[
        list[str], typer.Option(help="NAME=FILE: rows of prompt and response to put in front; may repeat.")
    ],
    tokens: Annotated[list[int], typer.Option(help="Length of the context, tokens; may repeat.")],
    measure: OneMeasure,
    out: Out,
    asking: Asking,
    judge: Judge = "checks",
    limit: Limit = None,
) -> None:
    """Measure a behaviour against the tokens of context in front of the question (paper App. C.1)."""
    from undertow.studies.context import run_context

    with terminal_progress() as progress:
        summary = run_context(
            target, prompts, _named_files(context), tokens, measure, out, asking.config(), judge=judge,
            limit=limit, fresh=asking.fresh, progress=progress,
        )  # fmt: skip
    _end(summary, asking.as_json, ("model", "context", "tokens", "input_tokens"), "cells")


@with_options(Asking, "asking", replicates=2)
def robustness(
    run: Annotated[Path, typer.Option(help="Run directory of a finished search.")],
    out: Out,
    asking: Asking,
    target: Annotated[str | None, typer.Option(help="Default: the model that was searched.")] = None,
    judge: Annotated[str | None, typer.Option(help="Default: the search's judge.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Top violating prompts (paper: 75).")] = 75,
    versions: Annotated[int, typer.Option(min=1, help="Perturbed versions of each.")] = 10,
) -> None:
    """Perturb and resample the top outputs of a search (paper §3.2.3)."""
    from undertow.studies.robustness import run_robustness

    with terminal_progress() as progress:
        summary = run_robustness(
            run, out, asking.config(), target=target, judge=judge, top=top, versions=versions,
            fresh=asking.fresh, progress=progress,
        )  # fmt: skip
    _end(summary, asking.as_json, ("prompt",), "cells")


def _named_files(contexts: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in contexts:
        name, _, file = each.partition("=")
        if not name or not file or name in found:
            raise UsageError(f"--context {each}: write NAME=FILE, each name once")
        found[name] = Path(file)
    return found


def _end(summary: dict[str, Any], as_json: bool, keys: Sequence[str], part: str) -> None:
    from undertow.report.build import write_report

    write_report(Path(summary["out"]))
    emit(summary, as_json, lambda told: _render(told, keys, part))


def _render(summary: dict[str, Any], keys: Sequence[str], part: str) -> Iterator[str | Table]:
    keys = [key for key in keys if any(cell.get(key) not in ("", None) for cell in summary[part])]
    if keys:
        columns = (*keys, "delta" if part == "shifts" else "value", "95 % interval", "n")
        yield table(columns, [_row(cell, keys) for cell in summary[part][:40]])
        if len(summary[part]) > 40:
            yield f"and {len(summary[part]) - 40} more in summary.json"
    for hole in summary["missing"][:10]:
        where = " × ".join(str(v) for k, v in hole.items() if k != "reason" and v not in ("", None))
        yield f"missing: {where}: {hole['reason']}"
    yield summary["sentence"]
    yield f"open {summary['out']}/report.html"


def _row(cell: dict[str, Any], keys: Sequence[str]) -> tuple[object, ...]:
    value = cell["delta"] if "transform" in cell else cell["value"]
    span = cell["interval"]
    spread = f"{span['low']:.2f} to {span['high']:.2f}" if span else None
    return (*(_short(cell.get(key)) for key in keys), value, spread, cell["n"])


def _short(value: object) -> object:
    """Name a local model by its folder."""
    if isinstance(value, str) and value.startswith("local:"):
        return value.rstrip("/").rpartition("/")[2]
    return value
