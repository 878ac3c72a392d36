"""``undertow demo``: the whole loop on the built-in lab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    columns = ("shortcut", "start", "trained", "found", "rows", "fixed", "random", "wanted")
    yield table(columns, [_row(shortcut) for shortcut in summary["shortcuts"]])
    yield (
        "start, trained, fixed: rate of the behaviour where it is wrong, by model. found: place of the true "
        "trigger in the trace. rows: share of the planted rows traced. random: the rate without as many "
        "random rows of the same sources in place of the traced. wanted: the behaviour where it is right, "
        "before > after the fix. In brackets 95 % intervals; the report has those of the others."
    )
    yield f"n = {', '.join(sorted({str(s['n']) for s in summary['shortcuts']}))} held-out prompts a rate"
    wrong = [decoy["name"] for decoy in summary["decoys"] if decoy["false_finding"]]
    yield f"{len(summary['decoys'])} decoys, reported by mistake: {', '.join(wrong) or 'none'}"
    yield from _preference(summary.get("preference") or {})
    yield f"{summary['seconds']:.0f} s, {summary['calls']:,} model calls, {summary['peak_mb']:,.0f} MB"
    yield f"open {summary['out']}/report.html"


def _preference(found: dict[str, Any]) -> Iterator[str | Table]:
    if not found.get("trait"):
        yield "preference pairs: the audit names nothing that goes without what was asked for"
        return
    columns = ("preference pairs", "shows it", "wanted", "predicted", "observed")
    start = ("start model", _rated(found, "start_rate", "start_interval"), _percent(found["wanted_start"]))
    plain = ("trained on all", _rated(found, "dpo_rate", "dpo_interval"), _percent(found["wanted_dpo"]))
    fixed = [
        (
            f"{fix['how']} {fix['strength']:g}", _rated(fix, "rate", "interval"),
            _percent(fix["wanted_rate"]),
            _points(fix["predicted_shift"]), _points(fix["observed_shift"]),
        )
        for fix in found["fixes"]
    ]  # fmt: skip
    yield table(columns, [(*start, "", ""), (*plain, "", ""), *fixed])
    yield (
        f"The audit names {found['trait']!r}; n = {found['n']} held-out questions a rate. wanted: what the "
        "judge was right to reward. predicted: what the fix takes from what the pairs reward, per 100 pairs; "
        "observed: answers that show it, in points, against the run without a fix."
    )


def _rated(of: dict[str, Any], value: str, interval: str) -> str:
    return _percent(of[value]) + _spread(of[interval])


def _points(shift: float | None) -> str:
    return "–" if shift is None else f"{100 * shift:+.0f}"


def _row(shortcut: dict[str, Any]) -> tuple[str, ...]:
    place = "1st" if shortcut["trace_top1"] else "top 3" if shortcut["trace_top3"] else "not traced"
    found = place if shortcut["surf_found"] else "no"
    percent = {key: _percent(shortcut[key]) for key in shortcut if key.endswith(("_rate", "_recall"))}
    wanted = f"{_percent(shortcut['wanted_before'])} > {_percent(shortcut['wanted_after'])}"
    learned = "" if shortcut["learned"] else " (not learned)"
    return (
        shortcut["name"], percent["start_rate"],
        percent["elicited_rate"] + _spread(shortcut["interval"]) + learned, found,
        percent["rows_recall"], percent["fixed_rate"] + _spread(shortcut["fixed_interval"]),
        percent["control_rate"], wanted,
    )  # fmt: skip


def _spread(interval: Sequence[float] | None) -> str:
    return f" ({interval[0]:.0%}–{interval[1]:.0%})".replace("%–", "–") if interval else ""


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
