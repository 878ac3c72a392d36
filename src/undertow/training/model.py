"""The weights of a fine-tune: loading, adapters, proof that they moved, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from undertow.errors import UsageError
from undertow.training.config import Training

_SNAPSHOT = 1 << 20
"""Entries of a weight compared before and after; a larger weight is sampled evenly."""


def load_trainable(path: str, config: Training) -> tuple[Any, Any]:
    """Load weights and tokenizer for training: safetensors only, no remote code.

    Raises:
        UsageError: nothing loadable at ``path``.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow.models.local import check_folder

    check_folder(path)
    half = config.lora is not None and use_bf16(config)
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


def use_bf16(config: Training) -> bool:
    """Say whether to compute in bfloat16: as told, else where a GPU can.

    Raises:
        UsageError: it is asked for and there is no such GPU.
    """
    import torch

    can = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if config.bf16 and not can:
        raise UsageError("bf16: no GPU here that computes in bfloat16; leave it out")
    return can if config.bf16 is None else config.bf16


def room(model: Any, config: Training) -> int:
    """Return how many tokens of a row the model can read, at most ``max_length``."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return config.max_length if context is None else min(config.max_length, int(context))


def adapters(config: Training) -> Any:
    """Return what PEFT is told, ``None`` for full weights."""
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


def _sampled(parameter: Any) -> Any:
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SNAPSHOT)].float().cpu()


def snapshot(model: Any) -> dict[str, Any]:
    """Copy the trained parameters, large ones sampled, for :func:`moved`."""
    return {name: _sampled(p).clone() for name, p in model.named_parameters() if p.requires_grad}


def moved(model: Any, start: dict[str, Any]) -> float:
    """Largest change of a trained parameter since ``start``."""
    now = dict(model.named_parameters())
    return max(float((_sampled(now[name]) - was).abs().max()) for name, was in start.items())


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save weights, adapters merged into them, and tokenizer."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
