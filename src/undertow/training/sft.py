"""Supervised fine-tuning: rows in, an ordinary model folder out, with proof that it learned.

A killed run goes on at its last checkpoint and ends with the weights of the undisturbed one. Columns
``weight`` and ``response_mask`` change what a row teaches; ``undertow fix`` writes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.data.load import ExampleTable, load_examples
from undertow.errors import UsageError
from undertow.models.local import model_revision
from undertow.progress import SILENT, Progress
from undertow.training.config import SFTConfig, Steer
from undertow.training.model import adapters, load_trainable, moved, room, save_model, snapshot
from undertow.training.run import (
    curve_of,
    fine_tune,
    quiet_libraries,
    take_steps,
    trainer_settings,
    write_log,
)
from undertow.training.signal import data_file, read_signal, steer_identity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from undertow.training.encode import Encoded
    from undertow.training.signal import Signal
    from undertow.training.trainer import ResponseTrainer

DEFAULTS = SFTConfig()
_PROBE_ROWS = 256
"""Rows whose loss is taken before and after."""
_UNKNOWN = 0.01
"""Share of unknown response tokens from which the user is warned."""


def train_sft(
    data: Path,
    model: str | Path,
    out: Path,
    config: SFTConfig = DEFAULTS,
    progress: Progress = SILENT,
    seed: int | None = None,
    fresh: bool = False,
    steer: Steer | None = None,
    report_to: Sequence[str] = (),
) -> dict[str, Any]:
    """Fine-tune ``model`` on the responses of ``data`` and save it to ``out``, which loads as ``local:OUT``.

    Args:
        data: Anything ``load_examples`` reads, or the run directory of a fix.
        model: A folder of ``save_pretrained`` or a Hugging Face id, with or without ``local:``.
        out: Run directory and model folder in one.
        config: Settings of the fine-tune.
        progress: Where steps are reported.
        seed: Replaces ``config.seed``.
        fresh: Empty a run directory of ours first.
        steer: A direction to be added while it trains; that of the fix, where ``data`` is one.
        report_to: Trackers that transformers knows, as ``trackio`` or ``wandb``.

    Returns:
        ``summary.json``: ``loss`` (before, after; mean per response token over some training rows),
        ``held_out`` (the same over kept-out rows), ``curve``, ``steps``, ``rows``, ``moved`` (largest change
        of a trained parameter) and ``reason``. The status is ``failed``, and no model is published, when a
        loss is not finite or did not fall, or when nothing moved.

    Raises:
        UsageError: data, model or ``out`` cannot be used.
    """
    if seed is not None:
        config = config.model_copy(update={"seed": seed})
    path = str(model).removeprefix("local:")
    file, steer = data_file(Path(data), steer)
    examples = load_examples(file)
    job = _Job(examples, path, config, steer, tuple(report_to), progress)
    return fine_tune(out, "train sft", job.identity(), job.inputs(), fresh, job.train)


@dataclass(frozen=True)
class _Job:
    """One fine-tune, fully told."""

    examples: ExampleTable
    path: str
    config: SFTConfig
    steer: Steer | None
    report_to: tuple[str, ...]
    progress: Progress

    def identity(self) -> dict[str, object]:
        return {**self.config.model_dump(), **steer_identity(self.steer)}

    def inputs(self) -> dict[str, str]:
        return {"data": self.examples.hash, "model": model_revision(self.path) or self.path}

    def train(self, work: Path, folder: Path | None) -> dict[str, Any]:
        """Train, measure, save into ``folder``; return the summary."""
        with quiet_libraries():
            weights, tokenizer = load_trainable(self.path, self.config)
            signal = read_signal(self.examples.path, self.examples.table["id"], ["response"])
            _refuse_pair_columns(signal, self.examples.path)
            rows = _encode(self.examples, tokenizer, room(weights, self.config), signal, self.config)
            _warn_unknown(rows.encoded, self.progress)
            trainer = self._build_trainer(weights, tokenizer, rows, work)
            before = _measure(trainer, rows)
            start = snapshot(trainer.model)
            take_steps(trainer, work, self.progress)
            after = _measure(trainer, rows)
            change = moved(trainer.model, start)
            curve = curve_of(trainer, {"loss": "loss"})
            reason = _why_failed(before["loss"], after["loss"], change, [point["loss"] for point in curve])
            if folder is not None:
                write_log(trainer, folder)
            if folder is not None and not reason:
                save_model(trainer.model, tokenizer, folder)
        dropped = rows.encoded.dropped
        return {
            "model": self.path,
            "data": str(self.examples.path),
            "rows": len(rows.train),
            "steps": trainer.state.global_step,
            "loss": {"before": before["loss"], "after": after["loss"]},
            "held_out": {
                "before": before["held_out"],
                "after": after["held_out"],
                "rows": len(rows.held_out),
            },
            "moved": change,
            "reason": reason,
            "curve": curve,
            "truncated": rows.encoded.truncated,
            "unknown_tokens": rows.encoded.unknown,
            "masked_tokens": rows.encoded.masked,
            "counts": {
                "tried": len(self.examples),
                "scored": len(self.examples) - dropped,
                "failed": dropped,
            },
            "failures": {"too_long": dropped} if dropped else {},
        }

    def _build_trainer(self, model: Any, tokenizer: Any, rows: _Rows, work: Path) -> ResponseTrainer:
        from trl import SFTConfig as TRLConfig

        from undertow.training.order import LengthOrder
        from undertow.training.steering import load_steering
        from undertow.training.trainer import Collator, ResponseTrainer

        args = TRLConfig(
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            **trainer_settings(self.config, work, len(rows.train), self.report_to),
        )
        return ResponseTrainer(
            rows=rows.train,
            order=LengthOrder(rows.encoded.lengths[rows.train], self.config.batch, self.config.seed),
            steering=load_steering(self.steer, model),
            model=model,
            args=args,
            data_collator=Collator(rows.encoded, tokenizer.pad_token_id, rows.weight),
            processing_class=tokenizer,
            peft_config=adapters(self.config),
        )


@dataclass(frozen=True)
class _Rows:
    """The encoded rows and which of them serve for what."""

    encoded: Encoded
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    probe: NDArray[np.int64]
    weight: NDArray[np.float32] | None
    """Factor on the loss of each encoded row."""


def _encode(
    examples: ExampleTable, tokenizer: Any, max_length: int, signal: Signal, config: SFTConfig
) -> _Rows:
    import numpy as np

    from undertow.training.encode import encode_rows

    encoded = encode_rows(examples.table, tokenizer, max_length, signal.masks.get("response"))
    weight = None if signal.weight is None else signal.weight[encoded.rows]
    rows = np.random.default_rng([config.seed, 0x5F7]).permutation(len(encoded))
    held = round(config.holdout * len(rows))
    if held == len(rows):
        raise UsageError(f"holdout {config.holdout} leaves none of {len(rows)} rows to train; lower it")
    train = np.sort(rows[held:])
    return _Rows(
        encoded,
        train,
        _by_length(rows[:held], encoded),
        _by_length(rows[held:][:_PROBE_ROWS], encoded),
        weight,
    )


def _by_length(rows: NDArray[np.int64], encoded: Encoded) -> NDArray[np.int64]:
    import numpy as np

    return rows[np.argsort(encoded.lengths[rows], kind="stable")]


def _refuse_pair_columns(signal: Signal, path: Path) -> None:
    for name, value in (("offset", signal.offset), ("policy_prompt", signal.policy_prompt)):
        if value is not None:
            raise UsageError(f"{path}: column {name} is for pairs (train dpo); rows have no reference")


def _warn_unknown(encoded: Encoded, progress: Progress) -> None:
    if encoded.unknown > _UNKNOWN:
        progress.say(
            f"warning: the tokenizer does not know {encoded.unknown:.1%} of the response tokens; the model "
            "cannot learn to write them: choose a model whose tokenizer fits the data"
        )


def _measure(trainer: ResponseTrainer, rows: _Rows) -> dict[str, float | None]:
    return {"loss": trainer.mean_loss(rows.probe), "held_out": trainer.mean_loss(rows.held_out)}


def _why_failed(before: float | None, after: float | None, moved: float, curve: list[float]) -> str:
    """Say why the run proves no learning; empty when it does."""
    losses = [before, after, moved, *curve]
    if any(value is None or not math.isfinite(value) for value in losses):
        return "the loss is not finite; lower the learning rate"
    if moved == 0:
        return "no parameter moved"
    if before is not None and after is not None and after >= before:
        return f"the loss on training rows did not fall ({before:.4f} before, {after:.4f} after)"
    return ""
