"""``undertow trace``: from a failing answer to the rows that go with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import AsJson, Fresh
from undertow.cli.output import emit_json, show, table
from undertow.cli.progress import terminal_progress
from undertow.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from undertow.progress import Progress


def command(
    index: Annotated[Path, typer.Option(help="Directory of an index.")],
    run: Annotated[Path | None, typer.Argument(help="Search run whose findings are traced.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory of the trace.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A single failing query …")] = None,
    response: Annotated[str | None, typer.Option(help="… and what the model answered.")] = None,
    crux: Annotated[list[str] | None, typer.Option(help='"The response …"; may be given again.')] = None,
    rubric: Annotated[
        str | None, typer.Option(help="Whose checks say what is wrong with the response.")
    ] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Retrieved pairs a crux (paper: 1000).")] = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Name the features of training prompts that go with a behaviour, with base rates and row ids."""
    with terminal_progress() as progress:
        if run is not None:
            attributions = _trace_run(index, run, out, k, fresh, progress)
        elif prompt is not None:
            attributions = _trace_pair(index, prompt, response, crux, rubric, k, out)
        else:
            raise UsageError("nothing to trace: give a search run, or --prompt with --crux or --rubric")
    emit_json(attributions) if as_json else show(_render(attributions))


def _trace_run(
    index: Path, run: Path, out: Path | None, k: int | None, fresh: bool, progress: Progress
) -> list[dict[str, Any]]:
    from undertow.store.tables import read_json
    from undertow.turf.config import TraceConfig
    from undertow.turf.trace import trace_run

    if out is None:
        raise UsageError("--out: missing; name a folder for attribution.json and rows.parquet")
    trace_run(index, run, out, configure(TraceConfig, k=k), progress, fresh)
    return list(read_json(out / "attribution.json"))


def _trace_pair(
    index: Path, prompt: str, response: str | None, crux: list[str] | None, rubric: str | None,
    k: int | None, out: Path | None,
) -> list[dict[str, Any]]:  # fmt: skip
    from undertow.index.open import Index
    from undertow.judging.rubric import load_rubric
    from undertow.store.tables import to_jsonable
    from undertow.turf.config import TraceConfig
    from undertow.turf.trace import trace_exchange, write_traced

    judged = load_rubric(rubric) if rubric else None
    traced = trace_exchange(Index.open(index), prompt, response, crux, judged, configure(TraceConfig, k=k))
    if out is not None:
        write_traced([traced], out)
    return [to_jsonable(traced.attribution)]


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
