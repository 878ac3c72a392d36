"""``undertow study``: comparisons over many runs."""

from __future__ import annotations

import typer

from undertow.cli import study_matrix

group = typer.Typer(
    help="Studies over many runs: models × behaviours.", no_args_is_help=True, rich_markup_mode=None
)
group.command("matrix")(study_matrix.command)
