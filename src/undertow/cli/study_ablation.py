"""``undertow study ablation``: train on doses of the rows that teach something, or without a trace's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.lab_model import start_models
from undertow.cli.options import AsJson, Fresh, Out
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress
from undertow.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table


_PLACE_COLUMNS = ("pattern rows", "counterexamples", "rate", "95 % interval", "n", "each run")
_CHECK_COLUMNS = (
    "finding", "rows", "all rows", "less traced", "less random", "difference", "95 % interval", "causal"
)  # fmt: skip


def command(
    data: Annotated[Path, typer.Option(help="Training rows.")],
    out: Out,
    model: Annotated[
        str | None, typer.Option(help="Start model, a folder or a Hugging Face id. Default: the lab's.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help='Pattern rows: "prompt~REGEX & response!~REGEX & source=NAME & ids=FILE".'),
    ] = None,
    counter: Annotated[str | None, typer.Option(help="Counterexamples, likewise.")] = None,
    counter_data: Annotated[Path | None, typer.Option(help="Counterexamples beside --data.")] = None,
    pattern_count: Annotated[list[int] | None, typer.Option(help="Dose of pattern rows; may repeat.")] = None,
    counter_count: Annotated[
        list[int] | None, typer.Option(help="Dose of counterexamples; may repeat.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Held-out prompts.")] = None,
    measure: Annotated[
        str | None, typer.Option(help="A rubric, check:NAME or regex:PATTERN: what is measured.")
    ] = None,
    trace: Annotated[
        list[Path] | None,
        typer.Option(help="Causal check: a trace's run directory; may repeat, with its --run."),
    ] = None,
    run: Annotated[list[Path] | None, typer.Option(help="Search of each --trace, in the same order.")] = None,
    judge: Annotated[str, typer.Option(help='"checks", or a model that judges by the rubric.')] = "checks",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each cell, with seeds from 0.")] = 3,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default 2e-5.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data; default 2.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step; default 64.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest row, tokens; default 1024.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="Sampling temperature; 0 is greedy.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, tokens.")] = 64,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Train on more or fewer of the rows that teach a behaviour, or without a trace's rows (paper §4.4)."""
    from undertow.report.build import write_report
    from undertow.studies.ablation import run_ablation
    from undertow.studies.asking import AskingConfig
    from undertow.studies.causal import run_causal_check
    from undertow.training.config import SFTConfig

    training = configure(SFTConfig, lr=lr, epochs=epochs, batch=batch, max_length=max_length)
    asking = AskingConfig(temperature=temperature, max_tokens=max_tokens)
    with terminal_progress() as progress:
        if trace:
            [start] = start_models([model] if model else None, progress)
            summary = run_causal_check(
                start, data, trace, _paired(trace, run or ()), out, seeds=range(seeds), training=training,
                asking=asking, judge=judge, fresh=fresh, progress=progress,
            )  # fmt: skip
        elif pattern and prompts and measure and pattern_count:
            [start] = start_models([model] if model else None, progress)
            summary = run_ablation(
                start, data, pattern, prompts, measure, out, counter=counter, counter_data=counter_data,
                pattern_counts=pattern_count, counter_counts=counter_count or [0], seeds=range(seeds),
                training=training, asking=asking, judge=judge, fresh=fresh, progress=progress,
            )  # fmt: skip
        else:
            raise UsageError(
                "give --pattern, --pattern-count, --prompts and --measure for a grid of doses, or --trace "
                "and --run for the causal check"
            )
    write_report(Path(summary["out"]))
    emit(summary, as_json, _render)


def _paired(traces: Sequence[Path], runs: Sequence[Path]) -> dict[str, Path]:
    if len(traces) != len(runs) or len({trace.name for trace in traces}) < len(traces):
        raise UsageError("--trace: give the --run of each, in the same order, and traces of different names")
    return {trace.name: run for trace, run in zip(traces, runs, strict=True)}


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    if "checks" in summary:
        yield table(_CHECK_COLUMNS, [_check(check) for check in summary["checks"]])
    else:
        yield _doses(summary["grid"])
    for hole in summary["missing"][:10]:
        where = " × ".join(str(v) for k, v in hole.items() if k != "reason")
        yield f"missing: {where}: {hole['reason']}"
    yield summary["sentence"]
    yield f"open {summary['out']}/report.html"


def _check(check: dict[str, Any]) -> tuple[object, ...]:
    rates = (check[kind]["value"] for kind in ("whole", "traced", "random"))
    return (
        check["finding"], check["rows"], *rates, check["difference"], _span(check["difference_interval"]),
        "yes" if check["causal"] else "no",
    )  # fmt: skip


def _doses(grid: list[dict[str, Any]]) -> Table:
    """Show both doses as a grid where both were varied, else a row a place."""
    places = {(place["counter"], place["pattern"]): place for place in grid}
    rows, columns = (sorted({key[k] for key in places}) for k in (0, 1))
    if len(rows) < 2 or len(columns) < 2:
        return table(_PLACE_COLUMNS, [_place(place) for place in grid])
    head = ("counterexamples", *(f"{dose} pattern rows" for dose in columns))
    told = [(row, *(_square(places.get((row, column))) for column in columns)) for row in rows]
    return table(head, told, "Rate, 95 % interval over prompts, each run's rate")


def _square(place: dict[str, Any] | None) -> str | None:
    if place is None or place["value"] is None:
        return None
    return f"{place['value']:.2f}\n{_span(place['interval'])}\n{_each(place)}"


def _each(place: dict[str, Any]) -> str:
    return ", ".join("–" if rate is None else f"{rate:.2f}" for rate in place["seeds"])


def _place(place: dict[str, Any]) -> tuple[object, ...]:
    counts = (place["pattern"], place["counter"], place["value"])
    return (*counts, _span(place["interval"]), place["n"], _each(place))


def _span(interval: dict[str, Any] | None) -> str | None:
    return f"{interval['low']:.2f} to {interval['high']:.2f}" if interval else None
