"""Direct preference optimisation: pairs in, an ordinary model folder out, with proof that it learned.

Columns ``offset``, ``weight``, ``chosen_mask``, ``rejected_mask`` and ``policy_prompt`` change what a pair
teaches; ``undertow fix`` writes them. A killed run ends with the weights of the undisturbed one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.data.preferences import PreferenceData, load_preferences
from undertow.data.signal import OFFSET, WEIGHT
from undertow.errors import UsageError
from undertow.models.local import model_revision
from undertow.progress import SILENT, Progress
from undertow.training.config import DPOConfig, Steer
from undertow.training.model import adapters, load_trainable, moved, room, save_model, snapshot
from undertow.training.run import (
    curve_of,
    fine_tune,
    quiet_libraries,
    take_steps,
    trainer_settings,
    write_log,
)
from undertow.training.signal import Signal, data_file, read_signal, steer_identity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from undertow.training.pair_trainer import Measured, PairTrainer
    from undertow.training.pairs import EncodedPairs

DEFAULTS = DPOConfig()
_PROBE_PAIRS = 256
"""Pairs whose margin is taken before and after."""
_CURVE = {"loss": "loss", "margin": "rewards/margins", "accuracy": "rewards/accuracies"}


def train_dpo(
    data: Path,
    model: str | Path,
    out: Path,
    config: DPOConfig = DEFAULTS,
    progress: Progress = SILENT,
    seed: int | None = None,
    fresh: bool = False,
    steer: Steer | None = None,
    report_to: Sequence[str] = (),
) -> dict[str, Any]:
    """Teach ``model`` to prefer the chosen responses of ``data``; save it to ``out``, as ``train_sft`` does.

    Args:
        data: Anything ``load_preferences`` reads, or the run directory of a fix.
        model: A folder of ``save_pretrained`` or a Hugging Face id, with or without ``local:``: start model
            and reference.
        out: Run directory and model folder in one.
        config: Settings of the training.
        progress: Where steps are reported.
        seed: Replaces ``config.seed``.
        fresh: Empty a run directory of ours first.
        steer: A direction to be added while it trains; that of the fix, where ``data`` is one.
        report_to: Trackers that transformers knows, as ``trackio`` or ``wandb``.

    Returns:
        ``summary.json``: ``loss``, ``margin`` (mean β·Δ of the log-ratios) and ``accuracy`` (before, after,
        on some training pairs), ``held_out`` (the same on kept-out pairs), ``curve``, ``steps``, ``rows``,
        ``moved`` and ``reason``. The status is ``failed``, and no model is published, when a loss is not
        finite, loss or margin went the wrong way, or nothing moved.

    Raises:
        UsageError: data, model or ``out`` cannot be used.
    """
    if seed is not None:
        config = config.model_copy(update={"seed": seed})
    path = str(model).removeprefix("local:")
    file, steer = data_file(Path(data), steer)
    job = _Job(load_preferences(file), path, config, steer, tuple(report_to), progress)
    return fine_tune(out, "train dpo", job.identity(), job.inputs(), fresh, job.train)


@dataclass(frozen=True)
class _Job:
    """One fine-tune, fully told."""

    data: PreferenceData
    path: str
    config: DPOConfig
    steer: Steer | None
    report_to: tuple[str, ...]
    progress: Progress

    def identity(self) -> dict[str, object]:
        return {**self.config.model_dump(), **steer_identity(self.steer)}

    def inputs(self) -> dict[str, str]:
        return {"data": self.data.hash, "model": model_revision(self.path) or self.path}

    def train(self, work: Path, folder: Path | None) -> dict[str, Any]:
        """Train, measure, save into ``folder``; return the summary."""
        from undertow.training.pairs import encode_pairs

        with quiet_libraries():
            weights, tokenizer = load_trainable(self.path, self.config)
            signal = read_signal(self.data.path, self.data.table["id"], ["chosen", "rejected"])
            pairs = encode_pairs(self.data.table, tokenizer, room(weights, self.config), signal)
            split = _split(pairs.rows, self.config)
            trainer = self._build_trainer(weights, tokenizer, pairs, signal, split.train, work)
            before, held_before = trainer.measure(split.probe), trainer.measure(split.held_out)
            start = snapshot(trainer.model)
            take_steps(trainer, work, self.progress)
            after, held_after = trainer.measure(split.probe), trainer.measure(split.held_out)
            change = moved(trainer.model, start)
            curve = curve_of(trainer, _CURVE)
            reason = _why_failed(before, after, change, [point["loss"] for point in curve])
            if folder is not None:
                write_log(trainer, folder)
            if folder is not None and not reason:
                save_model(trainer.model, tokenizer, folder)
        dropped = len(self.data) - len(pairs.rows)
        return {
            "model": self.path,
            "data": str(self.data.path),
            "rows": len(split.train),
            "steps": trainer.state.global_step,
            **_before_after(before, after),
            "held_out": {**_before_after(held_before, held_after), "rows": len(split.held_out)},
            "moved": change,
            "reason": reason,
            "curve": curve,
            "signal": _told(signal, pairs, self.steer),
            "truncated": sum(side.truncated for side in pairs.policy),
            "unknown_tokens": max(side.unknown for side in pairs.policy),
            "counts": {
                "tried": self.data.rows,
                "scored": len(pairs.rows),
                "failed": self.data.rows - len(pairs.rows),
            },
            "failures": {**self.data.dropped, **({"too_long": dropped} if dropped else {})},
        }

    def _build_trainer(
        self,
        model: Any,
        tokenizer: Any,
        pairs: EncodedPairs,
        signal: Signal,
        rows: NDArray[np.int64],
        work: Path,
    ) -> PairTrainer:
        import numpy as np
        from trl import DPOConfig as TRLConfig

        from undertow.training.order import LengthOrder
        from undertow.training.pair_trainer import PairCollator, PairTrainer
        from undertow.training.steering import load_steering

        columns = {OFFSET: signal.offset, WEIGHT: signal.weight}
        lengths = pairs.lengths[np.searchsorted(pairs.rows, rows)]
        work.mkdir(parents=True, exist_ok=True)
        return PairTrainer(
            rows=rows,
            order=LengthOrder(lengths, self.config.batch, self.config.seed),
            cache=work / "reference.npy",
            steering=load_steering(self.steer, model),
            model=model,
            args=TRLConfig(
                beta=self.config.beta,
                precompute_ref_log_probs=True,
                **trainer_settings(self.config, work, len(rows), self.report_to),
            ),
            data_collator=PairCollator(
                pairs, tokenizer.pad_token_id, {name: v for name, v in columns.items() if v is not None}
            ),
            processing_class=tokenizer,
            peft_config=adapters(self.config),
        )


@dataclass(frozen=True)
class _Split:
    """Numbers of the pairs that serve for what."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    probe: NDArray[np.int64]


