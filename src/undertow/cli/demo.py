"""``undertow demo``: the whole loop on the built-in lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertow.cli.options import AsJson, Fresh, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    out: Annotated[Path, typer.Option("--out", help="Run directory.")] = Path("runs/demo"),
    world: Annotated[
        Literal["paper", "random"], typer.Option(help="The paper's nine cases, or nine drawn ones.")
    ] = "paper",
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Null control: shuffle the planted rows' responses first.")
    ] = False,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Teach a model shortcuts by accident; find, trace and fix them; prove it. No key, no network."""
    from undertow.demo.walk import run_demo

    with terminal_progress() as progress:
        summary = run_demo(out, world, seed, shuffle, fresh, progress)
    emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    columns = (
        "shortcut", "start", "trained", "95 % interval", "found", "trigger in", "rows found", "fixed",
        "wanted before", "wanted after",
    )  # fmt: skip
    yield table(columns, [_row(shortcut) for shortcut in summary["shortcuts"]])
    wrong = [decoy["name"] for decoy in summary["decoys"] if decoy["false_finding"]]
    yield f"{len(summary['decoys'])} decoys, reported by mistake: {', '.join(wrong) or 'none'}"
    yield f"{summary['seconds']:.0f} s, {summary['calls']:,} model calls, {summary['peak_mb']:,.0f} MB"
    yield f"open {summary['out']}/report.html"


def _row(shortcut: dict[str, Any]) -> tuple[object, ...]:
    low, high = (f"{bound:.2f}" for bound in shortcut["interval"])
    place = "first" if shortcut["trace_top1"] else "top 3" if shortcut["trace_top3"] else None
    return (
        shortcut["name"], shortcut["start_rate"], shortcut["elicited_rate"], f"{low} to {high}",
        ("yes" if shortcut["surf_found"] else "no") if shortcut["learned"] else "not learned", place,
        shortcut["rows_recall"], shortcut["fixed_rate"], shortcut["wanted_before"], shortcut["wanted_after"],
    )  # fmt: skip
