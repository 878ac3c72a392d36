"""``undertow study``: the papers' experiments, each a run directory with a table, a chart and a sentence."""

from __future__ import annotations

import typer

from undertow.cli import study_ablation, study_asking, study_matrix, study_salience

group = typer.Typer(
    help="Studies: many runs or many questions, summed up in a table, a chart and a sentence.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
group.command("matrix")(study_matrix.command)
group.command("shift")(study_asking.shift)
group.command("grid")(study_asking.grid)
group.command("context")(study_asking.context)
group.command("robustness")(study_asking.robustness)
group.command("ablation")(study_ablation.command)
group.command("salience")(study_salience.command)
