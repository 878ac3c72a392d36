"""TRL's SFTTrainer, less what costs time without teaching: a few overrides, nothing else.

Departs from TRL 1.16: no entropy and token accuracy in every step (each is a pass over the logits and a
sync), no model card and no telemetry, and a row order that is a function of seed and epoch. The loss is
TRL's own: mean negative log-likelihood of the response tokens.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from undertow.progress import Task
from undertow.training.order import LengthOrder


class ResponseTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on prepared ``input_ids`` and ``labels``."""

    def __init__(self, *, order: LengthOrder, **kwargs: Any) -> None:
        """Build TRL's trainer with rows served in ``order``."""
        self._order = order
        super().__init__(**kwargs)
        for printer in (PrinterCallback, ProgressCallback):
            self.remove_callback(printer)
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        add_fused_lm_head(causal, outputs=("log_probs",))

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthOrder:
        return self._order

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean negative log-likelihood of the response tokens of a step."""
        if self.aux_loss_enabled or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        count = num_items_in_batch
        if count is not None and self.args.average_tokens_across_devices:
            count = count / self.accelerator.num_processes
        return model(**inputs, use_cache=False, fused_lm_head=True, num_items_in_batch=count).loss

    def _send_telemetry(self) -> None:
        """Tell nobody."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the run directory says more."""

    def mean_loss(self, dataset: Any, rows: list[int]) -> float:
        """Mean loss per response token over ``rows`` of a prepared data set, without dropout."""
        self.model.eval()
        total, count = 0.0, 0
        size = self.args.per_device_train_batch_size
        with torch.no_grad():
            for start in range(0, len(rows), size):
                batch = self.data_collator([dataset[row] for row in rows[start : start + size]])
                batch = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
                scored = int((batch["labels"][:, 1:] != -100).sum())
                with self.compute_loss_context_manager():
                    total += float(self.compute_loss(self.model, batch)) * scored
                count += scored
        self.model.train()
        return total / count if count else math.nan


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
