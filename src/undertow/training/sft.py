"""Supervised fine-tuning: rows in, an ordinary model folder out, with proof that it learned.

A killed run goes on at its last checkpoint and ends with the weights of the undisturbed one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.data.load import ExampleTable, load_examples
from undertow.errors import UsageError
from undertow.models.local import model_revision
from undertow.progress import SILENT, Progress
from undertow.store.run import RunDir
from undertow.training.config import SFTConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from undertow.training.encode import Encoded
    from undertow.training.order import LengthOrder
    from undertow.training.trainer import ResponseTrainer

DEFAULTS = SFTConfig()
_CHECKPOINTS = "checkpoints"
_PROBE_ROWS = 256
"""Rows whose loss is taken before and after."""
_UNKNOWN = 0.01
"""Share of unknown response tokens from which the user is warned."""
_SNAPSHOT = 1 << 20
"""Entries of a weight compared before and after; a larger weight is sampled evenly."""
_CURVE_POINTS = 20


def train_sft(
    data: Path,
    model: str | Path,
    out: Path,
    config: SFTConfig = DEFAULTS,
    progress: Progress = SILENT,
    seed: int | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Fine-tune ``model`` on the responses of ``data`` and save it to ``out``, which loads as ``local:OUT``.

    Args:
        data: Anything ``load_examples`` reads.
        model: A folder of ``save_pretrained`` or a Hugging Face id, with or without ``local:``.
        out: Run directory and model folder in one.
        config: Settings of the fine-tune.
        progress: Where steps are reported.
        seed: Replaces ``config.seed``.
        fresh: Empty a run directory of ours first.

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
    examples = load_examples(Path(data))
    inputs = {"data": examples.hash, "model": model_revision(path) or path}
    run = RunDir.open(out, "train sft", config.model_dump(), inputs, fresh)
    try:
        if not run.complete:
            _go_on(run, examples, path, config, progress)
        _publish_config(run)
        return run.summary()
    except UsageError:
        if not run.resumed:  # a wrong input ended it at once: the mended command may start there
            shutil.rmtree(run.path / "stages", ignore_errors=True)
            run.file("config.json").unlink(missing_ok=True)
        raise
    finally:
        run.close()


def _go_on(run: RunDir, examples: ExampleTable, path: str, config: SFTConfig, progress: Progress) -> None:
    trained = run.stage("model", "1", lambda folder: _train(run, folder, examples, path, config, progress))
    if trained["reason"]:
        shutil.rmtree(run.path / "stages")
        run.finish("failed", trained)
        return
    for file in sorted(run.stage_path("model").iterdir()):
        if file.name not in {"config.json", "done.json"}:
            file.replace(run.path / file.name)
    run.finish("complete", trained)


def _publish_config(run: RunDir) -> None:
    """Put the model's ``config.json`` in place of the run's, whose content the manifest holds by now."""
    config = run.stage_path("model") / "config.json"
    if run.complete and config.exists():
        config.replace(run.path / "config.json")
        shutil.rmtree(run.path / "stages")
        shutil.rmtree(run.path / _CHECKPOINTS, ignore_errors=True)


@dataclass(frozen=True)
class _Rows:
    """The encoded rows and which of them serve for what."""

    encoded: Encoded
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    probe: NDArray[np.int64]


def _split(encoded: Encoded, config: SFTConfig) -> _Rows:
    import numpy as np

    rows = np.random.default_rng([config.seed, 0x5F7]).permutation(len(encoded))
    held = round(config.holdout * len(rows))
    if held == len(rows):
        raise UsageError(f"holdout {config.holdout} leaves none of {len(rows)} rows to train; lower it")
    train = np.sort(rows[held:])
    return _Rows(
        encoded, train, _by_length(rows[:held], encoded), _by_length(rows[held:][:_PROBE_ROWS], encoded)
    )


def _by_length(rows: NDArray[np.int64], encoded: Encoded) -> NDArray[np.int64]:
    import numpy as np

    return rows[np.argsort(encoded.lengths[rows], kind="stable")]


def _train(
    run: RunDir, folder: Path, examples: ExampleTable, path: str, config: SFTConfig, progress: Progress
) -> dict[str, Any]:
    """Train, measure, save into ``folder``; return the summary."""
    from undertow.training.encode import encode_rows
    from undertow.training.order import LengthOrder

    with _quiet_libraries():
        weights, tokenizer = load_trainable(path, config)
        rows = _split(encode_rows(examples.table, tokenizer, _room(weights, config)), config)
        _warn_unknown(rows.encoded, progress)
        order = LengthOrder(rows.encoded.lengths[rows.train], config.batch, config.seed)
        trainer = _build_trainer(run, weights, tokenizer, rows, order, config)
        before = _measure(trainer, rows)
        start = _snapshot(trainer.model)
        _run_steps(run, trainer, progress)
        after = _measure(trainer, rows)
        moved = _moved(trainer.model, start)
        curve = [
            {"step": point["step"], "loss": point["loss"]}
            for point in trainer.state.log_history
            if "loss" in point
        ]
        reason = _why_failed(before["loss"], after["loss"], moved, [point["loss"] for point in curve])
        if not reason:
            _save(trainer, tokenizer, folder)
    dropped = rows.encoded.dropped
    return {
        "model": path,
        "data": str(examples.path),
        "rows": len(rows.train),
        "steps": trainer.state.global_step,
        "loss": {"before": before["loss"], "after": after["loss"]},
        "held_out": {"before": before["held_out"], "after": after["held_out"], "rows": len(rows.held_out)},
        "moved": moved,
        "reason": reason,
        "curve": curve,
        "truncated": rows.encoded.truncated,
        "unknown_tokens": rows.encoded.unknown,
        "counts": {"tried": len(examples), "scored": len(examples) - dropped, "failed": dropped},
        "failures": {"too_long": dropped} if dropped else {},
    }


def _warn_unknown(encoded: Encoded, progress: Progress) -> None:
    if encoded.unknown > _UNKNOWN:
        progress.say(
            f"warning: the tokenizer does not know {encoded.unknown:.1%} of the response tokens; the model "
            "cannot learn to write them: choose a model whose tokenizer fits the data"
        )


def load_trainable(path: str, config: SFTConfig) -> tuple[Any, Any]:
    """Load weights and tokenizer for training: safetensors only, no remote code.

    Raises:
        UsageError: nothing loadable at ``path``.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not Path(path).is_dir() and path.startswith(("/", ".", "~")):
        raise UsageError(
            f"{path}: no such folder; give a folder made by save_pretrained or a Hugging Face id"
        )
    half = config.lora is not None and _use_bf16(config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(
            path, use_safetensors=True, dtype=torch.bfloat16 if half else torch.float32
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"{path}: cannot be loaded as a causal language model: {reason}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _use_bf16(config: SFTConfig) -> bool:
    import torch

    can = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if config.bf16 and not can:
        raise UsageError("bf16: no GPU here that computes in bfloat16; leave it out")
    return can if config.bf16 is None else config.bf16


def _room(model: Any, config: SFTConfig) -> int:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return config.max_length if context is None else min(config.max_length, int(context))


def _build_trainer(
    run: RunDir, model: Any, tokenizer: Any, rows: _Rows, order: LengthOrder, config: SFTConfig
) -> ResponseTrainer:
    from trl import SFTConfig as TRLConfig

    from undertow.training.trainer import Collator, ResponseTrainer

    steps = max(1, math.ceil(math.ceil(len(order) / config.batch) / config.accumulate * config.epochs))
    log_steps = max(1, min(config.log_steps, steps // _CURVE_POINTS))
    save_steps = math.ceil((config.save_steps or steps / 8) / log_steps) * log_steps
    args = TRLConfig(
        output_dir=str(run.file(_CHECKPOINTS)),
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulate,
        num_train_epochs=config.epochs,
        learning_rate=config.lr,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        bf16=_use_bf16(config),
        activation_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        logging_steps=log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
        optim="adamw_torch_fused",
    )
    return ResponseTrainer(
        rows=rows.train,
        order=order,
        model=model,
        args=args,
        data_collator=Collator(rows.encoded, tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=_adapters(config),
    )


def _adapters(config: SFTConfig) -> Any:
    if config.lora is None:
        return None
    from peft import LoraConfig

    targets = config.lora.targets
    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def _measure(trainer: ResponseTrainer, rows: _Rows) -> dict[str, float | None]:
    return {"loss": trainer.mean_loss(rows.probe), "held_out": trainer.mean_loss(rows.held_out)}


def _run_steps(run: RunDir, trainer: ResponseTrainer, progress: Progress) -> None:
    from undertow.training.trainer import Reporter

    per_epoch = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    with progress.task("train", math.ceil(per_epoch * trainer.args.num_train_epochs)) as task:
        trainer.add_callback(Reporter(task))
        trainer.train(resume_from_checkpoint=last_checkpoint(run.file(_CHECKPOINTS)))


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint below ``folder``; the state file is the last that is written.

    What a kill left half-written is deleted.
    """
    from undertow.store.tables import read_json

    whole: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        try:
            whole[int(read_json(path / "trainer_state.json")["global_step"])] = path
        except UsageError:
            shutil.rmtree(path)
    return str(whole[max(whole)]) if whole else None


def _sampled(parameter: Any) -> Any:
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SNAPSHOT)].float().cpu()


def _snapshot(model: Any) -> dict[str, Any]:
    return {name: _sampled(p).clone() for name, p in model.named_parameters() if p.requires_grad}


def _moved(model: Any, start: dict[str, Any]) -> float:
    """Largest change of a trained parameter since ``start``."""
    now = dict(model.named_parameters())
    return max(float((_sampled(now[name]) - was).abs().max()) for name, was in start.items())


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


def _save(trainer: ResponseTrainer, tokenizer: Any, folder: Path) -> None:
    model = trainer.model
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence the bars and notes of transformers and datasets while it lasts; errors still come through."""
    import datasets
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    shown = datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
        if not shown:
            datasets.enable_progress_bars()
