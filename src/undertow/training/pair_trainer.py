"""TRL's DPOTrainer with an offset, weights and masks: one loss, one collator, nothing else.

loss = mean of w · −log σ(β Δ_θ + o), with Δ_θ = [log π_θ/π₀](y⁺) − [log π_θ/π₀](y⁻) and o = λ Δs from the
data set's ``offset`` column (specs/fixes: shared loss; references/001, reward shaping). Masked tokens are
missing from both sums. Without those columns it is TRL's sigmoid loss: to the bit with TRL's own head, which
a CPU replaces by one that scores response tokens alone.

Departs from TRL 1.16: reference log-probabilities are taken once and kept in a file of the run, the reference
reads the plain prompt where the policy reads another, entropy, token accuracy and mean logits (passes over
the logits in every step) are left out, and the order of pairs is a function of seed and epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from undertow.data.signal import OFFSET, WEIGHT
from undertow.store.tables import replace_atomically
from undertow.training.encode import IGNORED, Encoded
from undertow.training.fold import can_fold
from undertow.training.head import add_response_head, fuse_activations, has_plain_logits
from undertow.training.order import LengthOrder
from undertow.training.pairs import EncodedPairs
from undertow.training.steering import Steered, Steering
from undertow.training.trainer import ROW

LOGGED = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
_TIE = 1e-4
"""Nats of a log-ratio that may be rounding: batches of other shapes round otherwise."""
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
_NOT_FOR_THE_MODEL = {"completion_mask", OFFSET, WEIGHT, *_REFERENCE}


@dataclass
class PairCollator:
    """Makes a batch of pairs by a few gathers: all chosen responses, then all rejected ones."""

    pairs: EncodedPairs
    """The tokens."""
    pad: int
    """Id that fills up short rows."""
    columns: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """``offset`` and ``weight`` of every pair, where the data set has them, and the reference's sums."""

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
        """Return the batch that the policy reads."""
        which = np.fromiter((row[ROW] for row in rows), np.int64, len(rows))
        own = {name: torch.from_numpy(values[which]) for name, values in self.columns.items()}
        return {**_padded(self.pairs.policy, which, self.pad), **own}

    def reference(self, which: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Return the batch that the reference reads."""
        return _padded(self.pairs.reference, which, self.pad)


def _padded(sides: tuple[Encoded, Encoded], which: NDArray[np.int64], pad: int) -> dict[str, torch.Tensor]:
    """Return ``input_ids, attention_mask, completion_mask``, (2·pairs, longest of both sides)."""
    place = [np.searchsorted(side.rows, which) for side in sides]
    sizes = [side.lengths[at] for side, at in zip(sides, place, strict=True)]
    column = np.arange(max(int(size.max()) for size in sizes))
    ids, real, learned = [], [], []
    for side, at, size in zip(sides, place, sizes, strict=True):
        is_real = column < size[:, None]
        token = np.where(is_real, side.starts[at][:, None] + column, 0)
        ids.append(np.where(is_real, side.tokens[token], pad))
        learned.append(is_real & (side.labels[token] != IGNORED))
        real.append(is_real)
    return {
        "input_ids": torch.from_numpy(np.concatenate(ids)),
        "attention_mask": torch.from_numpy(np.concatenate(real).astype(np.int64)),
        "completion_mask": torch.from_numpy(np.concatenate(learned).astype(np.int64)),
    }


@dataclass(frozen=True)
class Measured:
    """What the policy makes of some pairs."""

    loss: float
    """Mean loss, offsets and weights included."""
    margin: float
    """Mean reward margin β Δ_θ, without offsets; 0 is the start model."""
    accuracy: float
    """Share of pairs with a positive margin, ties a half."""


class PairTrainer(Steered, DPOTrainer):  # type: ignore[misc]
    """Trains on encoded pairs, named by number."""

    def __init__(
        self,
        *,
        rows: NDArray[np.int64],
        order: LengthOrder,
        cache: Path,
        steering: Steering | None = None,
        **kwargs: Any,
    ) -> None:
        """Build TRL's trainer for the pairs ``rows`` (n,), in ``order``; ``cache`` keeps the reference."""
        self._order = order
        self._cache = cache
        self.steering = steering
        super().__init__(train_dataset=Dataset(pa.table({ROW: rows})), **kwargs)
        for printer in (PrinterCallback, ProgressCallback):
            self.remove_callback(printer)
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        add_fused_lm_head(causal, outputs=("log_probs",))
        if self.args.device.type == "cpu" and not self.aux_loss_enabled and has_plain_logits(causal):
            one_sided = steering is not None and steering.side != "both"
            add_response_head(causal, folds=can_fold(causal) and not one_sided)
            fuse_activations(causal)
        self._take_reference()

    def _prepare_dataset(self, dataset: Dataset, *_args: Any) -> Dataset:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthOrder:
        return self._order

    def _precompute_ref_logps(self, dataset: Dataset, *_args: Any) -> Dataset:
        """Leave it to ``_take_reference``, when the head is ours."""
        return dataset

    def _take_reference(self) -> None:
        """Take the reference's log-probabilities of all pairs, or read them back, for the collator."""
        which: NDArray[np.int64] = self.data_collator.pairs.rows
        if not self._cache.is_file():
            found = self._reference_sums(which, self.args.per_device_train_batch_size)
            if self.accelerator.is_main_process:
                replace_atomically(self._cache, lambda path: _save(found, path))
        self.accelerator.wait_for_everyone()
        found = np.load(self._cache)
        for side, column in enumerate(_REFERENCE):
            values = np.zeros(int(which[-1]) + 1, np.float32)
            values[which] = found[side]
            self.data_collator.columns[column] = values

    def _reference_sums(self, which: NDArray[np.int64], batch: int) -> NDArray[np.float32]:
        """Return (2, n) sums of the reference's log-probabilities over chosen and rejected responses."""
        self.model.to(self.accelerator.device)
        order = np.argsort(self.data_collator.pairs.lengths, kind="stable")
        found = np.zeros((2, len(which)), np.float32)
        for start in range(0, len(which), batch):
            at = order[start : start + batch]
            inputs = self._prepare_inputs(self.data_collator.reference(which[at]))
            chosen, rejected = self.compute_ref_log_probs(self.model, inputs)
            found[0, at], found[1, at] = chosen.float().cpu(), rejected.float().cpu()
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> torch.Tensor:
        chosen, rejected, aux_loss = self._log_ratios(model, inputs)
        loss = self._losses(self.beta * (chosen - rejected), inputs).mean()
        if aux_loss is not None:
            loss = loss + self.router_aux_loss_coef * aux_loss
        if self.model.training:
            self._note(self.beta * chosen.detach(), self.beta * rejected.detach())
        return loss

    def _losses(self, margins: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return w · −log σ(β Δ_θ + o) of each pair, (pairs,)."""
        losses = -torch.nn.functional.logsigmoid(margins + inputs[OFFSET] if OFFSET in inputs else margins)
        return losses * inputs[WEIGHT] if WEIGHT in inputs else losses

    def _log_ratios(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Return log π_θ/π₀ of chosen and rejected responses, (pairs,) each, and the loss of routers."""
        body = {name: value for name, value in inputs.items() if name not in _NOT_FOR_THE_MODEL}
        if self.aux_loss_enabled:
            body["output_router_logits"] = True
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, IGNORED)
        outputs = model(**body, use_cache=False, labels=labels, fused_lm_head=True)
        chosen, rejected = outputs.log_probs.sum(dim=1).chunk(2)
        aux_loss = outputs.aux_loss if self.aux_loss_enabled else None
        return chosen - inputs[_REFERENCE[0]], rejected - inputs[_REFERENCE[1]], aux_loss

    def _note(self, chosen: torch.Tensor, rejected: torch.Tensor) -> None:
        """Put the step's mean rewards, margin and accuracy where TRL logs them, under TRL's names."""
        means = torch.stack([chosen, rejected, chosen - rejected, (chosen > rejected).float()])
        found = self.accelerator.gather(means.mean(dim=1)[None]).mean(dim=0).tolist()
        for name, value in zip(LOGGED, found, strict=True):
            self._metrics["train"][name].append(value)

    def measure(self, which: NDArray[np.int64]) -> Measured | None:
        """Measure the policy, not steered, on pairs by number; ``None`` of no pairs."""
        if not len(which):
            return None
        losses, margins = [], []
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for start in range(0, len(which), self.args.per_device_train_batch_size):
                rows = which[start : start + self.args.per_device_train_batch_size]
                batch = self._prepare_inputs(self.data_collator([{ROW: int(row)} for row in rows]))
                chosen, rejected, _ = self._log_ratios(self.model, batch)
                margins.append(self.beta * (chosen - rejected))
                losses.append(self._losses(margins[-1], batch))
        self.model.train()
        loss, margin = (torch.cat(each).float().cpu() for each in (losses, margins))
        tied = margin.abs() <= self.beta * _TIE
        accuracy = torch.where(tied, 0.5, (margin > 0).float())
        return Measured(float(loss.mean()), float(margin.mean()), float(accuracy.mean()))

    def _send_telemetry(self) -> None:
        """Tell nobody."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the run directory says more."""


def _save(found: NDArray[np.float32], path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, found, allow_pickle=False)
