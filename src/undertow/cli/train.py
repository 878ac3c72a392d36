"""``undertow train``: fine-tune a model on a data set, with proof that it learned."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertow.cli.configure import configure
from undertow.cli.options import AsJson, Fresh, Out, Seed
from undertow.cli.output import emit
from undertow.cli.progress import terminal_progress

if TYPE_CHECKING:
    from rich.table import Table

    from undertow.training.config import Steer

group = typer.Typer(no_args_is_help=True, help="Fine-tune a model, with proof that it learned.")


@group.callback()
def _group() -> None:
    """Fine-tune a model, with proof that it learned."""
    _collect_seldom()
    _keep_freed_memory()


def _collect_seldom() -> None:
    """Let the garbage collector walk the libraries' million objects less often, and not once more at exit.

    Of a command that takes 20 s these were 1.2 s and 1.3 s.
    """
    gc.set_threshold(10_000, 20, 10)
    atexit.register(gc.freeze)


def _keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one; handed back, every page of it faults again.

    A run of 1 M parameters had 0.6 M such faults, 1.5 s of processor time. Without glibc it does nothing.
    """
    trim, mapped = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(mapped, 1 << 25)
        set_option(trim, 1 << 30)


Data = Annotated[Path, typer.Option(help="Parquet, JSONL or Hugging Face folder; or --out of a fix.")]
Model = Annotated[str, typer.Option(help="Folder of save_pretrained, or a Hugging Face id.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the data; default 2 (sft), 1 (dpo).")]
Batch = Annotated[
    int | None, typer.Option(help="Rows or pairs a step and device; default 64 (sft), 32 (dpo).")
]
Accumulate = Annotated[int | None, typer.Option(help="Batches whose gradients are summed into one step.")]
MaxLength = Annotated[int | None, typer.Option(help="Longest row, tokens; default 1024.")]
Holdout = Annotated[float | None, typer.Option(help="Share of rows kept out of training and measured.")]
Lora = Annotated[bool, typer.Option("--lora", help="Train low-rank adapters and merge them.")]
Bf16 = Annotated[bool | None, typer.Option(help="Compute in bfloat16; default: where a GPU can.")]
Checkpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Recompute activations: less memory, slower.")
]
Direction = Annotated[
    Path | None, typer.Option("--steer", help="Direction of `fix --how steer`, added while training.")
]
Alpha = Annotated[float, typer.Option(help="steer: how much of the direction is added.")]
Trackers = Annotated[
    list[str] | None, typer.Option("--report-to", help="trackio, wandb, tensorboard …: as transformers.")
]


@group.command("sft")
def sft(
    data: Data,
    model: Model,
    out: Out,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate; default 2e-5, for full weights of 1-8 B; 5e-4 or more for 1 M."
        ),
    ] = None,
    epochs: Epochs = None,
    batch: Batch = None,
    accumulate: Accumulate = None,
    max_length: MaxLength = None,
    holdout: Holdout = None,
    lora: Lora = False,
    bf16: Bf16 = None,
    gradient_checkpointing: Checkpointing = False,
    steer: Direction = None,
    alpha: Alpha = 1.0,
    report_to: Trackers = None,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Supervised fine-tuning, the loss on response tokens alone; the result loads as local:OUT."""
    from undertow.training.config import LoRA, SFTConfig
    from undertow.training.sft import train_sft

    config = configure(
        SFTConfig, lr=lr, epochs=epochs, batch=batch, accumulate=accumulate, max_length=max_length,
        holdout=holdout, lora=LoRA() if lora else None, bf16=bf16,
        gradient_checkpointing=gradient_checkpointing, seed=seed,
    )  # fmt: skip
    with terminal_progress() as progress:
        summary = train_sft(
            data, model, out, config, progress, fresh=fresh, steer=_steer(steer, alpha, "both"),
            report_to=report_to or (),
        )  # fmt: skip
    _emit(summary, as_json)


@group.command("dpo")
def dpo(
    data: Data,
    model: Model,
    out: Out,
    beta: Annotated[
        float | None, typer.Option(help="Log-odds that a margin of 1 nat counts for; default 0.1.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak learning rate; default 1e-6, for full weights of 1-8 B; 3e-5 for 1 M."),
    ] = None,
    epochs: Epochs = None,
    batch: Batch = None,
    accumulate: Accumulate = None,
    max_length: MaxLength = None,
    holdout: Holdout = None,
    lora: Lora = False,
    bf16: Bf16 = None,
    gradient_checkpointing: Checkpointing = False,
    steer: Direction = None,
    alpha: Alpha = 1.0,
    side: Annotated[
        Literal["chosen", "rejected", "both"], typer.Option(help="steer: the responses that are steered.")
    ] = "both",
    report_to: Trackers = None,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Direct preference optimisation against the start model; the result loads as local:OUT.

    Columns offset, weight, chosen_mask, rejected_mask and policy_prompt of DATA change what a pair teaches.
    """
    from undertow.training.config import DPOConfig, LoRA
    from undertow.training.dpo import train_dpo

    config = configure(
        DPOConfig, beta=beta, lr=lr, epochs=epochs, batch=batch, accumulate=accumulate,
        max_length=max_length, holdout=holdout, lora=LoRA() if lora else None, bf16=bf16,
        gradient_checkpointing=gradient_checkpointing, seed=seed,
    )  # fmt: skip
    with terminal_progress() as progress:
        summary = train_dpo(
            data, model, out, config, progress, fresh=fresh, steer=_steer(steer, alpha, side),
            report_to=report_to or (),
        )  # fmt: skip
    _emit(summary, as_json)


def _steer(vector: Path | None, alpha: float, side: Literal["chosen", "rejected", "both"]) -> Steer | None:
    from undertow.training.config import Steer

    return None if vector is None else Steer(vector=vector, alpha=alpha, side=side)


def _emit(summary: dict[str, Any], as_json: bool) -> None:
    """Print the summary; of several processes the first alone does."""
    from undertow.training.run import is_first

    if is_first():
        emit(summary, as_json, _render)


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    if summary["reason"]:
        yield f"not a good run: {summary['reason']}"
    loss = summary["loss"]
    losses = f"loss {loss['before']:.3f} → {loss['after']:.3f}"
    yield f"{summary['steps']} steps on {summary['rows']} rows: {losses}"
    if "margin" in summary:
        margin, accuracy = summary["margin"], summary["accuracy"]
        yield (
            f"margin {margin['before']:.3f} → {margin['after']:.3f}, "
            f"accuracy {accuracy['before']:.1%} → {accuracy['after']:.1%}"
        )
    yield f"largest change of a parameter {summary['moved']:.2g}; model in {summary['out']}"
