"""Preventative steering: a direction is given to the policy while it trains, so that it need not learn it.

h ← h + α·v at the output of one layer, in the training forward pass and its recomputation alone (specs:
steer; references/001, preventative steering). Reference, measurements and the saved model are clean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from undertow.data.signal import DIRECTION, LAYER
from undertow.errors import UsageError
from undertow.models.layers import layers_of
from undertow.training.config import Side, Steer


@dataclass(frozen=True)
class Steering:
    """A direction, ready to be added."""

    push: torch.Tensor
    """(hidden,) α·v."""
    layer: int
    """Layer whose output moves, from 0."""
    side: Side
    """Responses that are steered."""

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Steer ``model`` while it lasts; batches hold the chosen responses, then as many rejected ones."""
        handle = layers_of(model)[self.layer].register_forward_hook(self._move)
        try:
            yield
        finally:
            handle.remove()

    def _move(self, _module: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        push = self.push.to(hidden)
        if self.side == "both":
            moved = hidden + push
        else:
            is_rejected = torch.arange(len(hidden), device=hidden.device) >= len(hidden) // 2
            rows = is_rejected if self.side == "rejected" else ~is_rejected
            moved = hidden + rows[:, None, None].to(hidden) * push
        return (moved, *output[1:]) if isinstance(output, tuple) else moved


class Steered:
    """Mixed into a trainer: its training steps, forward and backward, run under :attr:`steering`."""

    steering: Steering | None = None
    model: Any

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Take one step."""
        if self.steering is None:
            return super().training_step(*args, **kwargs)  # type: ignore[misc, no-any-return]
        with self.steering.on(self.model):
            return super().training_step(*args, **kwargs)  # type: ignore[misc, no-any-return]


def load_steering(steer: Steer | None, model: Any) -> Steering | None:
    """Read the direction of ``steer`` and check that it fits ``model``; ``None`` where nothing is added.

    Raises:
        UsageError: no such file, no direction in it, or one of another width, or a layer the model lacks.
    """
    from safetensors import SafetensorError, safe_open

    if steer is None or steer.alpha == 0:
        return None
    if not Path(steer.vector).is_file():
        raise UsageError(f"{steer.vector}: no such file; `undertow fix --how steer` writes one")
    try:
        with safe_open(str(steer.vector), framework="pt") as file:
            direction, layer = file.get_tensor(DIRECTION).float(), int((file.metadata() or {})[LAYER])
    except (SafetensorError, KeyError, ValueError) as error:
        raise UsageError(f"{steer.vector}: holds no steering direction with its layer ({error})") from None
    width = model.config.get_text_config().hidden_size
    if direction.shape != (width,) or not torch.isfinite(direction).all():
        raise UsageError(
            f"{steer.vector}: its direction must be {width} finite numbers, as wide as the model; "
            f"it is {tuple(direction.shape)}"
        )
    if not 0 <= layer < len(layers_of(model)):
        raise UsageError(f"{steer.vector}: is of layer {layer}; the model has {len(layers_of(model))} layers")
    return Steering(steer.alpha * direction, layer, steer.side)