def _split(rows: NDArray[np.int64], config: DPOConfig) -> _Split:
    import numpy as np

    shuffled = np.random.default_rng([config.seed, 0xD90]).permutation(rows)
    held = round(config.holdout * len(rows))
    if held == len(rows):
        raise UsageError(f"holdout {config.holdout} leaves none of {len(rows)} pairs to train; lower it")
    return _Split(np.sort(shuffled[held:]), shuffled[:held], shuffled[held:][:_PROBE_PAIRS])


def _before_after(before: Measured | None, after: Measured | None) -> dict[str, dict[str, float | None]]:
    return {
        name: {"before": getattr(before, name, None), "after": getattr(after, name, None)}
        for name in ("loss", "margin", "accuracy")
    }


def _told(signal: Signal, pairs: EncodedPairs, steer: Steer | None) -> dict[str, object]:
    """Say what, beside their text, shaped what the pairs taught."""
    own = signal.policy_prompt
    return {
        "offset_pairs": 0 if signal.offset is None else int((signal.offset != 0).sum()),
        "weighted_pairs": 0 if signal.weight is None else int((signal.weight != 1).sum()),
        "masked_tokens": pairs.masked,
        "policy_prompts": 0 if own is None else sum(prompt is not None for prompt in own),
        "steered": steer.alpha if steer is not None else None,
    }


def _why_failed(before: Measured | None, after: Measured | None, change: float, losses: list[float]) -> str:
    """Say why the run proves no learning; empty when it does.

    The gradient of every pair raises its margin, whatever its offset or weight: a margin that fell is damage.
    """
    if before is None or after is None:
        return "no pair was trained"
    if not all(map(math.isfinite, (before.loss, after.loss, after.margin, change, *losses))):
        return "the loss is not finite; lower the learning rate"
    if change == 0:
        return "no parameter moved"
    if after.loss >= before.loss:
        return f"the loss on training pairs did not fall ({before.loss:.4f} before, {after.loss:.4f} after)"
    if after.margin <= before.margin:
        return f"the margin did not rise ({before.margin:.4f} before, {after.margin:.4f} after)"
    return ""
