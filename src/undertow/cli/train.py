"""``undertow train``: fine-tune a model on a data set, with proof that it learned."""

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

group = typer.Typer(no_args_is_help=True, help="Fine-tune a model, with proof that it learned.")


@group.callback()
def _group() -> None:
    """Fine-tune a model, with proof that it learned."""


@group.command("sft")
def sft(
    data: Annotated[Path, typer.Option(help="Parquet or JSONL with prompt/response or messages.")],
    model: Annotated[str, typer.Option(help="Folder of save_pretrained, or a Hugging Face id.")],
    out: Out,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate; default 2e-5, for full weights of 1-8 B; 5e-4 or more for 1 M."
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data; default 2.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step; default 64.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest row, tokens; default 1024.")] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train low-rank adapters and merge them.")] = False,
    bf16: Annotated[bool | None, typer.Option(help="Compute in bfloat16; default: where a GPU can.")] = None,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Supervised fine-tuning, the loss on response tokens alone; the result loads as local:OUT."""
    from undertow.training.config import LoRA, SFTConfig
    from undertow.training.sft import train_sft

    config = configure(
        SFTConfig, lr=lr, epochs=epochs, batch=batch, max_length=max_length,
        lora=LoRA() if lora else None, bf16=bf16, seed=seed,
    )  # fmt: skip
    with terminal_progress() as progress:
        summary = train_sft(data, model, out, config, progress, fresh=fresh)
    emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    if summary["reason"]:
        yield f"not a good run: {summary['reason']}"
    loss = summary["loss"]
    losses = f"loss {loss['before']:.3f} → {loss['after']:.3f}"
    yield f"{summary['steps']} steps on {summary['rows']} rows: {losses}"
    yield f"largest change of a parameter {summary['moved']:.2g}; model in {summary['out']}"
