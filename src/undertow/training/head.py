"""On a CPU: log-probabilities of the response tokens alone, and GPT-2's activation in one kernel.

TRL 1.16's fused head scores prompts and padding too where there is no Triton, and computes those logits again
in the backward pass: about 0.3 of the cost of a preference step of a 0.6 M model. GPT-2's activation in eight
kernels costs another 0.15. The numbers agree to rounding.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers.activations import NewGELUActivation
from trl.trainer.utils import FusedCausalLMOutput

from undertow.training import fold
from undertow.training.encode import IGNORED
from undertow.training.needed import only_needed

_LOGIT_CHANGES = (
    "final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling",
)  # fmt: skip
"""Settings of models whose logits are not just the head's output; TRL's forward knows them."""


def has_plain_logits(model: Any) -> bool:
    """Say whether the logits of a causal language model are its head's output and nothing else."""
    config = model.config.get_text_config()
    return all(getattr(config, name, None) in (None, 1.0) for name in _LOGIT_CHANGES)


def add_response_head(model: Any, folds: bool) -> None:
    """Make ``model(..., labels=labels, fused_lm_head=True)`` score positions that have a label, no others.

    Called after TRL's ``add_fused_lm_head``, whose call it answers: ``log_probs`` (rows, longest - 1) of each
    next token, 0 where its label is missing. All other calls pass on. With ``folds`` the rows are the chosen
    sides, then the rejected ones, and what a pair's sides share is computed once.
    """
    other = model.forward
    states_of = fold.states_of if folds else response_states

    @functools.wraps(other)
    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return other(*args, labels=labels, **kwargs) if labels is not None else other(*args, **kwargs)
        following = labels[:, 1:]
        wanted = following != IGNORED
        states = states_of(model.base_model, wanted, **kwargs)
        logits = model.get_output_embeddings()(states).float()
        nll = torch.nn.functional.cross_entropy(logits, following[wanted], reduction="none")
        return FusedCausalLMOutput(log_probs=nll.new_zeros(following.shape).masked_scatter(wanted, -nll))

    model.forward = forward


def response_states(
    body: Any, wanted: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any
) -> torch.Tensor:
    """Return the last states of ``body`` at the ``wanted`` places of (rows, longest - 1): (m, hidden)."""
    read = torch.nn.functional.pad(wanted, (0, 1))
    with only_needed(body, attention_mask.bool(), read):
        hidden = body(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
    states: torch.Tensor = hidden[read]
    return states


def fuse_activations(model: Any) -> None:
    """Compute GPT-2's activation, GELU by tanh, in one kernel wherever ``model`` uses it; nothing to save."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
