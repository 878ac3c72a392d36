"""Names of what a fix writes and a fine-tune reads."""

from __future__ import annotations

from pathlib import Path

ID = "id"
OFFSET = "offset"
"""λ·Δs of a pair, log-odds that the preference loss takes as given: above 0 the pair teaches less."""
WEIGHT = "weight"
"""Factor on the loss of a row or pair, 0 or more."""
POLICY_PROMPT = "policy_prompt"
"""What the policy reads in the prompt's place while it trains; the reference reads the prompt."""
DATA, TRAINING = "data.parquet", "training.json"
"""Files of a fix: the rows, and how to train on them where that is not in their columns."""
DIRECTION, LAYER = "direction", "layer"
"""Tensor and metadata of a steering vector's safetensors file."""


def mask_column(text: str) -> str:
    """Name the column of stretches [start, end) of ``text`` that are read but not learned, in characters."""
    return f"{text}_mask"


def rows_of(data: Path) -> Path:
    """Return the file of rows behind ``data``: of a fix's run directory what it wrote there, else itself."""
    return data / DATA if (data / "manifest.json").is_file() and (data / DATA).is_file() else data
