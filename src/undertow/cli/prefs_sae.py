"""``undertow prefs sae``: an autoencoder of a policy, for concepts of the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import AsJson, Fresh, Out, Seed
from undertow.cli.output import emit
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table


def command(
    data: Annotated[Path, typer.Argument(help="Parquet, JSONL or HF folder of chosen and rejected.")],
    model: Annotated[str, typer.Argument(help="Folder or hub id of a causal language model.")],
    out: Out,
    layer: Annotated[int | None, typer.Option(min=0, help="Block that is read, from 0 (the middle).")] = None,
    expansion: Annotated[int | None, typer.Option(min=1, help="Features a dimension (16).")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Features a token, on average.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1000, help="Tokens to train on (500000).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps (2000).")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable lines out.")] = False,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Train a sparse autoencoder on a policy's residual stream; written in SAELens' layout."""
    from undertow.preference.sae_run import SaeConfig, train_sae

    config = configure(
        SaeConfig, layer=layer, expansion=expansion, top=top, tokens=tokens, steps=steps,
        skip_bad=skip_bad, seed=seed,
    )  # fmt: skip
    with terminal_progress() as progress:
        summary = train_sae(data, model, out, config, progress, fresh)
    emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    yield (
        f"{summary['features']} features of layer {summary['layer']}, {summary['tokens']} tokens: "
        f"{summary['explained']:.0%} of the variance explained, {summary['active']:.1f} features a token, "
        f"{summary['alive']:.0%} alive"
    )
