"""``undertow prefs check``: predicted against observed shift."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.options import AsJson
from undertow.cli.output import emit, table

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 12


def command(
    before: Annotated[Path, typer.Argument(help="Answers of the start model to held-out prompts.")],
    after: Annotated[Path, typer.Argument(help="Answers of the trained model to the same prompts.")],
    run: Annotated[Path, typer.Option(help="Run directory of the audit.")],
    training: Annotated[
        Path, typer.Option(help="Run directory of `undertow train dpo`: its margin must rise.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compare what training did with what the audit predicted, beside length alone."""
    from undertow.preference.check import check_prediction
    from undertow.store.tables import to_jsonable

    emit(to_jsonable(check_prediction(before, after, run, training)), as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    margin = summary["margin"]
    yield f"margin {margin['before']:.3g} to {margin['after']:.3g}"
    lost = sum(summary["left_out"].values())
    told = f" ({lost} left out: empty)" if lost else ""
    yield f"{summary['pairs']:,} answers on {summary['prompts']:,} prompts{told}"
    rows = [
        (name, told["n"], told["r2"], told["spearman"], _range(told["interval"]), told["sign_accuracy"],
         told["signs"])
        for name, told in (("audit", summary["audit"]), ("length alone", summary["length_only"]))
    ]  # fmt: skip
    yield table(("predicted by", "concepts", "R²", "Spearman", "95 %", "right signs", "of clear ones"), rows)
    if summary["better"]:
        yield f"Spearman of the audit less that of length alone: {_range(summary['better'])}"
    most = sorted(summary["concepts"], key=lambda c: -abs(c["observed"]))[:_SHOWN]
    shifts = [
        (c["name"], c["predicted"], c["length_only"], c["observed"], _range(c["interval"])) for c in most
    ]
    yield table(("concept", "predicted", "by length", "observed", "95 %"), shifts)


def _range(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"
