"""``undertow verify``: a finding before and after a fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson, Fresh, Out
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    before: Annotated[str, typer.Argument(help="Model string of the model that was searched.")],
    after: Annotated[str, typer.Argument(help="Model string of the model after the fix.")],
    run: Annotated[Path, typer.Option(help="Run directory of the search.")],
    out: Out,
    judge: Annotated[str | None, typer.Option(help="As in the search; default: the search's own.")] = None,
    attributes: Annotated[
        Path | None,
        typer.Option(
            help="The search's attributes: AFTER is searched again with as many calls, which tells whether "
            "the behaviour has moved elsewhere."
        ),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="The search's prompt bank, where it had one.")] = None,
    rubric: Annotated[
        list[str] | None,
        typer.Option(help="Off-target behaviours beside the shipped ones: rubrics with checks. Repeatable."),
    ] = None,
    capability: Annotated[
        Path | None, typer.Option(help="JSONL of prompt and answer, or regex: right before and after?")
    ] = None,
    system_after: Annotated[
        Path | None,
        typer.Option(help="Text file: a system prompt that AFTER alone reads. `fix --how system-prompt`."),
    ] = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Ask both models the search's confirmation prompts again, paired, and say what changed."""
    from undertow.report.build import write_report
    from undertow.studies.verify import verify

    with terminal_progress() as progress:
        summary = verify(
            before, after, run, out, judge, progress, fresh, attributes=attributes, prompts=prompts,
            rubrics=rubric or (), capability=capability, system_after=_clause(system_after),
        )  # fmt: skip
    write_report(Path(summary["out"]))
    emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    columns = ("finding", "verdict", "before", "after", "difference", "95 % interval", "pairs")
    yield table(columns, [_row(finding) for finding in summary["findings"]])
    if not summary["findings"]:
        yield "the search confirmed nothing, so there is nothing to verify"
    yield from _beside(summary)
    yield f"open {summary['out']}/report.html"


def _clause(path: Path | None) -> str:
    from undertow.surf.context import read_text

    return read_text(path) if path else ""


def _beside(summary: dict[str, Any]) -> Iterator[str | Table]:
    """Tell what else the fix did."""
    found, able, again = summary.get("off_target"), summary.get("capability"), summary.get("search")
    if found and found["tested"]:
        changed = [row for row in found["behaviours"] if row["changed"]]
        if changed:
            columns = ("also changed", "before", "after", "difference", "95 % interval", "q", "with it")
            yield table(columns, [_behaviour(row) for row in changed[:_MOST]])
        rest = f", of which {_MOST} are shown" if len(changed) > _MOST else ""
        yield (
            f"{len(changed)} of {found['tested']} other behaviours changed (q < 0.05){rest}. with it: share "
            "of the responses showing one that show what was verified too; near 100 % it is a part of that"
        )
    if able:
        yield (
            f"capability: {_share(able['before'])} right before, {_share(able['after'])} after, difference "
            f"{_signed(able['difference'])} ({_span(able['interval'])}), {able['pairs']} questions"
        )
    if again:
        where = [" and ".join(each["attributes"]) for each in again["elsewhere"]]
        yield f"a search of the model after ({again['status']}): {_elsewhere(where)}"


_MOST = 12


def _elsewhere(where: list[str]) -> str:
    return f"the behaviour now stands where {'; '.join(where)}" if where else "confirmed no other trigger"


def _behaviour(row: dict[str, Any]) -> tuple[object, ...]:
    low, high = row["interval"]
    rates = (row["before"]["value"], row["after"]["value"], row["difference"])
    return (
        row["name"],
        *rates,
        f"{low:+.2f} to {high:+.2f}",
        f"{row['q']:.1g}",
        f"{row['with_behaviour']:.0%}",
    )


def _share(rate: dict[str, Any]) -> str:
    return "–" if rate["value"] is None else f"{rate['value']:.0%}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _span(interval: dict[str, Any] | None) -> str:
    return f"{interval['low']:+.2f} to {interval['high']:+.2f}" if interval else "no interval"


def _row(finding: dict[str, Any]) -> tuple[object, ...]:
    interval = finding["difference_interval"]
    spread = _span(interval) if interval else None
    rates = (finding["before"]["value"], finding["after"]["value"], finding["difference"])
    return (finding["finding"], finding["verdict"], *rates, spread, finding["pairs"])
