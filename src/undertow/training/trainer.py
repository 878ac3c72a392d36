"""TRL's SFTTrainer, less what costs time without teaching: a few overrides, nothing else.

Departs from TRL 1.16: no entropy and token accuracy in every step (each is a pass over the logits and a
sync), no model card and no telemetry, and a row order that is a function of seed and epoch. The loss is
TRL's own, the mean negative log-likelihood of the response tokens. On a CPU TRL computes the logits of
prompts and padding too, twice (1.5 times the cost of a step of a 1 M model); there they are left out, as is
what feed-forward layers would make of tokens that nobody reads (``needed``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from undertow.data.signal import WEIGHT
from undertow.errors import UsageError
from undertow.progress import Task
from undertow.training.encode import IGNORED, Encoded
from undertow.training.head import fuse_activations, has_plain_logits, response_states
from undertow.training.order import LengthOrder
from undertow.training.steering import Steered, Steering

ROW = "row"
"""Only column of the data set that the trainer sees; the tokens stay in one array."""


@dataclass(frozen=True)
class Collator:
    """Makes a batch of rows by one gather each, instead of row by row."""

    encoded: Encoded
    """The tokens."""
    pad: int
    """Id that fills up short rows."""
    weight: NDArray[np.float32] | None = None
    """(n,) factor on each row's loss; ``None``: 1, and no ``weight`` in the batch."""

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``labels``, ``attention_mask``, (rows, longest), padded right; ``weight``."""
        which = np.fromiter((row[ROW] for row in rows), np.int64, len(rows))
        size = self.encoded.lengths[which]
        column = np.arange(size.max())
        real = column < size[:, None]
        place = np.where(real, self.encoded.starts[which][:, None] + column, 0)
        batch = {
            "input_ids": torch.from_numpy(np.where(real, self.encoded.tokens[place], self.pad)),
            "labels": torch.from_numpy(np.where(real, self.encoded.labels[place], IGNORED)),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
        }
        return batch if self.weight is None else {**batch, WEIGHT: torch.from_numpy(self.weight[which])}


class ResponseTrainer(Steered, SFTTrainer):  # type: ignore[misc]
    """Trains on encoded rows, named by number."""

    def __init__(
        self,
        *,
        rows: NDArray[np.int64],
        order: LengthOrder,
        steering: Steering | None = None,
        **kwargs: Any,
    ) -> None:
        """Build TRL's trainer for ``rows`` (n,), served in ``order``."""
        self._order = order
        self.steering = steering
        super().__init__(train_dataset=Dataset(pa.table({ROW: rows})), **kwargs)
        for printer in (PrinterCallback, ProgressCallback):
            self.remove_callback(printer)
        self._causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        add_fused_lm_head(self._causal, outputs=("log_probs",))
        alone = self.args.device.type == "cpu" and self.args.world_size == 1
        self._compact = alone and has_plain_logits(self._causal)
        if self._compact:
            fuse_activations(self._causal)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthOrder:
        return self._order

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean negative log-likelihood of a step's response tokens, times their row's weight."""
        weight = inputs.pop(WEIGHT, None)
        if self.aux_loss_enabled or return_outputs:
            if weight is not None:
                raise UsageError("weights: not for a mixture of experts; filter the rows instead")
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._compact:
            return self._response_loss(inputs, num_items_in_batch, weight)
        count = num_items_in_batch
        if count is not None and self.args.average_tokens_across_devices:
            count = count / self.accelerator.num_processes
        output = model(**inputs, use_cache=False, fused_lm_head=True, num_items_in_batch=count)
        if weight is None:
            return output.loss
        count = (inputs["labels"][:, 1:] != IGNORED).sum().clamp(min=1) if count is None else count
        return -(output.log_probs * weight[:, None]).sum() / count

    def _response_loss(
        self, inputs: dict[str, Any], count: Any, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the same loss with logits of response tokens alone."""
        body = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        labels = inputs["labels"][:, 1:]
        wanted = labels != IGNORED
        states = response_states(self._causal.base_model, wanted, **body, use_cache=False)
        logits = self._causal.get_output_embeddings()(states).float()
        if weight is None:
            total = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="sum")
        else:
            each = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="none")
            total = (each * weight[:, None].expand_as(labels)[wanted]).sum()
        mean: torch.Tensor = total / (wanted.sum().clamp(min=1) if count is None else count)
        return mean

    def _send_telemetry(self) -> None:
        """Tell nobody."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the run directory says more."""

    def mean_loss(self, rows: NDArray[np.int64]) -> float | None:
        """Mean loss per response token over ``rows`` without dropout; ``None`` of no rows."""
        total, count = 0.0, 0
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for start in range(0, len(rows), self.args.per_device_train_batch_size):
                part = rows[start : start + self.args.per_device_train_batch_size]
                batch = self._prepare_inputs(self.data_collator([{ROW: int(row)} for row in part]))
                scored = int((batch["labels"][:, 1:] != IGNORED).sum())
                total += float(self.compute_loss(self.model, batch)) * scored
                count += scored
        self.model.train()
        return total / count if count else None


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Passes steps on to a progress task and ends a run whose loss is no number."""

    def __init__(self, task: Task) -> None:
        """Report to ``task``."""
        self._task = task
        self._seen = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance by the steps done, those before a resume included."""
        self._task.advance(state.global_step - self._seen)
        self._seen = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Show the loss; stop when it is not finite."""
        loss = logs.get("loss")
        if loss is None:
            return
        self._task.advance(0, f"loss {loss:.3f}")
        if not math.isfinite(loss):
            control.should_training_stop = True
