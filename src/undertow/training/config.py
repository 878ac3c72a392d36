"""What a fine-tune is told; frozen, validated, saved with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LoRA(BaseModel):
    """Low-rank adapters (Hu et al. 2021) instead of full weights; merged into the saved model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1)
    """r."""
    alpha: int = Field(default=32, ge=1)
    """Scale of the update is alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On the adapter's input."""
    targets: str | tuple[str, ...] = "all-linear"
    """Module names that get an adapter; ``all-linear`` is every linear layer but the head."""


class Training(BaseModel):
    """What every fine-tune is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate of AdamW; 2e-5 suits full weights of 1–8 B, about 2e-4 LoRA, 5e-4 a model of 1 M."""
    epochs: float = Field(default=2.0, gt=0)
    """Passes over the data."""
    batch: int = Field(default=64, ge=1)
    """Rows or pairs a step on one device (without accumulation)."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are summed into one step."""
    seed: int = 0
    """Order of the rows, dropout, adapter initialisation."""
    max_length: int = Field(default=1024, ge=2)
    """Longest row, tokens of prompt and response; what is longer is cut at its end and counted."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after warm-up."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled decay."""
    clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    lora: LoRA | None = None
    """Train adapters instead of all weights."""
    bf16: bool | None = None
    """Compute in bfloat16; ``None``: where a GPU can."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, slower."""
    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows kept out of training, whose loss is reported."""
    log_steps: int = Field(default=50, ge=1)
    """Steps between two points of the loss curve."""
    save_steps: int | None = Field(default=None, ge=1)
    """Steps between checkpoints, rounded up to a point of the loss curve; ``None``: eight in a run."""


class SFTConfig(Training):
    """Supervised fine-tuning with the loss on response tokens alone."""


class DPOConfig(Training):
    """Direct preference optimisation (Rafailov et al. 2023) against the start model."""

    lr: float = Field(default=1e-6, gt=0)
    """Peak learning rate of AdamW; 1e-6 suits full weights of 1–8 B, 1e-5 LoRA, 3e-5 a model of 1 M."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data."""
    batch: int = Field(default=32, ge=1)
    """Pairs a step on one device (without accumulation)."""
    beta: float = Field(default=0.1, gt=0)
    """β: how much log-odds a margin of 1 nat over the start model counts for."""


Side = Literal["chosen", "rejected", "both"]


class Steer(BaseModel):
    """A direction added to the hidden states while the policy trains, and never afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vector: Path
    """Safetensors of ``undertow fix --how steer``: ``direction`` (hidden,), and the layer in its metadata."""
    alpha: float = Field(default=1.0, allow_inf_nan=False)
    """α in h ← h + α·v; 0 is the plain run to the bit."""
    side: Side = "both"
    """Responses whose forward pass is steered; rows of an SFT data set count as chosen."""
