"""On a CPU: feed-forward layers, two thirds of a transformer's work, compute only what somebody reads.

Padding is read by nobody, and of the last layer's output a preference or response loss reads the places
before response tokens alone: of the lab's pairs that leaves out a third of this work. What is read is the
same to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from undertow.models.layers import layers_of

KNOWN = ("gpt2", "llama", "qwen2", "qwen3")
"""Classes whose layers have an ``mlp`` that takes every token by itself; tested one by one."""


@contextmanager
def only_needed(body: Any, real: torch.Tensor, read: torch.Tensor) -> Iterator[None]:
    """Compute what is needed of a batch while ``body``, a transformer without its head, reads it.

    Elsewhere a feed-forward layer gives 0, which no needed token sees. With gradient checkpointing, which
    computes again when this is over, and with other classes of models everything is computed.

    Args:
        body: The transformer.
        real: (rows, longest) whether a token is no padding.
        read: (rows, longest) whether its last state is read.
    """
    with ExitStack() as hooks:
        if body.config.model_type in KNOWN and not body.is_activation_checkpointing:
            *others, last = layers_of(body)
            for layer in others:
                _compute_at(layer.mlp, real, hooks)
            _compute_at(last.mlp, read, hooks)
        yield


def _compute_at(mlp: Any, needed: torch.Tensor, hooks: ExitStack) -> None:
    """Hand ``mlp`` the ``needed`` tokens alone, and its outputs their places back."""
    places = needed.flatten().nonzero().squeeze(1)

    def gather(_module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0].reshape(needed.numel(), -1).index_select(0, places),)

    def scatter(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        whole = output.new_zeros(needed.numel(), output.shape[-1])
        return whole.index_copy(0, places, output).view(*needed.shape, -1)

    hooks.callback(mlp.register_forward_pre_hook(gather).remove)
    hooks.callback(mlp.register_forward_hook(scatter).remove)
