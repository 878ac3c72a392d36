"""``undertow query``: where a phrase or an attribute stands in the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson
from undertow.cli.output import emit, table

if TYPE_CHECKING:
    from rich.table import Table


def command(
    index: Annotated[Path, typer.Argument(help="Directory of an index.")],
    pattern: Annotated[str | None, typer.Argument(help="Regular expression (RE2).")] = None,
    given: Annotated[str | None, typer.Option(help="With --then: a pattern of the prompt.")] = None,
    then: Annotated[str | None, typer.Option(help="P(then in the response | given in the prompt).")] = None,
    beside: Annotated[
        str | None, typer.Option(help="Another pattern: how often it stands in a row with the first.")
    ] = None,
    over: Annotated[
        str | None, typer.Option(help="A source: phrases and features it has more than the others.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, max=10_000, help="Examples and attributes shown.")] = 5,
    case_sensitive: Annotated[bool, typer.Option("--case-sensitive", help="Tell A from a.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count a phrase by source, or one thing given another, with intervals and examples."""
    from undertow.index.open import Index
    from undertow.index.query import query

    emit(
        query(Index.open(index), pattern, given, then, limit, case_sensitive, beside, over), as_json, _render
    )


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    if "matches" in summary:
        matches = summary["matches"]
        yield f"{matches['rows']:,} of {summary['rows']:,} rows ({matches['in_prompt']:,} in the prompt)"
        rows = [(m["source"], m["hits"], m["share"], m["rows"], m["rate"]) for m in matches["by_source"]]
        yield table(("source", "hits", "share of hits", "rows of source", "rate in source"), rows)
        yield table(("id", "source", "prompt", "response"), map(_example, summary["examples"]))
        attributes = [(a["side"], a["text"], a["count"]) for a in summary["attributes"]]
        yield table(("side", "attribute", "rows"), attributes)
    if "conditional" in summary:
        yield from _conditional(summary["conditional"])
    if "together" in summary:
        yield from _together(summary["together"])
    for side, found in summary.get("overrepresented", {}).items():
        more = [(f["text"], f["rows"], f["rate"], f["elsewhere"], f["lift"], f["q"]) for f in found]
        yield table((f"more in this source ({side})", "rows", "rate", "elsewhere", "lift", "q"), more)


def _example(example: dict[str, Any]) -> tuple[str, str, str, str]:
    return (example["id"], example["source"], example["prompt"][:200], example["response"][:200])


def _together(found: dict[str, Any]) -> Iterator[str | Table]:
    if found["rate"] is None:
        yield "no row matches the first pattern, so there is no rate"
        return
    interval = found["rate_interval"]
    yield (
        f"both in {found['both']:,} rows: {found['rate']:.3f} of the first's {found['one']:,} "
        f"({interval['low']:.3f} to {interval['high']:.3f}), base rate {found['base_rate']:.3f}"
    )
    within = found["within_source_or"]
    yield f"odds ratio within sources {within:.3g}" if within is not None else "no source tells the two apart"
    rows = [(s["source"], s["rows"], s["one"], s["other"], s["both"]) for s in found["by_source"]]
    yield table(("source", "rows", "first", "second", "both"), rows)


def _conditional(found: dict[str, Any]) -> Iterator[str | Table]:
    if found["rate"] is None:
        yield "no row's prompt matches --given, so there is no rate"
        return
    interval = found["rate_interval"]
    spread = f"95 % interval {interval['low']:.3f} to {interval['high']:.3f}"
    counts = f"{found['both']:,} of {found['given']:,}"
    yield f"P(then | given) = {found['rate']:.3f} ({spread}; {counts})"
    base = found["base_rate_interval"]
    yield (
        f"base rate {found['base_rate']:.3f} ({base['low']:.3f} to {base['high']:.3f})" if base else "no row"
    )
    rows = [(s["source"], s["given"], s["both"]) for s in found["by_source"]]
    yield table(("source", "given", "both"), rows)
