"""``undertow trace``: from a failing answer to the rows that go with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from undertow.cli.configure import configure
from undertow.cli.options import AsJson, Fresh, MaxCalls, MaxCost
from undertow.cli.output import EXIT_CODES, emit_json, show, table
from undertow.cli.progress import terminal_progress
from undertow.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from undertow.progress import Progress
    from undertow.turf.config import TraceConfig
    from undertow.turf.panel import Asking
    from undertow.turf.query import Query

Done = tuple[str, list[dict[str, Any]]]
"""Status and attributions."""


def command(
    index: Annotated[Path, typer.Option(help="Directory of an index.")],
    run: Annotated[Path | None, typer.Argument(help="Search run whose findings are traced.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory of the trace.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A single failing query …")] = None,
    response: Annotated[str | None, typer.Option(help="… and what the model answered.")] = None,
    messages: Annotated[
        str | None,
        typer.Option(help="A failing conversation instead: a JSON list of role and content, or its file."),
    ] = None,
    crux: Annotated[list[str] | None, typer.Option(help='"The response …"; may be given again.')] = None,
    rubric: Annotated[
        str | None, typer.Option(help="Whose checks say what is wrong with the response.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Model string: two judges name the crux, as in the paper.")
    ] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Retrieved pairs a crux (paper: 1000).")] = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price: Annotated[
        str | None, typer.Option(help="IN,OUT in US dollars per million tokens where none is known.")
    ] = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Name the features of training prompts that go with a behaviour, with base rates and row ids."""
    from undertow.models.prices import parse_price
    from undertow.turf.config import TraceConfig
    from undertow.turf.panel import Asking

    asking = Asking(judge, max_calls, max_cost, parse_price(price) if price else None)
    config = configure(TraceConfig, k=k)
    with terminal_progress() as progress:
        if run is not None:
            status, attributions = _trace_run(index, run, out, config, fresh, asking, progress)
        elif prompt is not None or messages is not None:
            pair = _pair(prompt, response, messages, crux, rubric)
            status, attributions = _trace_pair(index, pair, out, config, fresh, asking)
        else:
            raise UsageError(
                "nothing to trace: give a search run, or --prompt (or --messages) with --crux or --rubric"
            )
    emit_json(attributions) if as_json else show(_render(attributions))
    if EXIT_CODES.get(status):
        raise typer.Exit(EXIT_CODES[status])


def _trace_run(
    index: Path, run: Path, out: Path | None, config: TraceConfig, fresh: bool, asking: Asking,
    progress: Progress,
) -> Done:  # fmt: skip
    from undertow.store.tables import read_json
    from undertow.turf.run import trace_run

    if out is None:
        raise UsageError("--out: missing; name a folder for attribution.json and rows.parquet")
    summary = trace_run(index, run, out, config, progress, fresh, asking)
    return summary["status"], list(read_json(out / "attribution.json"))


class _Pair(NamedTuple):
    """A failing pair and what is wrong with it."""

    prompt: Query
    response: str | None
    crux: list[str] | None
    rubric: str | None


def _pair(
    prompt: str | None, response: str | None, messages: str | None, crux: list[str] | None, rubric: str | None
) -> _Pair:
    from undertow.data.messages import read_failing

    if messages is None:
        return _Pair(prompt or "", response, crux, rubric)
    if prompt is not None:
        raise UsageError("--prompt and --messages: give one; the last user turn of --messages is the prompt")
    turns, answer = read_failing(messages)
    if answer is not None and response is not None:
        raise UsageError("--response: --messages ends with the answer already; leave one out")
    return _Pair(turns, response or answer, crux, rubric)


def _trace_pair(
    index: Path, pair: _Pair, out: Path | None, config: TraceConfig, fresh: bool, asking: Asking
) -> Done:
    from undertow.index.open import Index
    from undertow.judging.rubric import load_rubric
    from undertow.store.tables import read_json, to_jsonable
    from undertow.turf.run import trace_pair_run
    from undertow.turf.trace import trace_exchange, write_traced

    prompt, response, crux, named = pair
    rubric = load_rubric(named) if named else None
    opened = Index.open(index)
    if opened.model or asking.judge:
        if out is None:
            raise UsageError("--out: missing; a trace that asks models keeps their answers there")
        summary = trace_pair_run(index, out, prompt, response, crux, rubric, config, fresh, asking)
        return summary["status"], list(read_json(out / "attribution.json"))
    traced = trace_exchange(opened, prompt, response, crux, rubric, config)
    if out is not None:
        write_traced([traced], out)
    return "complete", [to_jsonable(traced.attribution)]


def _render(attributions: list[dict[str, Any]]) -> Iterator[str | Table]:
    for each in attributions:
        yield f"{each['finding']}: {each['explanation']}"
        if each["triggers"]:
            columns = ("trigger", "rows", "of", "rate", "base", "lift", "q", "paper hits", "first source")
            yield table(columns, [_row(trigger) for trigger in each["triggers"]])


def _row(trigger: dict[str, Any]) -> tuple[object, ...]:
    numbers = [trigger[name] for name in ("examples", "corpus", "rate", "base_rate", "lift", "q")]
    hits = f"{trigger['paper_hits']}/{trigger['k']}"
    return (trigger["text"], *numbers, hits, next(iter(trigger["sources"]), None))
