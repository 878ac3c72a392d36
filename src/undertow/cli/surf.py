"""``undertow surf``: search a model for a behaviour in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson, Fresh, Out
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress
from undertow.cli.search_options import SearchOptions, render_plan, with_search_options

if TYPE_CHECKING:
    from rich.table import Table


@with_search_options
def command(
    target: Annotated[
        str, typer.Option(help="Model string, such as local:PATH or openai-compatible:URL#NAME.")
    ],
    rubric: Annotated[str, typer.Option(help="Name of a shipped rubric, or a YAML file.")],
    attributes: Annotated[Path, typer.Option(help="Index directory, or JSONL with text a line.")],
    out: Out,
    search: SearchOptions,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Search a model for prompts that draw a behaviour where it is wrong, and confirm what is found."""
    from undertow.surf.run import plan_surf, run_surf

    config = search.config()
    if search.dry_run:
        planned = plan_surf(target, rubric, attributes, config, **search.roles())
        return emit(planned, as_json, render_plan)
    with terminal_progress() as progress:
        summary = run_surf(
            target, rubric, attributes, out, config, prompts=search.prompts, fresh=fresh, progress=progress,
            **search.roles(),
        )  # fmt: skip
    return emit(summary, as_json, _render)


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
