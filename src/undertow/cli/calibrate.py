"""``undertow calibrate``: how far a judge can be trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson, Fresh, MaxCalls, MaxCost, Out, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress
from undertow.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from undertow.records import Rate


def command(
    rubric: Annotated[str, typer.Argument(help="Name of a shipped rubric, or a YAML file.")],
    out: Out,
    labels: Annotated[
        Path | None,
        typer.Argument(help="CSV, JSONL or Parquet: prompt, response, label, rater…; default: shipped ones."),
    ] = None,
    judge: Annotated[
        list[str] | None, typer.Option(help='"checks", a model string or checks+MODEL; repeat it.')
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Observed rate x/n to correct.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Search whose confirmed findings' rates are corrected.")
    ] = None,
    thinking: Annotated[
        int | None, typer.Option(min=1, help="Thinking budget of the judge models, tokens.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Calls in flight a judge.")] = None,
    max_cost: MaxCost = None,
    max_calls: MaxCalls = None,
    price: Annotated[
        str | None, typer.Option(help="IN,OUT in US dollars per million tokens where none is known.")
    ] = None,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Put judges to labelled exchanges: sensitivity, specificity, κ, α, and rates corrected by them."""
    from undertow.judging.calibrate import Spending, calibrate
    from undertow.models.prices import parse_price

    spending = Spending(concurrency, max_calls, max_cost, parse_price(price) if price else None)
    with terminal_progress() as progress:
        summary = calibrate(
            rubric, out, labels, judge or ("checks",), rate=_rate(rate), run=run, seed=seed,
            thinking=thinking, spending=spending, fresh=fresh, progress=progress,
        )  # fmt: skip
    emit(summary, as_json, _render)


def _rate(text: str | None) -> Rate | None:
    """Read ``x/n``."""
    from undertow.stats.intervals import rate

    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,12})\s*/\s*(\d{1,12})\s*", text)
    if not found or not int(found[2]) > 0 or int(found[1]) > int(found[2]):
        raise UsageError(f"--rate {text!r}: write x/n, such as 12/40")
    return rate(int(found[1]), int(found[2]))


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    labels = summary["labels"]
    yield f"{summary['rubric']}: {labels['n']} labelled exchanges, {labels['violations']} violations"
    columns = ("judge", "n", "failed", "sensitivity", "specificity", "κ", "TP", "FN", "FP", "TN")
    yield table(columns, [_row(judge) for judge in (*summary["judges"], *summary["raters"])])
    for name, said in (("alpha", "α of labels, raters and judges"), ("alpha_humans", "α of the humans")):
        if summary[name]:
            yield f"{said}: {_spread(summary[name])}"
    for judge in summary["judges"]:
        if judge["corrected"]:
            observed = summary["rate"]
            yield f"{judge['judge']}: observed {observed['value']:.2f}, {_corrected(judge['corrected'])}"
    for finding in summary["findings"] or ():
        rate = finding["rate"]
        seen = f"observed {_spread(rate['observed'])}"
        yield f"{finding['finding']}: {seen}, {_corrected(rate)}"


def _row(judge: dict[str, Any]) -> tuple[object, ...]:
    rates = (_spread(judge[name]) for name in ("sensitivity", "specificity", "kappa"))
    counts = (judge["confusion"][name] for name in ("tp", "fn", "fp", "tn"))
    return (judge.get("judge") or judge["rater"], judge["n"], judge.get("failed", 0), *rates, *counts)


def _corrected(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return f"not corrected: {found['reason']}"
    return f"corrected {_spread(found)}"


def _spread(found: dict[str, Any]) -> str:
    """Write a value with its interval, or why there is none."""
    interval = found["interval"]
    if found["value"] is None or interval is None:
        return found.get("reason") or "–"
    return f"{found['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"
