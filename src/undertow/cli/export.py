"""``undertow export``: findings and rows for other tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from undertow.cli.options import AsJson
from undertow.cli.output import emit


def command(
    run: Annotated[Path, typer.Argument(help="Finished search or trace.")],
    to: Annotated[
        Literal["promptfoo", "inspect", "hf", "jsonl"],
        typer.Option(
            help="promptfoo: regression tests; inspect: a log and a task; hf: a datasets folder; "
            "jsonl: findings or rows."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File, or folder for hf and inspect.")],
    as_json: AsJson = False,
) -> None:
    """Write confirmed findings as regression tests, or findings and traced rows as data."""
    from undertow.report.export import export

    emit(export(run, to, out), as_json, _render)


def _render(done: dict[str, Any]) -> Iterator[str]:
    written = ", ".join(f"{n} {name}" for name, n in done.items() if name not in ("status", "form", "out"))
    yield f"{done['form']}: {written} in {done['out']}"
